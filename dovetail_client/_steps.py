"""The steps that flows consist of.

A flow is a generator: it yields a step, is sent what came of it, and returns its result. It never touches
a socket or a clock, so that one flow serves the synchronous and the asynchronous client, which differ only in
the driver that performs the steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")

REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


@dataclass(frozen=True)
class Call:
    """A request whose answer is small.

    Attributes:
        path: Below the base URL.
        params: Query, names may repeat.
        json: Body as JSON value, or
        content: as bytes. A `bytearray` is sent in pieces, and its maker may clear it afterwards: libraries
            keep requests in reference cycles, and with them the memory of their bodies.
        is_repeatable: Whether it may be sent again when nobody knows what became of it; None decides by the
            method and Idempotency-Key.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | bytearray | None = None
    is_repeatable: bool | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether a repetition cannot do anything twice."""
        if self.is_repeatable is not None:
            return self.is_repeatable
        return self.method in REPEATABLE_METHODS or "Idempotency-Key" in self.headers

    def body(self) -> tuple[bytes | bytearray | None, dict[str, str]]:
        """The bytes to send and all headers."""
        headers = dict(self.headers)
        if self.json is None:
            if isinstance(self.content, bytearray):
                headers["Content-Length"] = str(len(self.content))
            return self.content, headers
        headers["Content-Type"] = "application/json"
        return json.dumps(self.json).encode(), headers


@dataclass(frozen=True)
class Answer:
    """An answer, whatever its status.

    Attributes:
        num_attempts: How often the request was sent.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    num_attempts: int = 1


@dataclass(frozen=True)
class Open:
    """Sends a request whose answer is read piece by piece.

    Attributes:
        chunk_size: Bytes to gather before a piece is handed out; None hands out what comes.
    """

    call: Call
    read_timeout_seconds: float
    chunk_size: int | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """An answer whose body is still to be read."""

    status: int
    headers: httpx.Headers


@dataclass(frozen=True)
class Read:
    """Reads the next piece: bytes, empty at the end."""

    stream: Opened


@dataclass(frozen=True)
class Close:
    """Ends reading early. All that is still open when a flow ends is closed anyway."""

    stream: Opened


@dataclass(frozen=True)
class Sleep:
    """Waits."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Calls a function that takes time (files, digests); off the event loop where there is one."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Emit:
    """Hands a value to whoever iterates."""

    value: Any


Step = Call | Open | Read | Close | Sleep | Work | Emit
Flow = Generator[Step, Any, T]


@dataclass(frozen=True)
class Finished(Generic[T]):
    """The flow has returned."""

    value: T


@dataclass(frozen=True)
class Outcome:
    """What came of a step."""

    value: Any = None
    error: Exception | None = None


def advance(flow: Flow[T], outcome: Outcome) -> Step | Finished[T]:
    """Tells a flow what came of its last step.

    Returns:
        Its next step, or its result.
    """
    try:
        return flow.send(outcome.value) if outcome.error is None else flow.throw(outcome.error)
    except StopIteration as stop:
        return Finished(stop.value)


def send(call: Call) -> Flow[Answer]:
    """Sends a request; the driver repeats it where that helps and does no harm."""
    answer: Answer = yield call
    return answer


def open_stream(step: Open) -> Flow[Opened]:
    """Sends a request and reads only the head of its answer."""
    opened: Opened = yield step
    return opened


def read(stream: Opened) -> Flow[bytes]:
    """The next piece of a body, empty at the end."""
    chunk: bytes = yield Read(stream)
    return chunk


def work(function: Callable[[], T]) -> Flow[T]:
    """What a slow function returns."""
    result: T = yield Work(function)
    return result
