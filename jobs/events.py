"""What happened to a job, in order, for those who come back: a stream per job, gone soon after its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from jobs import keys

_PAGE = 100


@dataclass(frozen=True)
class JobEvent:
    """One event.

    Attributes:
        id: Position in the job's stream, "<ms>-<n>"; grows.
        kind: "status", "progress", "segment", "completed", "failed", "cancelled" or "deleted".
        detail: What is not in the job record, such as {"index": 7}.
    """

    id: str
    kind: str
    detail: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether no other comes after it, unless the job is tried again."""
        return self.kind in ("completed", "failed", "cancelled", "deleted")


async def read_events(client: redis.asyncio.Redis, job_id: str, *, after: str) -> AsyncIterator[JobEvent]:
    """Events after the one with id `after`, up to now."""
    reader: Any = client  # typed as the union of what any setting gives
    while True:
        page = await reader.xrange(keys.EVENTS(job_id), f"({after}", "+", count=_PAGE)
        for item in page:
            event = _event_of(item)
            after = event.id
            yield event
        if len(page) < _PAGE:
            return


async def newest_event(client: redis.asyncio.Redis, job_id: str) -> JobEvent | None:
    """The last event; None if none is kept."""
    reader: Any = client
    page = await reader.xrevrange(keys.EVENTS(job_id), count=1)
    return _event_of(page[0]) if page else None


async def first_kept(client: redis.asyncio.Redis, job_id: str) -> str | None:
    """Id of the oldest event that is kept; None if there is none."""
    reader: Any = client
    page = await reader.xrange(keys.EVENTS(job_id), count=1)
    return page[0][0].decode() if page else None


def _event_of(item: tuple[bytes, dict[bytes, bytes]]) -> JobEvent:
    event_id, fields = item
    return JobEvent(event_id.decode(), fields[b"type"].decode(), json.loads(fields[b"detail"]))
