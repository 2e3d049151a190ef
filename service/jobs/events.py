"""Following a job: what is kept of its events, then news as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from jobs.errors import JobNotFoundError
from jobs.events import JobEvent, first_kept, read_events
from service.context import ServiceContext
from service.jobs.schemas import JobSchema

# Also looked at without a wake-up: pub/sub forgets what is sent while it is not connected.
_LOOK_SECONDS = 5.0

FollowedEvent = tuple[str, str, datetime, dict[str, Any], JobSchema | None]
"""(id, kind, time, detail, job as it is now)."""


async def job_events(
    context: ServiceContext, job_id: str, owner: str, last_event_id: str | None
) -> AsyncIterator[FollowedEvent]:
    """Events of a job from `last_event_id` on, until its final one.

    A newcomer gets the state of things at once, instead of history.
    """
    client = context.async_client
    with context.events.subscription(job_id) as news:
        if last_event_id:
            after = last_event_id
            oldest = await first_kept(client, job_id)
            if oldest is not None and _position(oldest) > _position(after):
                # The event that was seen last is gone, and perhaps others after it.
                yield await _describe(context, owner, job_id, JobEvent(oldest, "reset", {}))
        else:
            after, newest = "0", None
            async for newest in read_events(client, job_id, after="0"):
                after = newest.id
            if newest is not None:
                first = newest if newest.is_final else JobEvent(newest.id, "status", {})
                yield await _describe(context, owner, job_id, first)
                if first.is_final:
                    return
        while True:
            news.clear()
            async for event in read_events(client, job_id, after=after):
                after = event.id
                yield await _describe(context, owner, job_id, event)
                if event.is_final and await _has_ended(context, job_id):
                    return
            if last_event_id and await _has_ended(context, job_id):
                return
            try:
                await asyncio.wait_for(news.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue


async def _describe(context: ServiceContext, owner: str, job_id: str, event: JobEvent) -> FollowedEvent:
    at = datetime.fromtimestamp(_position(event.id)[0] / 1000, UTC)
    try:
        job = await context.reader.get(job_id, owner=owner)
    except JobNotFoundError:
        return event.id, event.kind, at, event.detail, None
    schema = JobSchema.of(job, await context.reader.queue_position(job))
    return event.id, event.kind, at, event.detail, schema


async def _has_ended(context: ServiceContext, job_id: str) -> bool:
    """Whether there will be no more: an older final event may be followed by a retry."""
    try:
        return (await context.reader.get(job_id)).state.is_final
    except JobNotFoundError:
        return True


def _position(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
