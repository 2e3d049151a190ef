"""`/v1/keys`: who may use the API, for keys of the scope `admin`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from service.auth import LOCAL_OWNER, Admin
from service.context import Context
from service.errors import ForbiddenError
from service.jobs.requests import read_json, validate
from service.keys.schemas import KeyChangeRequest, KeyListSchema, KeyRequest, KeySchema, NewKeySchema
from service.openapi import json_body, with_headers
from service.problems import responses

router = APIRouter(prefix="/v1/keys", tags=["keys"])

KeyId = Annotated[
    str,
    Path(
        pattern=r"^key_[0-9a-z]{26}$", examples=["key_01k9zq3v5n8w2c7m4t6y1x0abc"], description="Of the key."
    ),
]


@router.post(
    "",
    status_code=201,
    summary="Make an API key",
    responses={**responses(400, 415), 201: with_headers("Location")},
    openapi_extra=json_body(KeyRequest),
)
async def create_key(request: Request, response: Response, context: Context, caller: Admin) -> NewKeySchema:
    """Answers the secret, which cannot be read again. It counts at once.

    The first key of a server is made with `dovetail keys create`: from then on every request needs one.
    """
    body = validate(KeyRequest, await read_json(request))
    if caller.owner == LOCAL_OWNER:
        raise ForbiddenError(
            "this server asks for no keys yet; make the first one with 'dovetail keys create NAME --scope "
            "admin', for from then on every request needs one"
        )
    key, secret = await run_in_threadpool(
        lambda: context.keys.create(
            body.name, scopes=tuple(body.scopes), limits=body.limits, expires_at=body.expires_at
        )
    )
    response.headers["Location"] = f"/v1/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeySchema.model_validate({**key.model_dump(), "secret": secret})


@router.get("", summary="List API keys", responses=responses())
async def list_keys(context: Context, _: Admin) -> KeyListSchema:
    """All of them, also expired ones, without their secrets."""
    found = await run_in_threadpool(context.keys.list)
    return KeyListSchema(data=[KeySchema.of(key) for key in found])


@router.get("/{key_id}", summary="Look at an API key", responses=responses(404))
async def get_key(key_id: KeyId, context: Context, _: Admin) -> KeySchema:
    """Name, scopes and limits."""
    return KeySchema.of(await run_in_threadpool(context.keys.get, key_id))


@router.patch(
    "/{key_id}",
    summary="Change an API key",
    responses=responses(400, 404, 415),
    openapi_extra=json_body(KeyChangeRequest),
)
async def change_key(request: Request, key_id: KeyId, context: Context, _: Admin) -> KeySchema:
    """Holds within three seconds. Jobs that were submitted keep the weight and limits of their time."""
    body = validate(KeyChangeRequest, await read_json(request))
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    for name in ("name", "scopes", "limits"):  # null is "never" for `expires_at`, and nothing for these
        if changes.get(name, ...) is None:
            del changes[name]
    return KeySchema.of(await run_in_threadpool(lambda: context.keys.change(key_id, **changes)))


@router.delete("/{key_id}", status_code=204, summary="Revoke an API key", responses=responses(404))
async def revoke_key(key_id: KeyId, context: Context, _: Admin) -> None:
    """Makes it useless within three seconds. Its jobs stay until they expire."""
    await run_in_threadpool(context.keys.revoke, key_id)
