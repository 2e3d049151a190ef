"""One attempt to deliver an event: checked address, signed body, bounded time."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from dramatiq.errors import Retry
from starlette.concurrency import run_in_threadpool

from service.context import ServiceContext
from service.outgoing import PinnedTransport, SourceRefusedError
from service.tasks import TaskKind, retry_delay
from service.webhooks import outbox
from service.webhooks.outbox import Delivery
from service.webhooks.secrets import signers

_log = structlog.get_logger(__name__)
_TOTAL_SECONDS = 20.0
_CONNECT_SECONDS = 5.0
# 1 s, 4 s, 16 s, ... 6 h: a receiver that restarts hears soon, one that is down for a night still hears.
# The usual 10 attempts span about 13 hours.
_FIRST_DELAY, _FACTOR, _LONGEST_DELAY = timedelta(seconds=1), 4, timedelta(hours=6)


async def deliver(context: ServiceContext, delivery_id: str) -> None:
    """Makes one attempt.

    Raises:
        Retry: If it failed and there will be another.
    """
    delivery = await outbox.load(context, delivery_id)
    if delivery is None:
        return
    log = _log.bind(webhook_id=delivery.id, url=delivery.url)
    if await outbox.is_disabled(context, delivery):
        await outbox.close(context, delivery.id, "disabled")
        return
    outcome = await _post(context, delivery)
    if outcome.isdigit() and 200 <= int(outcome) < 300:
        await outbox.close(context, delivery.id, "delivered")
        log.info("webhook.delivered", status=outcome)
        return
    if outcome == "410":
        await outbox.disable(context, delivery)
        await outbox.close(context, delivery.id, "disabled")
        log.warning("webhook.disabled")
        return
    attempts = await outbox.count_attempt(context, delivery.id)
    if attempts >= context.settings.webhook_max_attempts:
        await outbox.close(context, delivery.id, "failed")
        log.error("webhook.given_up", attempts=attempts, outcome=outcome)
        return
    delay = retry_delay(attempts, first=_FIRST_DELAY, factor=_FACTOR, longest=_LONGEST_DELAY)
    # Spread, so that a receiver that comes back is not met by everybody at once.
    delay *= random.uniform(0.75, 1.25)
    log.warning("webhook.failed", attempts=attempts, outcome=outcome, next_seconds=delay.total_seconds())
    raise Retry(f"the receiver answered {outcome}", delay=int(delay.total_seconds() * 1000))


DELIVER = TaskKind(outbox.QUEUE, outbox.TASK, deliver, num_threads=8)


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
    signatures = [signer.sign(delivery.id, now, delivery.body) for signer in signers(context.settings)]
    return {
        "Content-Type": "application/json",
        "User-Agent": "dovetail",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
