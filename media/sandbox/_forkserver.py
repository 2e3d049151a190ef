"""The process that forks sandboxed ones: small, single-threaded, with the modules they need already loaded.

Not multiprocessing's fork server: there is one of it in a process for everybody, it hands each child the
caller's environment and authentication key, and imports the caller's main module again, outside any limit.
This one starts with an environment free of secrets, so that none lies in the memory of the children either.

    python -m media.sandbox FD MODULE...

FD is a socket over which each request comes as one byte with descriptors: the child's channel, its lifeline,
and files to hand over. On the lifeline the child's exit status is sent, as `os.waitpid` gives it; when the
other end closes, the child is killed, and so are all when the socket closes.
"""

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Sequence
from importlib import import_module

from media.sandbox import _child
from media.sandbox._messages import LENGTH

REQUEST = b"f"
READY = b"r"
MAX_FILES = 4


def main(control: socket.socket, modules: Sequence[str]) -> None:
    """Serve until the caller is gone."""
    # The caller may have had signals blocked. A service manager that ends a service sends SIGTERM to all its
    # processes; the caller may want to finish what it reads, and this process ends with it anyway.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # or a collection in a child would write to, and so copy, all shared pages
    Server(control).run()


class Server:
    """Forks on request and tells how the children ended.

    Args:
        control: The socket on which requests come.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lifelines: dict[int, tuple[int, socket.socket]] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._wakeup, wakeup_write = socket.socketpair()
        for end in (self._wakeup, wakeup_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup_write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(self._wakeup, select.POLLIN)
        self._wakeup_write = wakeup_write

    def run(self) -> None:
        """Serve until the control socket closes; then end the children that are left."""
        try:
            self._control.sendall(READY)
            self._serve()
        finally:
            signal.set_wakeup_fd(-1)  # before the socket is gone
            for pid, _ in self._lifelines.values():
                os.kill(pid, signal.SIGKILL)

    def _serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    if not self._fork():
                        return
                elif fd == self._wakeup.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                elif fd in self._lifelines:
                    self._kill(fd)
            # Last, since it closes lifelines: a new one could take over the number of an old event.
            self._reap()

    def _fork(self) -> bool:
        """Serve one request; returns whether there was one."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, len(REQUEST), 2 + MAX_FILES)
        except ConnectionError:
            return False
        if not message:
            return False
        channel, lifeline, *files = descriptors
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child.run(channel, files, parent=parent)
        for fd in (channel, *files):
            os.close(fd)
        self._lifelines[lifeline] = (pid, socket.socket(fileno=lifeline))
        self._poll.register(lifeline, select.POLLIN)
        return True

    def _kill(self, lifeline: int) -> None:
        """The caller has let go. The child is not reaped yet, so its number is its own."""
        pid, _ = self._lifelines[lifeline]
        os.kill(pid, signal.SIGKILL)
        self._poll.unregister(lifeline)  # the end of the child will be noticed by its signal

    def _reap(self) -> None:
        while self._lifelines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            lifeline = next(fd for fd, (child, _) in self._lifelines.items() if child == pid)
            _, end = self._lifelines.pop(lifeline)
            with contextlib.suppress(KeyError):
                self._poll.unregister(lifeline)
            with contextlib.suppress(OSError):
                end.sendall(LENGTH.pack(status))
            end.close()
