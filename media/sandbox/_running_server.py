"""The caller's side of the fork server: starts it, asks it for processes, ends it."""

import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence

from media.errors import SandboxError
from media.sandbox._environment import clean_environment
from media.sandbox._forkserver import READY, REQUEST

START_SECONDS = 120.0
"""Importing torch on a busy machine takes some ten seconds."""

_STOP_SECONDS = 5.0


class RunningForkServer:
    """The running fork server of one `Sandbox`.

    Raises:
        SandboxError: It does not start.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._control, far_control = socket.socketpair()
        with far_control:
            fd = far_control.fileno()
            # -P: the working directory is not to be imported from, unless this process does.
            command = [sys.executable, "-P", "-m", "media.sandbox", str(fd), *preload]
            self._process = subprocess.Popen(
                command,
                pass_fds=[fd],
                env=clean_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is for the caller, who then ends the server
            )
        self._stop = weakref.finalize(self, _stop_server, self._control, self._process, self._owner)
        self._control.settimeout(START_SECONDS)
        try:
            is_ready = self._control.recv(1) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            self.close()
            raise SandboxError("the fork server of the sandbox does not start; its own words are on stderr")

    def is_alive(self) -> bool:
        """Whether it can be asked; not where this process is a fork of the one that started it."""
        return os.getpid() == self._owner and self._process.poll() is None

    def request(self, descriptors: list[int]) -> bool:
        """Have a process forked; returns whether the server could be reached."""
        with self._lock:
            try:
                socket.send_fds(self._control, [REQUEST], descriptors)
            except OSError:
                return False
        return True

    def close(self) -> None:
        """End it and its children."""
        self._stop()


def _stop_server(control: socket.socket, process: "subprocess.Popen[bytes]", owner: int) -> None:
    control.close()
    if os.getpid() != owner:
        return
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
