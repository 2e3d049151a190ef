"""What happened to a job, in order, kept for those who come back: one Redis stream per job."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio

CHANNEL = "dv:events"
"""Pub/sub channel on which the id of a job is published with each of its events."""
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


def stream_key(job_id: str) -> str:
    """Name of a job's stream."""
    return f"dv:events:{job_id}"


async def read_events(client: redis.asyncio.Redis, job_id: str, *, after: str) -> AsyncIterator[JobEvent]:
    """Events after the one with id `after` ("0" for all that are kept), up to now."""
    reader: Any = client  # typed as the union of what any setting gives
    while True:
        page = await reader.xrange(stream_key(job_id), f"({after}" if after != "0" else "-", "+", count=_PAGE)
        for event_id, fields in page:
            after = event_id.decode()
            yield JobEvent(after, fields[b"type"].decode(), json.loads(fields[b"detail"]))
        if len(page) < _PAGE:
            return


async def first_kept(client: redis.asyncio.Redis, job_id: str) -> str | None:
    """Id of the oldest event that is kept; None if there is none."""
    reader: Any = client
    page = await reader.xrange(stream_key(job_id), count=1)
    return page[0][0].decode() if page else None
