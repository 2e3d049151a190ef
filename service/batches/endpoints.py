"""`/v1/batches`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from zipstream import ZipStream

from jobs.batch_store import BatchStore
from jobs.errors import BatchNotFoundError
from service.auth import Caller, Reader, Writer
from service.batches.archive import open_archive
from service.batches.dependencies import OwnBatch
from service.batches.requests import CSV_TYPE, NDJSON_TYPES, read_submission, shared_settings
from service.batches.schemas import (
    BatchListSchema,
    BatchRequest,
    BatchResultsSchema,
    BatchSchema,
    PageQuery,
    ResultsQuery,
)
from service.batches.service import (
    cancel_batch,
    create_batch,
    create_file_batch,
    delete_batch,
    describe_batch,
    list_batch_results,
)
from service.context import Context, ServiceContext
from service.errors import ConflictError, InvalidRequestError
from service.forms import FILE_FIELD, is_form, receive_form
from service.idempotency import IdempotentCall, fingerprint_of, hold_of, idempotent
from service.jobs.endpoints import IdempotencyKey
from service.jobs.requests import FORM_FIELDS, REQUEST_FIELD, file_fingerprint
from service.jobs.submissions import JobSettings
from service.openapi import form_schema, json_body, with_headers
from service.problems import responses

router = APIRouter(prefix="/v1/batches", tags=["batches"])

_POLL_SECONDS = 5
_MAX_FILES = 1000
_BODY = json_body(BatchRequest)
_BODY["requestBody"]["content"] |= {
    "multipart/form-data": {
        "schema": form_schema(
            JobSettings,
            file_field=FILE_FIELD,
            file_schema={
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "description": "The videos; the field repeated.",
            },
            request_field=REQUEST_FIELD,
        )
    },
    NDJSON_TYPES[0]: {
        "schema": {"type": "string"},
        "example": '{"upload_id": "upl_01k9zq3v5n8w2c7m4t6y1x0abc", "scale": 2}\n'
        '{"url": "https://videos.example.com/b.mp4", "height": 1080}\n',
    },
    CSV_TYPE: {
        "schema": {"type": "string"},
        "example": "url,filename,scale\nhttps://videos.example.com/b.mp4,b.mp4,2\n",
    },
}
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: with_headers("Location", "Retry-After")}


@router.post(
    "",
    name="create_batch",
    status_code=202,
    summary="Submit many videos",
    response_model=BatchSchema,
    responses={**responses(400, 404, 409, 413, 415, 507), **_ACCEPTED},
    openapi_extra=_BODY,
)
async def create_new_batch(
    request: Request,
    response: Response,
    context: Context,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
) -> BatchSchema:
    """Takes files, finished uploads, addresses, a manifest (JSON Lines or CSV) or a prefix in a bucket.

    With a manifest as the body, the settings of all jobs are query parameters. The batch is accepted at once,
    its jobs are made in the background. Wrong inputs are told in `rejected` and stop no other.
    """
    if is_form(request):
        batch_id = await _submit_files(request, context, caller, idempotency_key)
    else:
        batch_id = await _submit_inputs(request, context, caller, idempotency_key)
    return await _accepted(context, response, batch_id, caller)


@router.get("", summary="List batches", responses=responses())
async def list_batches(
    context: Context, caller: Reader, query: Annotated[PageQuery, Query()]
) -> BatchListSchema:
    """Batches of this API key, newest first."""
    store = BatchStore(context.client)
    listing = context.lanes.listing
    ids, has_more = await listing.run(
        caller.owner, store.list_ids, caller.owner, limit=query.limit, after=query.after
    )
    batches = await listing.run(caller.owner, store.get_many, ids)
    data = [BatchSchema.of(batch, []) for batch in batches]
    return BatchListSchema(data=data, has_more=has_more, next=ids[-1] if has_more else None)


@router.get(
    "/{batch_id}",
    summary="Look at a batch",
    responses={**responses(404), 200: with_headers("Retry-After")},
)
async def get_batch(batch: OwnBatch, response: Response, context: Context, caller: Reader) -> BatchSchema:
    """Counts, progress and rejected inputs."""
    if not batch.is_done:
        response.headers["Retry-After"] = str(_POLL_SECONDS)
    return await describe_batch(context, batch.id, caller.owner)


@router.post(
    "/{batch_id}/cancel",
    name="cancel_batch",
    status_code=202,
    summary="Cancel a batch",
    responses={**responses(404, 409), **_ACCEPTED},
)
async def cancel_whole_batch(
    batch: OwnBatch, response: Response, context: Context, caller: Writer
) -> BatchSchema:
    """Cancels all its jobs; inputs that are not jobs yet become none. Harmless to repeat."""
    if not batch.is_done:
        await context.lanes.listing.run(caller.owner, cancel_batch, context, batch)
    elif not batch.is_cancelled:
        raise ConflictError(f"batch {batch.id} is {batch.status} and cannot be cancelled")
    return await _accepted(context, response, batch.id, caller)


@router.delete(
    "/{batch_id}",
    name="delete_batch",
    status_code=204,
    summary="Delete a batch",
    responses=responses(404),
)
async def delete_whole_batch(batch: OwnBatch, context: Context, caller: Writer) -> None:
    """Cancels its unfinished jobs, and removes all of them with their files."""
    await context.lanes.storage.run(caller.owner, delete_batch, context, batch)


@router.get(
    "/{batch_id}/results",
    name="list_batch_results",
    summary="List a batch's results",
    responses=responses(404),
)
async def list_results(
    batch: OwnBatch, context: Context, caller: Reader, query: Annotated[ResultsQuery, Query()]
) -> BatchResultsSchema:
    """Its jobs in the order of the inputs, with links to their files."""
    return await context.lanes.listing.run(
        caller.owner, list_batch_results, context, batch.id, limit=query.limit, after=query.after
    )


@router.get(
    "/{batch_id}/results.zip",
    name="download_batch_results",
    summary="Download a batch's results",
    response_class=StreamingResponse,
    responses={
        **responses(404, 409),
        200: {
            "description": "The completed files; unfinished jobs are left out.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def download_results(batch: OwnBatch, context: Context, caller: Reader) -> StreamingResponse:
    """One ZIP with every file that is there, made while it is sent."""
    archive = await context.lanes.listing.run(caller.owner, open_archive, context, batch.id)
    headers = {
        "Content-Length": str(len(archive)),
        "Content-Disposition": f'attachment; filename="{batch.id}.zip"',
        "Cache-Control": "private, no-store",
    }
    pieces = _pieces(context, caller, archive)
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


async def _pieces(context: ServiceContext, caller: Caller, archive: ZipStream) -> AsyncIterator[bytes]:
    pieces = iter(archive)
    while (piece := await context.lanes.storage.run(caller.owner, next, pieces, None)) is not None:
        yield piece


async def _submit_files(
    request: Request, context: ServiceContext, caller: Caller, idempotency_key: str | None
) -> str:
    max_files = min(_MAX_FILES, context.settings.max_batch_inputs)
    async with receive_form(
        request, context, caller, field_names=FORM_FIELDS, max_files=max_files
    ) as received:
        if not received.files:
            raise InvalidRequestError(
                f"the form has no field {FILE_FIELD!r} with a video",
                errors=[{"loc": ["body", FILE_FIELD], "message": "required", "received": None}],
            )
        settings = shared_settings(received)
        files = [
            [file.filename, await run_in_threadpool(file_fingerprint, file.path)] for file in received.files
        ]
        async with idempotent(
            context.async_client,
            owner=caller.owner,
            key=idempotency_key,
            fingerprint=fingerprint_of("files", settings.model_dump(mode="json"), files),
            prefix="batch",
            held=hold_of(context.settings),
        ) as call:
            if not await _is_made(context, caller, call):
                await context.lanes.storage.run(
                    caller.owner,
                    partial(create_file_batch, context, caller, settings, received.files, batch_id=call.id),
                )
            return call.id


async def _submit_inputs(
    request: Request, context: ServiceContext, caller: Caller, idempotency_key: str | None
) -> str:
    submission = await read_submission(request)
    lines = [[line.number, line.content, line.problem] for line in submission.lines]
    async with idempotent(
        context.async_client,
        owner=caller.owner,
        key=idempotency_key,
        fingerprint=fingerprint_of(
            "inputs", submission.settings.model_dump(mode="json"), lines, submission.prefix
        ),
        prefix="batch",
        held=hold_of(context.settings),
    ) as call:
        if not await _is_made(context, caller, call):
            await context.lanes.listing.run(
                caller.owner, partial(create_batch, context, caller, submission, batch_id=call.id)
            )
        return call.id


async def _is_made(context: ServiceContext, caller: Caller, call: IdempotentCall) -> bool:
    """Whether an earlier request with the same key has made the batch."""
    if call.may_exist:
        try:
            await run_in_threadpool(BatchStore(context.client).get, call.id, owner=caller.owner)
        except BatchNotFoundError:
            return False
        return True
    return call.is_done


async def _accepted(
    context: ServiceContext, response: Response, batch_id: str, caller: Caller
) -> BatchSchema:
    response.headers["Location"] = f"/v1/batches/{batch_id}"
    response.headers["Retry-After"] = str(_POLL_SECONDS)
    return await describe_batch(context, batch_id, caller.owner)
