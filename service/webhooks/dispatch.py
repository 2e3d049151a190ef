"""From what happened to jobs to deliveries.

The store notes a transition in `dv:webhooks:pending` in the same step in which it happens. Here it becomes a
delivery, and only then the note goes: whoever is killed in between, the event is not lost, and a repeated one
has the same id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

from jobs import keys
from jobs.errors import JobNotFoundError
from jobs.records import JobState
from service.batches.settling import settle_batch
from service.context import ServiceContext
from service.repeating import leading
from service.tasks import TaskKind, running_tasks
from service.webhooks import outbox, secrets
from service.webhooks.delivery import NUM_SENDERS, Sender
from service.webhooks.telling import tell_of_job

_log = structlog.get_logger(__name__)
_PERIOD_SECONDS = 0.5
_PAGE = 100
_EVENTS = {
    JobState.IN_PROGRESS: "job.started",
    JobState.COMPLETED: "job.completed",
    JobState.FAILED: "job.failed",
    JobState.CANCELLED: "job.cancelled",
}
# KEYS: pending. ARGV: member, score. The same transition may have happened again meanwhile.
_REMOVE = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
"""


@asynccontextmanager
async def running_webhooks(context: ServiceContext) -> AsyncIterator[None]:
    """Tells customers what happens while the block runs."""
    secrets.check_settings(context.settings)  # a wrong one shows at the start
    sender = Sender(context)
    async with (
        running_tasks(context, [TaskKind(outbox.QUEUE, outbox.TASK, sender.deliver, NUM_SENDERS)]),
        leading(
            context.client,
            "webhooks.dispatch",
            lambda: dispatch_pending(context),
            seconds=_PERIOD_SECONDS,
        ),
    ):
        yield


async def dispatch_pending(context: ServiceContext) -> int:
    """Makes deliveries of noted transitions. Harmless where another process is doing so.

    Returns:
        How many notes were worked off.
    """
    client: Any = context.async_client
    notes = await client.zrange(keys.WEBHOOKS_PENDING(), 0, _PAGE - 1, withscores=True)
    for member, score in notes:
        try:
            await _dispatch(context, member.decode(), int(score))
        except (ValueError, KeyError) as error:
            # A note or record that this version cannot read must not hold up all others.
            _log.error("webhook.unreadable_note", note=member.decode(), error=str(error))
        await client.eval(_REMOVE, 1, keys.WEBHOOKS_PENDING(), member, str(int(score)))
    return len(notes)


async def _dispatch(context: ServiceContext, member: str, at_ms: int) -> None:
    subject_id, _, word = member.partition(" ")
    try:
        job = await context.reader.get(subject_id)
    except JobNotFoundError:
        # Deleted: whoever did that knows.
        return
    await tell_of_job(context, job, _EVENTS[JobState(word)], at_ms=at_ms)
    if job.spec.batch_id is not None:
        await settle_batch(context, job.spec.batch_id)
