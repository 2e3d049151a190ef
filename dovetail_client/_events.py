"""A job's events as they come, over connections that may break."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

from dovetail_client._answers import retry_after_seconds, to_error
from dovetail_client._calls import Call
from dovetail_client._http import Http, Opened
from dovetail_client._retries import TEMPORARY_STATUSES, backoff_seconds
from dovetail_client.errors import ConnectionFailedError, DovetailError, UnexpectedAnswerError
from dovetail_client.models import JobEvent

# The service says every 15 s that it is there; three missed ones mean a dead connection.
SILENCE_SECONDS = 45.0

FINAL_TYPES = frozenset({"completed", "failed", "cancelled"})


async def job_events(http: Http, job_id: str, *, last_event_id: str | None) -> AsyncGenerator[JobEvent, None]:
    """A job's events until a final one."""
    listener = Listener(http, job_id, last_event_id=last_event_id)
    try:
        while not listener.is_over:
            for event in await listener.receive():
                yield event
    finally:
        await listener.close()


class Listener:
    """Listens to a job; after a broken connection it goes on with what was missed. To be closed in the end.

    Attributes:
        last_event_id: Of the last event that was received.
        is_over: Whether a final event was received.
    """

    def __init__(self, http: Http, job_id: str, *, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.is_over = False
        self._path = f"/v1/jobs/{job_id}/events"
        self._http = http
        self._num_failures = 0
        self._stream: Opened | None = None
        self._decoder = EventDecoder()

    async def receive(self) -> list[JobEvent]:
        """Waits for the next sign of life.

        Returns:
            Events; none if the service only said that it is there, or the connection was made anew.

        Raises:
            DovetailError: If the events cannot be had.
        """
        try:
            if self._stream is None:
                await self._connect()
                return []
            chunk = await self._stream.read()
        except ConnectionFailedError as error:
            await self._pause(error, None)
            return []
        if not chunk:
            await self._pause(ConnectionFailedError("the stream of events ends too early"), None)
            return []
        return await self._take(chunk)

    async def _connect(self) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        self._stream = stream = await self._http.open(
            Call("GET", self._path, headers=headers), SILENCE_SECONDS
        )
        if stream.status in TEMPORARY_STATUSES:
            answer = await stream.whole()
            await self._pause(to_error(answer), retry_after_seconds(answer.headers))
            return
        if stream.status != 200:
            raise to_error(await stream.whole())
        kind = stream.headers.get("Content-Type", "")
        if kind.partition(";")[0].strip() != "text/event-stream":
            raise UnexpectedAnswerError(f"expected a stream of events, received {kind or 'no type'}")
        self._decoder = EventDecoder()

    async def _take(self, chunk: bytes) -> list[JobEvent]:
        events = []
        for raw in self._decoder.feed(chunk):
            event = _to_event(raw)
            self.last_event_id = raw.id or self.last_event_id
            self._num_failures = 0
            events.append(event)
            if event.type in FINAL_TYPES:
                self.is_over = True
                await self.close()
                break
        return events

    async def _pause(self, error: DovetailError, asked_seconds: float | None) -> None:
        await self.close()
        self._num_failures += 1
        if self._num_failures > self._http.patience:
            raise error
        await self._http.sleep(backoff_seconds(self._num_failures, asked_seconds))

    async def close(self) -> None:
        """Ends the connection."""
        if self._stream is not None:
            await self._stream.close()
        self._stream = None


@dataclass(frozen=True)
class RawEvent:
    """An event as the stream has it."""

    id: str
    type: str
    data: str


class EventDecoder:
    """Decodes `text/event-stream` from pieces of any size.

    Libraries for it keep comments to themselves, and a comment is how the service says that it lives.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[RawEvent]:
        """Yields the events that a piece completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = self._take(line.removesuffix(b"\r").decode(errors="replace"))
            if event is not None:
                yield event

    def _take(self, line: str) -> RawEvent | None:
        if not line:
            event = RawEvent(self._id, self._type or "message", "\n".join(self._data))
            is_empty, self._type, self._data = not self._data, "", []
            return None if is_empty else event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            self._id = value
        return None


def _to_event(raw: RawEvent) -> JobEvent:
    try:
        data: Any = json.loads(raw.data)
        return JobEvent.model_validate({**data, "id": raw.id, "type": raw.type})
    except (ValueError, TypeError) as error:
        raise UnexpectedAnswerError(f"cannot read the event {raw.type!r}: {raw.data[:200]!r}") from error
