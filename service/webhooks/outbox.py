"""Events on their way to customers, kept until they are delivered."""

from __future__ import annotations

import hashlib
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from jobs import keys
from jobs.specs import WebhookTarget
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
        at_ms: When it happened, or was last asked for again, in milliseconds since 1970; 0 where an earlier
            version wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    owner: str
    url: str
    event: str
    body: str
    at_ms: int = 0


class DeliveryState(StrEnum):
    """What has become of an event."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True)
class DeliveryRecord:
    """An event, and what has become of it.

    Attributes:
        delivery: The event.
        state: Of the delivery.
        attempts: That were made.
        last_outcome: Status of the last answer, or the kind of failure; None before the first attempt.
        last_attempt_at: UTC.
    """

    delivery: Delivery
    state: DeliveryState
    attempts: int
    last_outcome: str | None
    last_attempt_at: datetime | None


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
        pipeline.hsetnx(keys.WEBHOOK(delivery_id), "content", _packed(delivery))
        pipeline.expire(keys.WEBHOOK(delivery_id), _KEPT)
        pipeline.sadd(keys.WEBHOOKS_OF(subject_id), delivery_id)
        pipeline.expire(keys.WEBHOOKS_OF(subject_id), _KEPT)
        await pipeline.execute()
    await run_in_threadpool(enqueue, context, delivery)
    return delivery_id


def enqueue(context: ServiceContext, delivery: Delivery, *, delay: timedelta = timedelta()) -> None:
    """Asks for an attempt to be made. Blocking."""
    enqueue_task(context, QUEUE, TASK, delivery.id, owner=delivery.owner, delay=delay)


async def find(context: ServiceContext, delivery_id: str) -> DeliveryRecord | None:
    """What is known of a delivery; None if it is too old, or was never made."""
    client: Any = context.async_client
    found = await client.hgetall(keys.WEBHOOK(delivery_id))
    content = found.get(b"content")
    if not content:
        return None
    last, at_ms = found.get(b"last"), found.get(b"last_ms")
    return DeliveryRecord(
        delivery=_unpacked(content),
        state=DeliveryState(found.get(b"outcome", b"pending").decode()),
        attempts=int(found.get(b"attempts", 0)),
        last_outcome=None if last is None else last.decode(),
        last_attempt_at=None if at_ms is None else datetime.fromtimestamp(int(at_ms) / 1000, UTC),
    )


async def find_all(context: ServiceContext, subject_id: str) -> list[DeliveryRecord]:
    """Deliveries of a job or batch, the oldest first."""
    client: Any = context.async_client
    ids = [item.decode() for item in await client.smembers(keys.WEBHOOKS_OF(subject_id))]
    found = [record for item in ids if (record := await find(context, item)) is not None]
    return sorted(found, key=lambda record: record.delivery.at_ms)


async def load(context: ServiceContext, delivery_id: str) -> Delivery | None:
    """A delivery that is under way; None if it is done or too old."""
    found = await find(context, delivery_id)
    return None if found is None or found.state is not DeliveryState.PENDING else found.delivery


async def count_attempt(context: ServiceContext, delivery_id: str, outcome: str) -> int:
    """Notes an attempt.

    Args:
        context: Of the process.
        delivery_id: Of the delivery.
        outcome: Status of the answer, or the kind of failure.

    Returns:
        How many there were so far.
    """
    client: Any = context.async_client
    noted = {"last": outcome, "last_ms": int(time.time() * 1000)}
    async with client.pipeline() as pipeline:
        pipeline.hincrby(keys.WEBHOOK(delivery_id), "attempts", 1)
        pipeline.hset(keys.WEBHOOK(delivery_id), mapping=noted)
        pipeline.expire(keys.WEBHOOK(delivery_id), _KEPT)
        count, *_ = await pipeline.execute()
    return int(count)


async def close(context: ServiceContext, delivery_id: str, outcome: DeliveryState) -> None:
    """Ends a delivery. The record stays, so that a repeated message is not sent again."""
    client: Any = context.async_client
    async with client.pipeline() as pipeline:
        pipeline.hset(keys.WEBHOOK(delivery_id), "outcome", outcome)
        pipeline.expire(keys.WEBHOOK(delivery_id), _KEPT)
        pipeline.hincrby(keys.WEBHOOKS_ENDED(), outcome, 1)
        await pipeline.execute()


async def reopen(context: ServiceContext, delivery: Delivery) -> None:
    """Puts an event on its way once more, with all its attempts before it, also to an address that wanted no
    more."""
    client: Any = context.async_client
    again = delivery.model_copy(update={"at_ms": int(time.time() * 1000)})
    async with client.pipeline() as pipeline:
        pipeline.hset(keys.WEBHOOK(delivery.id), "content", _packed(again))
        pipeline.hdel(keys.WEBHOOK(delivery.id), "outcome", "attempts")
        pipeline.expire(keys.WEBHOOK(delivery.id), _KEPT)
        pipeline.delete(_disabled_key(delivery))
        await pipeline.execute()
    await run_in_threadpool(enqueue, context, delivery)


async def disable(context: ServiceContext, delivery: Delivery) -> None:
    """Sends this owner's events no longer to this address, for a day."""
    client: Any = context.async_client
    await client.set(_disabled_key(delivery), b"1", ex=_DISABLED)


async def is_disabled(context: ServiceContext, delivery: Delivery) -> bool:
    """Whether the address said that it wants no more."""
    client: Any = context.async_client
    return bool(await client.exists(_disabled_key(delivery)))


def _packed(delivery: Delivery) -> bytes:
    """As it is kept: bodies are most of what Redis has of a job with a webhook, and a third of their size."""
    return zlib.compress(delivery.model_dump_json().encode())


def _unpacked(content: bytes) -> Delivery:
    is_plain = content.startswith(b"{")  # of an earlier version
    return Delivery.model_validate_json(content if is_plain else zlib.decompress(content))


def _disabled_key(delivery: Delivery) -> str:
    digest = hashlib.sha256(f"{delivery.owner} {delivery.url}".encode()).hexdigest()
    return keys.WEBHOOKS_DISABLED(digest)
