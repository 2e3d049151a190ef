"""A job's events as they come, over connections that may break."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from dovetail_client._api import Api
from dovetail_client._retries import is_temporary
from dovetail_client.errors import ConnectionFailedError, DovetailError, UnexpectedAnswerError
from dovetail_client.models import JobEvent

# The service says every 15 s that it is there; three missed ones mean a dead connection.
SILENCE_SECONDS = 45.0

FINAL_TYPES = frozenset({"completed", "failed", "cancelled"})


async def job_events(api: Api, job_id: str, *, last_event_id: str | None) -> AsyncGenerator[JobEvent, None]:
    """A job's events until a final one."""
    async with aclosing(listen(api, job_id, last_event_id=last_event_id)) as signs:
        async for event in signs:
            if event is not None:
                yield event


async def listen(
    api: Api, job_id: str, *, last_event_id: str | None = None
) -> AsyncGenerator[JobEvent | None, None]:
    """A job's events until a final one, and None for every other sign that the service lives. After a broken
    connection it goes on with what was missed.

    Raises:
        DovetailError: If the events cannot be had.
    """
    patience = api.patience()
    while True:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        try:
            async with api.open(
                "GET", f"/v1/jobs/{job_id}/events", headers=headers, read_seconds=SILENCE_SECONDS
            ) as (answer, chunks):
                kind = answer.headers.get("Content-Type", "")
                if kind.partition(";")[0].strip() != "text/event-stream":
                    raise UnexpectedAnswerError(f"expected a stream of events, received {kind or 'no type'}")
                decoder = EventDecoder()
                async for chunk in chunks:
                    yield None
                    for event in decoder.feed(chunk):
                        last_event_id = event.id or last_event_id
                        patience.renew()
                        yield event
                        if event.type in FINAL_TYPES:
                            return
            raise ConnectionFailedError("the stream of events ends too early")
        except DovetailError as error:
            if not is_temporary(error):
                raise
            await patience.bear(error)
        yield None


class EventDecoder:
    """Decodes `text/event-stream` from pieces of any size.

    Libraries for it keep comments to themselves, and a comment is how the service says that it lives.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[JobEvent]:
        """Yields the events that a piece completes.

        Raises:
            UnexpectedAnswerError: If one cannot be read.
        """
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.decode(errors="replace").split("\n"):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                is_next_line = name == "data" and name in fields
                fields[name] = f"{fields[name]}\n{value}" if is_next_line else value
            self._id = fields.get("id", self._id)
            if "data" in fields:
                yield _to_event(self._id, fields.get("event", "message"), fields["data"])


def _to_event(event_id: str, kind: str, data: str) -> JobEvent:
    try:
        return JobEvent.model_validate({**json.loads(data), "id": event_id, "type": kind})
    except (ValueError, TypeError) as error:
        raise UnexpectedAnswerError(f"cannot read the event {kind!r}: {data[:200]!r}") from error
