"""One attempt to deliver an event: checked address, signed body, bounded time."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from starlette.concurrency import run_in_threadpool

from jobs.messages import retry_delay
from service.context import ServiceContext
from service.outgoing import PinnedTransport, SourceRefusedError
from service.tasks import LaterError
from service.webhooks import outbox
from service.webhooks.breaker import CircuitBreaker, receiver_of
from service.webhooks.outbox import Delivery, DeliveryState
from service.webhooks.secrets import signers

_log = structlog.get_logger(__name__)
_TOTAL_SECONDS = 15.0
_CONNECT_SECONDS = 3.0
# 1 s, 4 s, 16 s, ... 6 h: a receiver that restarts hears soon, one that is down for a night still hears.
# The usual 10 attempts span about 13 hours.
_FIRST_DELAY, _FACTOR, _LONGEST_DELAY = timedelta(seconds=1), 4, timedelta(hours=6)
# An event that found its receiver's breaker open each time ends here.
_LONGEST_WAIT = timedelta(days=1)
NUM_SENDERS = 16
# Of the senders of a process: one slow host, or one customer with many of them, leaves the others to others.
MOST_OF_RECEIVER, MOST_OF_OWNER = 2, 4
# Until a sender may be free.
_BUSY_SECONDS = 1.0, 5.0


class Sender:
    """Makes attempts at deliveries; one for a process.

    Args:
        context: Of the process.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._breaker = CircuitBreaker(context.async_client)
        self._under_way: Counter[str] = Counter()

    async def deliver(self, context: ServiceContext, delivery_id: str) -> None:
        """Makes one attempt, or puts it off.

        Raises:
            LaterError: If it failed and there will be another.
        """
        delivery = await outbox.load(context, delivery_id)
        if delivery is None:
            return
        if await outbox.is_disabled(context, delivery):
            await outbox.close(context, delivery.id, DeliveryState.DISABLED)
            return
        receiver = receiver_of(delivery.owner, delivery.url)
        with self._taken(delivery.owner, receiver) as is_free:
            pause = await self._breaker.pause_seconds(receiver) if is_free else random.uniform(*_BUSY_SECONDS)
            if pause > 0:
                await _put_off(context, delivery, pause)
                return
            outcome = await _post(context, delivery)
            if _is_failure(outcome):
                await self._breaker.failed(receiver)
            else:
                await self._breaker.succeeded(receiver)
        await _settle(context, delivery, outcome)

    @contextmanager
    def _taken(self, owner: str, receiver: str) -> Iterator[bool]:
        """Takes one of the senders for a `with` block, and tells whether there was one."""
        names = (owner, receiver)
        is_free = self._under_way[owner] < MOST_OF_OWNER and self._under_way[receiver] < MOST_OF_RECEIVER
        if is_free:
            self._under_way.update(names)
        try:
            yield is_free
        finally:
            if is_free:
                self._under_way.subtract(names)
                for name in names:
                    if not self._under_way[name]:
                        del self._under_way[name]


async def _put_off(context: ServiceContext, delivery: Delivery, seconds: float) -> None:
    """Not by `Retry`: a message has only so many."""
    if delivery.at_ms and time.time() * 1000 - delivery.at_ms > _LONGEST_WAIT.total_seconds() * 1000:
        await outbox.close(context, delivery.id, DeliveryState.FAILED)
        _log.error("webhook.given_up", webhook_id=delivery.id, url=delivery.url, outcome="never reached")
        return
    delay = timedelta(seconds=seconds * random.uniform(1, 1.25))
    await run_in_threadpool(outbox.enqueue, context, delivery, delay=delay)


async def _settle(context: ServiceContext, delivery: Delivery, outcome: str) -> None:
    """Decides what becomes of an event after an attempt.

    Raises:
        LaterError: If there will be another.
    """
    log = _log.bind(webhook_id=delivery.id, url=delivery.url)
    attempts = await outbox.count_attempt(context, delivery.id, outcome)
    if outcome.isdigit() and 200 <= int(outcome) < 300:
        await outbox.close(context, delivery.id, DeliveryState.DELIVERED)
        log.info("webhook.delivered", status=outcome)
        return
    if outcome == "410":
        await outbox.disable(context, delivery)
        await outbox.close(context, delivery.id, DeliveryState.DISABLED)
        log.warning("webhook.disabled")
        return
    if attempts >= context.settings.webhook_max_attempts:
        await outbox.close(context, delivery.id, DeliveryState.FAILED)
        log.error("webhook.given_up", attempts=attempts, outcome=outcome)
        return
    delay = retry_delay(attempts, first=_FIRST_DELAY, factor=_FACTOR, longest=_LONGEST_DELAY)
    # Spread, so that a receiver that comes back is not met by everybody at once.
    delay *= random.uniform(0.75, 1.25)
    log.warning("webhook.failed", attempts=attempts, outcome=outcome, next_seconds=delay.total_seconds())
    raise LaterError(f"the receiver answered {outcome}", delay=delay)


def _is_failure(outcome: str) -> bool:
    """Whether the receiver is away, overloaded or broken, rather than of another opinion."""
    return not outcome.isdigit() or int(outcome) >= 500 or int(outcome) == 429


async def _post(context: ServiceContext, delivery: Delivery) -> str:
    """The status of the answer, or the kind of failure."""
    headers = await run_in_threadpool(_signed_headers, context, delivery)
    transport = PinnedTransport(allow_private=context.settings.allow_private_targets)
    timeout = httpx.Timeout(_TOTAL_SECONDS, connect=_CONNECT_SECONDS)
    async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                # Only the status counts; a body of any length is left unread. Redirects are not followed.
                async with client.stream(
                    "POST", delivery.url, content=delivery.body.encode(), headers=headers
                ) as answer:
                    return str(answer.status_code)
        except SourceRefusedError as error:
            return f"refused: {error}"
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return type(error).__name__


def _signed_headers(context: ServiceContext, delivery: Delivery) -> dict[str, str]:
    now = datetime.now(UTC)
    signatures = [signer.sign(delivery.id, now, delivery.body) for signer in signers(context, delivery.owner)]
    return {
        "Content-Type": "application/json",
        "User-Agent": "dovetail",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
