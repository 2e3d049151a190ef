"""`/v1/webhooks`."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.auth import Writer
from service.context import Context
from service.jobs.requests import read_json, validate
from service.problems import responses
from service.webhooks import secrets
from service.webhooks.schemas import RotationRequest, WebhookSecretSchema

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
_NO_STORE = "no-store"


@router.get("/secret", summary="The secret that signs your webhooks", responses=responses())
async def get_webhook_secret(response: Response, context: Context, caller: Writer) -> WebhookSecretSchema:
    """Every API key has its own; a server without keys has one. Signatures are those of
    [Standard Webhooks](https://www.standardwebhooks.com): any of its libraries verifies them.
    """
    response.headers["Cache-Control"] = _NO_STORE
    found = await run_in_threadpool(secrets.secrets_of, context, caller.owner)
    return WebhookSecretSchema.of(found)


@router.post(
    "/secret/rotate",
    summary="Get a new webhook secret",
    responses=responses(400, 409, 415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RotationRequest"}}},
        }
    },
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
