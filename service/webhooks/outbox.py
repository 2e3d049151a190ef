"""Events on their way to customers, kept until they are delivered."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from jobs.records import WebhookTarget
from service.context import ServiceContext
from service.tasks import enqueue_task

QUEUE, TASK = "webhooks", "deliver_webhook"
# Longer than all attempts take together. Set in one step with what is written: a process that dies in between
# would leave the record for ever.
_KEPT = timedelta(days=3)
_DISABLED = timedelta(days=1)


class Delivery(BaseModel):
    """One event for one receiver.

    Attributes:
        id: The `webhook-id`: the same for every attempt.
        owner: Whose event it is.
        url: Where it goes.
        event: Its type.
        body: What is posted.
        at_ms: When it happened, in milliseconds since 1970; 0 where an earlier version wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    owner: str
    url: str
    event: str
    body: str
    at_ms: int = 0


class WebhookEvent(BaseModel):
    """The body of a webhook."""

    type: str
    timestamp: datetime
    data: dict[str, Any]


def wants(target: WebhookTarget | None, event: str) -> bool:
    """Whether a receiver asked for events of this type."""
    return target is not None and (not target.events or event in target.events)


async def send(
    context: ServiceContext,
    target: WebhookTarget,
    *,
    owner: str,
    event: str,
    subject_id: str,
    at_ms: int,
    data: dict[str, Any],
) -> str:
    """Puts an event on its way. Harmless when repeated: the same event has the same id.

    Args:
        context: Of the process.
        target: Where it goes.
        owner: Whose it is.
        event: Its type, such as "job.completed".
        subject_id: Of the job or batch.
        at_ms: When it happened, in milliseconds since 1970; tells this event from the next of its type.
        data: The job or batch.

    Returns:
        The `webhook-id`.
    """
    delivery_id = f"msg_{subject_id}_{event.rpartition('.')[2]}_{at_ms}"
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    body = WebhookEvent(type=event, timestamp=at, data=data).model_dump_json()
    delivery = Delivery(id=delivery_id, owner=owner, url=target.url, event=event, body=body, at_ms=at_ms)
    client: Any = context.async_client
    async with client.pipeline() as pipeline:
        # What was written first stays: a receiver that gets the event twice gets the same bytes.
        pipeline.hsetnx(_key(delivery_id), "content", delivery.model_dump_json())
        pipeline.expire(_key(delivery_id), _KEPT)
        await pipeline.execute()
    await run_in_threadpool(enqueue, context, delivery)
    return delivery_id


def enqueue(context: ServiceContext, delivery: Delivery, *, delay: timedelta = timedelta()) -> None:
    """Asks for an attempt to be made. Blocking."""
    enqueue_task(context, QUEUE, TASK, delivery.id, owner=delivery.owner, delay=delay)


async def load(context: ServiceContext, delivery_id: str) -> Delivery | None:
    """A delivery; None if it is done or too old."""
    client: Any = context.async_client
    content = await client.hget(_key(delivery_id), "content")
    return Delivery.model_validate_json(content) if content else None


async def count_attempt(context: ServiceContext, delivery_id: str) -> int:
    """Counts an attempt that failed; returns how many did so far."""
    client: Any = context.async_client
    async with client.pipeline() as pipeline:
        pipeline.hincrby(_key(delivery_id), "attempts", 1)
        pipeline.expire(_key(delivery_id), _KEPT)
        count, _ = await pipeline.execute()
    return int(count)


async def close(context: ServiceContext, delivery_id: str, outcome: str) -> None:
    """Ends a delivery. The record stays without its body, so that a repeated message is not sent again."""
    client: Any = context.async_client
    async with client.pipeline() as pipeline:
        pipeline.hset(_key(delivery_id), mapping={"outcome": outcome, "content": ""})
        pipeline.expire(_key(delivery_id), _KEPT)
        await pipeline.execute()


async def disable(context: ServiceContext, delivery: Delivery) -> None:
    """Sends this owner's events no longer to this address, for a day."""
    client: Any = context.async_client
    await client.set(_disabled_key(delivery), b"1", ex=_DISABLED)


async def is_disabled(context: ServiceContext, delivery: Delivery) -> bool:
    """Whether the address said that it wants no more."""
    client: Any = context.async_client
    return bool(await client.exists(_disabled_key(delivery)))


def _key(delivery_id: str) -> str:
    return f"dv:webhook:{delivery_id}"


def _disabled_key(delivery: Delivery) -> str:
    digest = hashlib.sha256(f"{delivery.owner} {delivery.url}".encode()).hexdigest()
    return f"dv:webhooks:disabled:{digest}"
