"""`/v1/webhooks`, and what was sent about a job or batch."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from service.auth import Caller, Reader, Writer
from service.batches.dependencies import OwnBatch
from service.context import Context, ServiceContext
from service.errors import NotFoundError
from service.jobs.dependencies import OwnJob
from service.jobs.requests import read_json, validate
from service.openapi import json_body
from service.problems import responses
from service.webhooks import outbox, secrets
from service.webhooks.outbox import DeliveryRecord
from service.webhooks.schemas import (
    DeliveryListSchema,
    DeliverySchema,
    RotationRequest,
    WebhookSecretSchema,
)

router = APIRouter(prefix="/v1", tags=["webhooks"])
_NO_STORE = "no-store"
DeliveryId = Annotated[
    str,
    Path(
        pattern=r"^msg_(job|batch)_[0-9a-z]{26}_[a-z]{1,20}_[0-9]{1,16}$",
        examples=["msg_job_01k9zq3v5n8w2c7m4t6y1x0abc_completed_1795262400000"],
        description="The `webhook-id` of an event.",
    ),
]


@router.get("/jobs/{job_id}/deliveries", summary="List a job's webhooks", responses=responses(404))
async def list_job_deliveries(job: OwnJob, context: Context) -> DeliveryListSchema:
    """What was sent about a job to its webhook, or is to be."""
    return await _list(context, job.id)


@router.get("/batches/{batch_id}/deliveries", summary="List a batch's webhooks", responses=responses(404))
async def list_batch_deliveries(batch: OwnBatch, context: Context) -> DeliveryListSchema:
    """What was sent about a batch to its webhook, or is to be; its jobs have lists of their own."""
    return await _list(context, batch.id)


@router.get("/webhooks/deliveries/{delivery_id}", summary="Look at a webhook", responses=responses(404))
async def get_delivery(delivery_id: DeliveryId, context: Context, caller: Reader) -> DeliverySchema:
    """How often it was sent, and what came of it."""
    return DeliverySchema.of(await _own(context, caller, delivery_id))


@router.post(
    "/webhooks/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a webhook again",
    responses=responses(404),
)
async def redeliver_webhook(delivery_id: DeliveryId, context: Context, caller: Writer) -> DeliverySchema:
    """The same bytes under the same `webhook-id`, as soon as can be, whatever became of it before. It has all
    its attempts before it."""
    record = await _own(context, caller, delivery_id)
    await outbox.reopen(context, record.delivery)
    return DeliverySchema.of(await _own(context, caller, delivery_id))


@router.get("/webhooks/secret", summary="The secret that signs your webhooks", responses=responses())
async def get_webhook_secret(response: Response, context: Context, caller: Writer) -> WebhookSecretSchema:
    """Every API key has its own; a server without keys has one. Signatures are those of
    [Standard Webhooks](https://www.standardwebhooks.com): any of its libraries verifies them.
    """
    response.headers["Cache-Control"] = _NO_STORE
    found = await run_in_threadpool(secrets.secrets_of, context, caller.owner)
    return WebhookSecretSchema.of(found)


@router.post(
    "/webhooks/secret/rotate",
    summary="Get a new webhook secret",
    responses=responses(400, 409, 415),
    openapi_extra=json_body(RotationRequest),
)
async def rotate_webhook_secret(
    request: Request, response: Response, context: Context, caller: Writer
) -> WebhookSecretSchema:
    """The present secret signs too for a day, or for as long as is asked: meanwhile each webhook has a
    signature by both, and receivers may change when they like.
    """
    body = validate(RotationRequest, await read_json(request))
    response.headers["Cache-Control"] = _NO_STORE
    overlap = timedelta(seconds=body.overlap_seconds)
    made = await run_in_threadpool(lambda: secrets.rotate(context, caller.owner, overlap=overlap))
    return WebhookSecretSchema.of(made)


async def _list(context: ServiceContext, subject_id: str) -> DeliveryListSchema:
    records = await outbox.find_all(context, subject_id)
    return DeliveryListSchema(data=[DeliverySchema.of(record) for record in records])


async def _own(context: ServiceContext, caller: Caller, delivery_id: str) -> DeliveryRecord:
    record = await outbox.find(context, delivery_id)
    if record is None or record.delivery.owner != caller.owner:
        raise NotFoundError(f"there is no webhook {delivery_id!r}; they are kept for three days")
    return record
