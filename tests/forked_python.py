"""Python programs that tests start are forked from a process that has imported torch and the like already.

Importing takes seconds of processor time. After `install`, these are forked when `subprocess` starts them:

- `python -m` one of `MODULES` or `LEAVES`,
- `python -X forked -c CODE`: where a test asks for it.

All else begins as ever: other commands, those whose environment has other variables that are read early, and
everything inside `real_programs`. A forked program is a child of the process that started it, with
arguments, environment, folder, descriptors, session and signals of its own, and ends as programs do.

caller -> server (`python -m tests.forked_python`) -> a process that ends at once -> the program

The one in the middle makes the program an orphan, which the caller takes (PR_SET_CHILD_SUBREAPER). A program
that may start others has a server of its own, forked before it begins: later it could have threads.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import runpy
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]

MODULES = (
    "cli.main",
    "tests.service.api_process",
    "tests.workers.tasks.holder",
    "tests.workers.tasks.poisoned_worker",
)
# They start no programs, and one waits for any child.
LEAVES = ("workers.keeper", "media.sandbox")

_PRELOADED = (
    *("cli.upscale", "cli.serve", "cli.worker", "cli.keys", "cli.submit", "cli.models", "cli.pull"),
    *("service.app", "uvicorn", "jobs.embedded_redis", "workers.process", "workers.tasks.sound"),
    *("media.probing", "media.reader", "media.join", "media.sandbox._frames", "media.sandbox._pictures"),
)
# Variables that start so are read before a program's own code, by the system or by what it imports.
_READ_EARLY = (
    *("CUDA_VISIBLE", "HF_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_", "PROMETHEUS_"),
    "PYTHON",
)

# Of servers. No threads of OpenBLAS, which a fork would lose, and little address space for each of others: as
# sandboxed processes have it.
_SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

_SET_CHILD_SUBREAPER = 36
_MAX_MESSAGE, _MAX_FILES = 1 << 18, 64
_HIGH = 500  # descriptors from here on are in nobody's way
_ROOM = "-" * 4096  # where forks write their command lines, for /proc


@dataclass(frozen=True)
class Program:
    """What to start, as `subprocess` would have the system start it.

    Attributes:
        words: The command line.
        environment: All of it.
        folder: To work in.
        numbers: Of its descriptors.
        blocked_signals: Numbers.
        has_own_session: Whether it begins one.
        process_group: To be in; 0 is one of its own, -1 the caller's.
    """

    words: list[str]
    environment: dict[str, str]
    folder: str
    numbers: list[int]
    blocked_signals: list[int]
    has_own_session: bool
    process_group: int

    @property
    def options(self) -> list[str]:
        """Those of the interpreter."""
        return self.words[1 : self._position]

    @property
    def module(self) -> str | None:
        """The module to run; None where it is code."""
        return self.words[self._position + 1] if self.words[self._position] == "-m" else None

    @property
    def arguments(self) -> list[str]:
        """What follows the module or code."""
        return self.words[self._position + 2 :]

    @property
    def code(self) -> str:
        """What follows -c."""
        return self.words[self._position + 1]

    @property
    def _position(self) -> int:
        return next((n for n, word in enumerate(self.words[:-1]) if word in ("-m", "-c")), 0)

    def is_forkable(self, known: Mapping[str, str]) -> bool:
        """Whether a fork does as well, where modules were imported in a known environment."""
        if self.words[0] != sys.executable or self._position == 0:
            return False
        is_wanted = self.options == ["-X", "forked"]
        is_known = self.module in (*MODULES, *LEAVES) and self.options in ([], ["-P"])
        return (is_wanted or is_known) and _settled(self.environment) <= _settled(known)


def _settled(environment: Mapping[str, str]) -> set[tuple[str, str]]:
    return {
        (name, value)
        for name, value in environment.items()
        if name.startswith(_READ_EARLY) and name != "PYTHONPATH"  # which is followed
    }


class ForkServer:
    """A server that is a child of this process.

    Args:
        control: The way to it; it ends when this is closed.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control, self._lock = control, threading.Lock()

    @classmethod
    def start(cls) -> ForkServer:
        """One that begins with its imports."""
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            server = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(far.fileno()), _ROOM],
                env={**os.environ, **_SETTINGS, "PYTHONPATH": str(ROOT)},
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            server.returncode = 0  # nobody waits for it
        atexit.register(own.close)
        return cls(own)

    def begin(self, program: Program, files: Sequence[int]) -> int:
        """Has a program forked; its number.

        Args:
            program: What to start.
            files: Its descriptors, as they are numbered here.
        """
        message = json.dumps(asdict(program)).encode()
        with self._lock:
            _take_orphans(True)
            try:
                socket.send_fds(self._control, [message], files)
                pid = int(self._control.recv(100))
                self._control.recv(100)  # the one in the middle is gone
            finally:
                _take_orphans(False)
        return pid


class _Hook:
    """Stands for the function with which `subprocess` has the system start a program.

    Args:
        known: The environment in which the server imports.
        server: That is there already.
    """

    def __init__(self, known: Mapping[str, str], server: ForkServer | None = None) -> None:
        self.is_off = False
        self._known, self._server = known, server
        self._lock = threading.Lock()
        self._execute = subprocess._fork_exec

    def __call__(self, words: Sequence[Any], *how: Any) -> int:
        _, _, kept, folder, environment, *streams = how[:11]
        errors, _, has_own_session, group, *other_user, prepare = how[12:21]
        program = Program(
            words=[os.fsdecode(word) for word in words],
            environment=_as_dict(environment),
            folder=str(Path(os.fsdecode(folder or ".")).resolve()),
            numbers=[0, 1, 2, *(number for number in kept if number != errors)],
            blocked_signals=[int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            has_own_session=bool(has_own_session),
            process_group=group,
        )
        is_plain = (*other_user, prepare) == (None, None, None, -1, None)
        if self.is_off or not is_plain or not program.is_forkable(self._known):
            return int(self._execute(words, *how))
        with self._lock:
            self._server = self._server or ForkServer.start()
        given = zip((0, 1, 2), (streams[0], streams[3], streams[5]), strict=True)
        files = [number if file == -1 else file for number, file in given]
        return self._server.begin(program, [*files, *program.numbers[3:]])


def _as_dict(environment: Sequence[bytes] | None) -> dict[str, str]:
    if environment is None:
        return dict(os.environ)
    pairs = (os.fsdecode(line).partition("=") for line in environment)
    return {name: value for name, _, value in pairs}


def install() -> None:
    """From now on, in this process. The server begins with the first program."""
    _put(_Hook({**os.environ, **_SETTINGS}))


@contextmanager
def real_programs() -> Iterator[None]:
    """What this process starts in the block begins as ever, and so does what that starts."""
    hook = subprocess._fork_exec
    hook.is_off = True
    try:
        yield
    finally:
        hook.is_off = False


def _put(hook: _Hook) -> None:
    # A private name: there is no public one between `Popen`, which others patch and inherit from, and the
    # system. On a Python that has another, tests/test_forked_python.py fails.
    subprocess._fork_exec = hook


def _take_orphans(is_taker: bool) -> None:
    """Whether orphans of this process's children become its children."""
    if ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(is_taker), 0, 0, 0):
        raise OSError("the kernel does not give orphans away")


def main(control: socket.socket) -> None:
    """Serves; in each fork, is the program."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in _PRELOADED:
        import_module(module)
    gc.collect()
    gc.freeze()  # or a collection in a fork would write to, and so copy, all shared pages
    known = dict(os.environ)
    while True:
        program, files = _serve(control)
        _leave_group(program)
        if program.module in LEAVES:
            break
        own, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            control.close()
            with own:
                high = socket.socket(fileno=fcntl.fcntl(own, fcntl.F_DUPFD_CLOEXEC, _HIGH))
            _put(_Hook(known, ForkServer(high)))
            break
        own.close()
        _close(files)
    signal.signal(signal.SIGINT, interrupt)
    _become(program, files)
    try:
        _run(program)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        _end(end.code or 0)
    _end(0)


def _serve(control: socket.socket) -> tuple[Program, list[int]]:
    """Forks until nobody is there to ask for it. Returns in the program, with its descriptors."""
    while True:
        message, files, _, _ = socket.recv_fds(control, _MAX_MESSAGE, _MAX_FILES)
        if not message:
            os._exit(0)
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            if pid := os.fork():
                control.send(str(pid).encode())
                os._exit(0)
            control.close()
            while os.getppid() == middle:
                time.sleep(0.001)
            return Program(**json.loads(message)), files
        _close(files)
        os.waitpid(middle, 0)
        control.send(b"gone")


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _leave_group(program: Program) -> None:
    if program.has_own_session:
        os.setsid()
    if program.process_group >= 0:
        os.setpgid(0, program.process_group)


def _become(program: Program, files: Sequence[int]) -> None:
    """Makes this process the program, but for its code."""
    _show(program.words)
    os.environ.clear()
    os.environ.update(program.environment)
    time.tzset()
    os.chdir(program.folder)
    signal.pthread_sigmask(signal.SIG_SETMASK, program.blocked_signals)
    high = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _HIGH) for file in files]
    _close(files)
    for number, file in zip(program.numbers, high, strict=True):
        os.dup2(file, number)
    _close(high)


def _show(words: Sequence[str]) -> None:
    """In /proc, as far as there is room."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    shown = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, shown, len(shown))


def _run(program: Program) -> None:
    """Its code, as the interpreter runs it."""
    first = [] if "-P" in program.options else [program.folder if program.module else ""]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*first, *filter(None, paths), *sys.path[1:]]
    site.addsitedir(
        sysconfig.get_path("purelib")
    )  # what it names was left out where the server's path had it
    sys.argv, sys.orig_argv = ["-c", *program.arguments], list(program.words)
    if program.module is None:
        exec(compile(program.code, "<string>", "exec"), {"__name__": "__main__"})
        return
    if not hasattr(sys.modules.get(program.module), "__path__"):
        sys.modules.pop(program.module, None)  # others may have imported it, which the interpreter warns of
    runpy.run_module(program.module, run_name="__main__", alter_sys=True)


def _end(code: int) -> NoReturn:
    """As the interpreter does, but for giving back all that was imported: the system is quicker."""
    threading._shutdown()  # waits for threads, as the interpreter does by this very name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
