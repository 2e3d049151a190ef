"""What customers are told of their jobs."""

from __future__ import annotations

from jobs.records import Job
from service.context import ServiceContext
from service.jobs.schemas import JobSchema
from service.webhooks import outbox
from service.webhooks.links import with_absolute_links


async def tell_of_job(context: ServiceContext, job: Job, event: str, *, at_ms: int) -> None:
    """Sends an event with the job as it is now, if its customer wants it. Harmless to repeat.

    Args:
        context: Connections.
        job: Whose event.
        event: Its type.
        at_ms: When it happened, in milliseconds since 1970.
    """
    target = job.spec.webhook
    if target is None or not outbox.wants(target, event):
        return
    data = JobSchema.of(job, None).model_dump(mode="json")
    await outbox.send(
        context,
        target,
        owner=job.spec.owner,
        event=event,
        subject_id=job.id,
        at_ms=at_ms,
        data=with_absolute_links(data, context.settings.public_url),
    )
