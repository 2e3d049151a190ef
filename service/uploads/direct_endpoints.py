"""`/v1/uploads/{id}/parts` and `/complete`: bytes that go to S3 and not through the API."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.auth import Writer
from service.context import Context
from service.jobs.requests import read_json, validate
from service.openapi import json_body
from service.problems import responses
from service.uploads.direct import complete_parts, sign_parts
from service.uploads.endpoints import LOCKED, UploadId
from service.uploads.schemas import CompletionRequest, PartsRequest, PartsSchema, UploadSchema

router = APIRouter(prefix="/v1/uploads/{upload_id}", tags=["uploads"])


@router.post(
    "/parts",
    summary="Get addresses to send parts to",
    responses={**responses(400, 404, 409, 410, 415), **LOCKED},
    openapi_extra=json_body(PartsRequest),
)
async def get_part_addresses(
    upload_id: UploadId, request: Request, response: Response, context: Context, caller: Writer
) -> PartsSchema:
    """For services whose storage is S3: `PUT` each part, of just its size, to its address, as many at once as
    you like, then ask for `/complete`. The upload is begun as for tus; it takes bytes by one way only. Ask
    again when addresses have ended, or to go on after a break: without `numbers` the answer has the parts
    that are missing, a thousand at most.
    """
    body = validate(PartsRequest, await read_json(request))
    response.headers["Cache-Control"] = "no-store"
    return PartsSchema.of(await sign_parts(context, caller, upload_id, body.numbers))


@router.post(
    "/complete",
    summary="Make the upload of its parts",
    responses={**responses(400, 404, 409, 410, 415, 507), **LOCKED},
    openapi_extra=json_body(CompletionRequest),
)
async def complete_upload(
    upload_id: UploadId, request: Request, context: Context, caller: Writer
) -> UploadSchema:
    """All parts must have arrived, with their sizes and the ETags that you name, if you do. Then the file is
    looked into: 415 or 422 if it is no video. Harmless to repeat.
    """
    body = validate(CompletionRequest, await read_json(request))
    etags = None if body.parts is None else {part.number: part.etag for part in body.parts}
    return UploadSchema.of(await complete_parts(context, caller, upload_id, etags))
