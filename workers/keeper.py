"""A small process beside a worker that keeps what the worker holds, as long as the worker lives.

Its leases and its message would run out while native code holds the interpreter's lock, or make everybody
wait for a minute after a kill. A process of its own is held up by nothing that the worker does, and sees its
end at once: it gives everything back then. A worker that is stopped (SIGSTOP) is not kept, nor one that says
nothing itself for long.

`python -m workers.keeper SECONDS` is that process; `Keeper` is the worker's side of it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
import structlog

from jobs.errors import JobsError
from workers.held import HELD_KINDS, Held, HeldMessage, HeldPlace

_log: Any = structlog.get_logger(__name__)

_READY = b"\n"
_PULSE_SECONDS = 1.0
_STOP_SECONDS = 5.0
_PARTS_OF_HOLD = 4


class Keeper:
    """Tells a process beside this one what is held, and starts it again where it dies. Thread-safe.

    Args:
        stall_timeout: After so long without a word from this process nothing is kept, although it runs.

    Raises:
        OSError: In `with`, if the process does not start.
    """

    def __init__(self, stall_timeout: timedelta) -> None:
        self._command = [sys.executable, "-P", "-m", "workers.keeper", str(stall_timeout.total_seconds())]
        self._held: dict[Held, None] = {}
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._has_ended = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._tell, name="dovetail-keeper", daemon=True)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        if self._process.stdout.read(1) != _READY:
            self._end()
            raise OSError("the keeper's process does not start; its own words are on stderr")
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended = True
        self._changed.set()
        self._thread.join()
        self._end()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @contextmanager
    def keeping(self, held: Held) -> Iterator[None]:
        """Keeps something while the block runs, and gives it back where this process dies in it."""
        self._change(held, is_held=True)
        try:
            yield
        finally:
            self._change(held, is_held=False)

    def _change(self, held: Held, *, is_held: bool) -> None:
        with self._lock:
            if is_held:
                self._held[held] = None
            else:
                self._held.pop(held, None)
        self._changed.set()

    def _start(self) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # a signal to the worker's group is for the worker
        )

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self) -> None:
        """Every second, and whenever something changes: each line says all, and that this process lives."""
        while not self._has_ended:
            self._changed.clear()
            try:
                self._write()
            except Exception:
                # Whatever it is: without this thread others would take this worker for dead.
                _log.warning("keeper.died", exc_info=True)
                self._restart()
            self._changed.wait(_PULSE_SECONDS)

    def _write(self) -> None:
        with self._lock:
            held = [(type(item).__name__, asdict(item)) for item in self._held]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(held).encode() + b"\n")

    def _restart(self) -> None:
        with suppress(OSError):
            self._end()
            self._process = self._start()
            self._write()


class _Watch:
    """The process's life: hears what a worker holds, keeps it, and gives it back when the worker has died."""

    def __init__(self, stall_seconds: float) -> None:
        self._worker, self._stall_seconds = os.getppid(), stall_seconds
        self._held: list[Held] = []
        self._unread = b""
        self._heard_at = time.monotonic()
        self._kept_at = float("-inf")  # where another one died before this, it is high time

    def run(self) -> None:
        """Until the worker has ended."""
        with suppress(BrokenPipeError):  # nobody is there any more
            os.write(sys.stdout.fileno(), _READY)
        while self._hear():
            now = time.monotonic()
            if self._held and now >= self._kept_at + self._interval:
                self._kept_at = now
                if self._lives():
                    for held in self._held:
                        _try(held.keep)
        # Leases first: whoever takes the message finds the task free.
        for held in sorted(self._held, key=lambda held: isinstance(held, HeldMessage)):
            _try(held.give_back)

    @property
    def _interval(self) -> float:
        return min((held.seconds for held in self._held), default=HeldPlace.seconds) / _PARTS_OF_HOLD

    def _hear(self) -> bool:
        """Waits for a word, or for the time to keep; whether the worker is there."""
        due = self._kept_at + self._interval - time.monotonic() if self._held else _PULSE_SECONDS
        if select.select([sys.stdin], [], [], max(0.0, due))[0]:
            found = os.read(sys.stdin.fileno(), 1 << 16)
            if not found:
                return False
            self._heard_at = time.monotonic()
            *lines, self._unread = (self._unread + found).split(b"\n")
            if lines:
                self._held = [HELD_KINDS[kind](**fields) for kind, fields in json.loads(lines[-1])]
        # Another process may have inherited the worker's end of the pipe.
        return os.getppid() == self._worker

    def _lives(self) -> bool:
        return time.monotonic() < self._heard_at + self._stall_seconds and not _is_stopped(self._worker)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by a signal or a debugger. Linux only; elsewhere its silence tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "Tt"


def _try(action: Any) -> None:
    # Not held any more, or Redis away: it runs out by itself.
    with suppress(JobsError, redis.RedisError):
        action()


if __name__ == "__main__":
    _Watch(float(sys.argv[1])).run()
