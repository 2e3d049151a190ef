"""Following a job: what is kept of its events, then news as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from jobs.errors import JobNotFoundError
from jobs.events import JobEvent, first_kept, newest_event, read_events
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
    async with context.events.subscription(job_id) as news:
        if last_event_id:
            after = last_event_id
            oldest = await first_kept(client, job_id)
            if oldest is not None and _position(oldest) > _position(after):
                # The event that was seen last is gone, and perhaps others after it.
                yield await _describe(context, owner, job_id, JobEvent(oldest, "reset", {}))
        else:
            after = "0-0"
            newest = await newest_event(client, job_id)
            if newest is not None:
                after = newest.id
                first = newest if newest.is_final else JobEvent(newest.id, "status", {})
                yield await _describe(context, owner, job_id, first)
        while True:
            news.clear()
            # First the end, then what has led to it: nothing comes between.
            has_ended, end = await _end_of(context, job_id)
            async for event in read_events(client, job_id, after=after):
                after = event.id
                yield await _describe(context, owner, job_id, event)
            if has_ended:
                if end is not None and _position(end.id) > _position(after):
                    yield await _describe(context, owner, job_id, end)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _LOOK_SECONDS)


async def _describe(context: ServiceContext, owner: str, job_id: str, event: JobEvent) -> FollowedEvent:
    at = datetime.fromtimestamp(_position(event.id)[0] / 1000, UTC)
    try:
        found = await context.reader.look(job_id, owner=owner)
    except JobNotFoundError:
        return event.id, event.kind, at, event.detail, None
    assert found.job is not None
    return event.id, event.kind, at, event.detail, JobSchema.of(found.job, found.queue_position)


async def _end_of(context: ServiceContext, job_id: str) -> tuple[bool, JobEvent | None]:
    """Whether there will be no more events, and the final one as the record tells it: those that are kept go
    soon after it. Its id comes before the one that it had."""
    try:
        job = await context.reader.get(job_id)
    except JobNotFoundError:
        return True, None
    if not job.state.is_final or job.completed_at is None:
        return False, None
    return True, JobEvent(f"{round(1000 * job.completed_at.timestamp())}-0", job.state.value, {})


def _position(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
