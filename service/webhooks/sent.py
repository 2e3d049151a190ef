"""What customers' servers receive, for the API's description: nothing here is called."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header

from service.webhooks.schemas import BatchWebhook, JobWebhook

router = APIRouter(tags=["webhooks"], generate_unique_id_function=lambda route: route.name)

WebhookId = Annotated[
    str,
    Header(alias="webhook-id", description="Of the event; the same for each attempt: notice repeated ones."),
]
WebhookTimestamp = Annotated[
    str,
    Header(
        alias="webhook-timestamp",
        description="Seconds since 1970, of the attempt. Refuse what is older than five minutes.",
    ),
]
WebhookSignature = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description="`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body` with your secret; several, "
        "with a space between, while secrets change. One that fits is enough.",
    ),
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    "2XX": {"description": "Received."},
    410: {"description": "Nothing more to this address, for a day."},
    "default": {"description": "Anything else, or nothing within 15 seconds: it is sent again."},
}


async def _receive_job(
    body: JobWebhook, webhook_id: WebhookId, timestamp: WebhookTimestamp, signature: WebhookSignature
) -> None:
    """Signed by [Standard Webhooks](https://www.standardwebhooks.com), with your `/v1/webhooks/secret`."""


async def _receive_batch(
    body: BatchWebhook, webhook_id: WebhookId, timestamp: WebhookTimestamp, signature: WebhookSignature
) -> None:
    """Signed by [Standard Webhooks](https://www.standardwebhooks.com), with your `/v1/webhooks/secret`."""


for _event, _summary in {
    "job.started": "A job begins",
    "job.completed": "A job's result is there",
    "job.failed": "A job fails",
    "job.cancelled": "A job is cancelled",
    "job.delivered": "A result was delivered",
    "job.undelivered": "A result cannot be delivered",
    "batch.completed": "Nothing more is to come of a batch",
}.items():
    router.add_api_route(
        _event,
        _receive_batch if _event.startswith("batch.") else _receive_job,
        methods=["POST"],
        name=f"receive_{_event.replace('.', '_')}",
        summary=_summary,
        status_code=204,
        responses=_ANSWERS,
    )
