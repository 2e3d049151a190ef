"""What a process might do once an input has taken it over; run in the sandbox by the tests."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from media.errors import UnreadableInputError
from media.info import MediaInfo
from media.sandbox._child import CHANNEL, Port


def add(a: int, b: int) -> int:
    return a + b


def give(value: Any, *_: object, **__: object) -> Any:
    return value


def give_an_object() -> Any:
    return object()


def refuse(message: str) -> None:
    raise UnreadableInputError(message)


def fail() -> None:
    raise KeyError("surprise")


def read_what_is_there(path: Path) -> str:
    """As a demuxer that takes an error for the end of the file."""
    with contextlib.suppress(EOFError, OSError), path.open("rb") as file:
        file.read()
    return "read"


def abort() -> None:
    os.abort()


def die(*_: object, **__: object) -> None:
    os.abort()


def segfault() -> None:
    ctypes.string_at(0)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(status: int) -> None:
    os._exit(status)


def allocate(num_bytes: int) -> int:
    return len(bytearray(num_bytes))


def allocate_tensor(num_bytes: int) -> int:
    import torch

    return torch.ones(num_bytes, dtype=torch.uint8).numel()


def spin() -> None:
    while True:
        pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def answer(data: bytes) -> None:
    os.write(CHANNEL, data)
    time.sleep(600)


def announce_and_spin(port: Port) -> None:
    port.send("pids", os.getpid(), os.getppid())
    spin()


def open_socket(family: int) -> None:
    socket.socket(family, socket.SOCK_STREAM)


def make_socket_pair() -> None:
    socket.socketpair()


def use_the_channel_as_a_socket() -> None:
    socket.socket(fileno=os.dup(CHANNEL)).send(b"x")


def execute() -> None:
    os.execv("/bin/true", ["/bin/true"])


def spawn() -> None:
    os.posix_spawn("/bin/true", ["/bin/true"], {})


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def signal_parent() -> None:
    os.kill(os.getppid(), 0)


def signal_everybody() -> None:
    os.kill(-1, 0)


def trace_parent() -> None:
    ptrace_attach = 16
    _call("ptrace", ptrace_attach, os.getppid(), 0, 0)


def limit_parent() -> None:
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (16, 16))


def raise_memory_limit() -> None:
    unlimited = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))


def set_up_io_uring() -> None:
    parameters = ctypes.create_string_buffer(120)
    _raw_call(425, 1, ctypes.addressof(parameters))


def change_mode(path: str) -> None:
    Path(path).chmod(0o777)


def read_file(path: str) -> int:
    return len(Path(path).read_bytes())


def write_file(path: str, size: int = 1) -> int:
    return Path(path).write_bytes(bytes(size))


def write_path(path: Path) -> int:
    return path.write_bytes(b"x")


def environment() -> list[str]:
    """Names that it has, and began with: a process that gave up a user may not read the latter."""
    try:
        initial = Path("/proc/self/environ").read_bytes().decode().split("\0")
    except PermissionError:
        initial = []
    return [*os.environ, *(entry.partition("=")[0] for entry in initial)]


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it shows the one for the folder itself


def run_threads(count: int) -> int:
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done)


def core_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_CORE)[1]


def loaded_modules() -> list[str]:
    import sys

    return [name for name in ("av", "torch", "numpy") if name in sys.modules]


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*(ctypes.c_long(argument) for argument in arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _raw_call(number: int, *arguments: int) -> None:
    _call("syscall", number, *arguments)


# In the place of `send_frames`: (port, info, options, from_pts, entry, num_slots)


def announce_and_wait(port: Port, *_: object) -> None:
    time.sleep(600)


def announce_and_die(port: Port, *_: object) -> None:
    port.send("frame", 0, 0, 1, b"", [], [])
    kill_itself()


def announce_and_burn(port: Port, *_: object) -> None:
    spin()


def live_slowly(port: Port, *_: object) -> list[tuple[str, str]]:
    """More than two seconds of progress without a frame."""
    for _round in range(5):
        time.sleep(0.5)
        port._last_sign = float("-inf")
        port.show_life()
    return [("lived", "lived on")]


def send_frame_99(port: Port, *_: object) -> None:
    port.send("frame", 99, 0, 1, b"", [], [])


def send_frame_below_zero(port: Port, *_: object) -> None:
    port.send("frame", -1, 0, 1, b"", [], [])


def send_frame_of_text(port: Port, *_: object) -> None:
    port.send("frame", "0", 0, 1, b"", [], [])


def send_frame_at_no_tick(port: Port, *_: object) -> None:
    port.send("frame", 0, 0.5, 1, b"", [], [])


def send_notes_of_numbers(port: Port, *_: object) -> Any:
    return [(1, 2)]


def send_no_notes(port: Port, *_: object) -> Any:
    port.send("frame", 0, 0, 1, b"")


def send_entries_of_text(port: Port, *_: object) -> Any:
    port.send("frame", 0, 0, 1, b"", [], [("0", 1, 2, 3, 4)])


SEND_FRAME = {
    (99, 0, 1): send_frame_99,
    (-1, 0, 1): send_frame_below_zero,
    ("0", 0, 1): send_frame_of_text,
    (0, 0.5, 1): send_frame_at_no_tick,
}


def write_part_and_die(segments: object, destination: Path, *_: object) -> None:
    """In the place of `_join`."""
    destination.with_name(destination.name + ".part").write_bytes(b"half")
    abort()


def probe_and_point_elsewhere(path: Path, **options: Any) -> MediaInfo:
    """In the place of `_probe`."""
    from media.probing import probe

    return replace(probe(path, **options), path=Path("/etc/passwd"))


def wait_for_ever(*_: object, **__: object) -> None:
    """In the place of anything."""
    time.sleep(600)


# In the place of `_send_picture`: (port, path, limits)


def describe_nothing(*_: object) -> None:
    return None


def describe_a_picture_too_large(*_: object) -> tuple[Any, ...]:
    return (3, 1 << 20, 1 << 20, 8, False, None, b"")


def identity() -> list[str]:
    names = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return [line for line in lines if line.startswith(names)]


def leave_a_link(folder: Path, target: str) -> str | None:
    """Tries to have the caller read a file of its own in the place of a result."""
    try:
        (folder / "result").symlink_to(target)
    except OSError as error:
        return type(error).__name__
    return None
