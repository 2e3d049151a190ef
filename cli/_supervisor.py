"""Keeps the processes of `dovetail serve` running: starts them again when they die, stops them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# A process that keeps dying is started again after 0.5, 1, 2 ... 30 s; one that lived 10 s after 0.5 s.
_MIN_DELAY, _MAX_DELAY, _HEALTHY_SECONDS = 0.5, 30.0, 10.0
_LOOK_SECONDS = 0.2


@dataclass
class Child:
    """A process to keep running.

    Attributes:
        name: For messages.
        command: To start it.
        environment: For it.
        stop_seconds: How long it may take to end after SIGTERM.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_seconds: float
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started_at: float = field(default=0.0, init=False)
    _start_at: float = field(default=0.0, init=False)
    _delay: float = field(default=_MIN_DELAY, init=False)

    def look(self, say: Callable[[str], None]) -> None:
        """Starts it if it does not run and its time has come."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            code, self.process = self.process.returncode, None
            if now - self._started_at > _HEALTHY_SECONDS:
                self._delay = _MIN_DELAY
            self._start_at = now + self._delay
            say(f"the {self.name} {_describe_end(code)}; starting it again in {self._delay:g} s")
            self._delay = min(_MAX_DELAY, 2 * self._delay)
        if self.process is None and now >= self._start_at:
            # A session of its own: Ctrl-C reaches it through us, in the right order.
            self.process = subprocess.Popen(
                self.command, env=dict(self.environment), stdin=subprocess.DEVNULL, start_new_session=True
            )
            self._started_at = now

    def terminate(self) -> None:
        """Asks it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, look: Callable[[], None]) -> None:
        """Waits until it has ended; kills it when its time is over."""
        deadline = time.monotonic() + self.stop_seconds
        while self.process is not None and self.process.poll() is None:
            look()
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
            time.sleep(_LOOK_SECONDS)


class Supervisor:
    """Runs until SIGINT or SIGTERM.

    Args:
        children: In the order to stop them.
        keep_services: Called several times a second, also while children stop: keeps running what they need.
        say: Takes messages for people.
    """

    def __init__(
        self, children: Sequence[Child], *, keep_services: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._children, self._keep_services, self._say = children, keep_services, say
        self._stopping = threading.Event()
        self._num_signals = 0

    def run(self) -> None:
        """Starts everything, and returns when all of it has ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take_signal)
        try:
            while not self._stopping.wait(_LOOK_SECONDS):
                self._keep_services()
                for child in self._children:
                    child.look(self._say)
        finally:
            self._stop()

    def _stop(self) -> None:
        running = [child for child in self._children if child.process is not None]
        for child in running:
            child.terminate()
        for child in running:
            child.wait(self._look_while_stopping)

    def _look_while_stopping(self) -> None:
        self._keep_services()
        if self._num_signals > 1:
            for child in self._children:
                if child.process is not None and child.process.poll() is None:
                    child.process.kill()

    def _take_signal(self, number: int, frame: object) -> None:
        self._num_signals += 1
        self._stopping.set()
        if self._num_signals == 1:
            self._say("stopping: running segments are finished first; Ctrl-C again stops at once")


def python_command(*arguments: str) -> list[str]:
    """The command line of another `dovetail` command."""
    return [sys.executable, "-m", "cli.main", *arguments]


def child_environment(values: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with other values."""
    return {**os.environ, **values}


def _describe_end(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
