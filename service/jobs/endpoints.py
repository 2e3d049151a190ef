"""`/v1/jobs`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from jobs.api_keys import Scope
from jobs.errors import JobNotFoundError
from jobs.objects import input_key, job_prefix
from jobs.records import Job
from service.auth import OPEN_STREAM, Caller, Reader, Writer
from service.context import Context, ServiceContext
from service.errors import ForbiddenError, InvalidRequestError
from service.forms import FILE_FIELD, is_form, receive_form
from service.idempotency import IdempotentCall, fingerprint_of, hold_of, idempotent
from service.jobs import service
from service.jobs.dependencies import JobId, OwnJob
from service.jobs.events import job_events
from service.jobs.listing import ListQuery, list_page
from service.jobs.polling import POLL_SECONDS, add_polled_route
from service.jobs.requests import FORM_FIELDS, REQUEST_FIELD, file_fingerprint, parse_form, read_json_request
from service.jobs.schemas import JobEventSchema, JobListSchema, JobSchema
from service.jobs.submissions import JobForm, JobRequest, UploadSource, UrlSource
from service.openapi import form_schema, json_body, with_headers
from service.problems import responses
from service.quotas import check_priority
from service.sources.fetching import describe_address
from service.sources.service import find_upload

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", max_length=255, description="The same key and request make one job only."
    ),
]
# Redis takes two 64-bit numbers; ids are a time in milliseconds and a small number.
_EVENT_ID_PATTERN = r"^\d{1,19}-\d{1,19}$|^$"
_BODY = json_body(JobRequest)
_BODY["requestBody"]["content"]["multipart/form-data"] = {
    "schema": form_schema(
        JobForm,
        file_field=FILE_FIELD,
        file_schema={"type": "string", "format": "binary", "description": "The video."},
        request_field=REQUEST_FIELD,
    )
}
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: with_headers("Location", "Retry-After")}


@router.post(
    "",
    status_code=202,
    summary="Submit a video",
    response_model=JobSchema,
    responses={**responses(400, 404, 409, 410, 413, 415, 507), **_ACCEPTED},
    openapi_extra=_BODY,
)
async def create_job(
    request: Request,
    response: Response,
    context: Context,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
) -> JobSchema:
    """Takes a video as a multipart field, as a finished upload, or from an allowed address, and queues it.

    An address is fetched afterwards, in the stage `fetching`; what goes wrong there is an error of the job.
    """
    if is_form(request):
        job = await _submit_form(request, context, caller, idempotency_key)
    else:
        job = await _submit_source(await read_json_request(request), context, caller, idempotency_key)
    return await _accepted(context, response, job)


@router.get("", summary="List jobs", responses=responses())
async def list_jobs(context: Context, caller: Reader, query: Annotated[ListQuery, Query()]) -> JobListSchema:
    """Jobs of this API key, newest first unless asked otherwise; with the scope `admin` also of others.

    A page with a filter may be short or empty although there are more: it looks at a bounded number of jobs.
    Ask on with `next` until `has_more` is false.
    """
    if query.owner not in (None, caller.owner) and not caller.allows(Scope.ADMIN):
        raise ForbiddenError(f"this API key lacks the scope {Scope.ADMIN}, so it sees its own jobs only")
    jobs, following = await context.lanes.listing.run(caller.owner, list_page, context, caller.owner, query)
    positions = await context.reader.queue_positions(jobs)
    data = [JobSchema.of(job, position) for job, position in zip(jobs, positions, strict=True)]
    return JobListSchema(data=data, has_more=following is not None, next=following)


add_polled_route(router)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses={**responses(404, 409), **_ACCEPTED},
)
async def cancel_job(job_id: JobId, response: Response, context: Context, caller: Writer) -> JobSchema:
    """Cancels at once what waits, and at the next chunk what runs. Harmless to repeat."""
    await context.reader.get(job_id, owner=caller.owner)
    job = await run_in_threadpool(context.store.cancel, job_id, ttl=context.settings.failed_ttl)
    return await _accepted(context, response, job)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Try a job again",
    responses={**responses(404, 409), **_ACCEPTED},
)
async def retry_job(job_id: JobId, response: Response, context: Context, caller: Writer) -> JobSchema:
    """Queues a failed or cancelled job again; its finished segments are kept. Harmless to repeat: a job that
    is queued or in progress stays as it is."""
    job = await context.reader.get(job_id, owner=caller.owner)
    check_priority(caller, job.spec.priority)
    job = await run_in_threadpool(service.retry_job, context, caller, job_id)
    return await _accepted(context, response, job)


@router.delete("/{job_id}", status_code=204, summary="Delete a job", responses=responses(404))
async def delete_job(job_id: JobId, context: Context, caller: Writer) -> None:
    """Cancels the job if it is unfinished, and removes its record and files."""
    await context.reader.get(job_id, owner=caller.owner)
    await run_in_threadpool(context.store.delete, job_id)
    await context.lanes.storage.run(caller.owner, context.storage.delete_prefix, job_prefix(job_id))


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=responses(404),
    dependencies=[OPEN_STREAM],
)
async def follow_job(
    job: OwnJob,
    context: Context,
    caller: Reader,
    last_event_id: Annotated[str | None, Header(pattern=_EVENT_ID_PATTERN)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `status`, `progress`, `segment`; at the end `completed`, `failed` or `cancelled`.

    A client that comes back with `Last-Event-ID` gets what it missed; where that is no longer kept, `reset`.
    """
    async for event_id, kind, at, detail, current in job_events(context, job.id, caller.owner, last_event_id):
        yield ServerSentEvent(
            id=event_id,
            event=kind,
            data=JobEventSchema(type=kind, at=at, detail=detail, job=current),
        )


async def _submit_form(
    request: Request, context: ServiceContext, caller: Caller, idempotency_key: str | None
) -> Job:
    async with receive_form(request, context, caller, field_names=FORM_FIELDS, max_files=1) as received:
        if not received.files:
            raise InvalidRequestError(
                f"the form has no field {FILE_FIELD!r} with the video",
                errors=[{"loc": ["body", FILE_FIELD], "message": "required", "received": None}],
            )
        form, file = parse_form(received), received.files[0]
        fingerprint = fingerprint_of(
            form.model_dump(mode="json"), file.filename, await run_in_threadpool(file_fingerprint, file.path)
        )
        async with idempotent(
            context.async_client,
            owner=caller.owner,
            key=idempotency_key,
            fingerprint=fingerprint,
            prefix="job",
            held=hold_of(context.settings),
        ) as call:
            return await _made_before(context, caller, call) or await service.submit_file(
                context, caller, file.path, form, filename=file.filename, job_id=call.id
            )


async def _submit_source(
    body: JobRequest, context: ServiceContext, caller: Caller, idempotency_key: str | None
) -> Job:
    async with idempotent(
        context.async_client,
        owner=caller.owner,
        key=idempotency_key,
        fingerprint=fingerprint_of(body.model_dump(mode="json")),
        prefix="job",
        held=hold_of(context.settings),
    ) as call:
        earlier = await _made_before(context, caller, call)
        if earlier is not None:
            return earlier
        form = JobForm.model_validate(body.model_dump(exclude={"source"}))
        return await run_in_threadpool(_make_of_source, context, caller, form, body.source, call.id)


def _make_of_source(
    context: ServiceContext, caller: Caller, form: JobForm, source: UploadSource | UrlSource, job_id: str
) -> Job:
    if isinstance(source, UrlSource):
        address = describe_address(context, caller, source.url, filename=form.filename)
        return service.submit_source(context, caller, form, address, key=input_key(job_id), job_id=job_id)
    upload = find_upload(context, caller, source)
    return service.submit_source(context, caller, form, upload.found, key=upload.key, job_id=job_id)


async def _made_before(context: ServiceContext, caller: Caller, call: IdempotentCall) -> Job | None:
    """The job that an earlier request with the same key has made.

    Raises:
        JobNotFoundError: If it was made, and is gone.
    """
    if call.is_done:
        return await context.reader.get(call.id, owner=caller.owner)
    if call.may_exist:
        with suppress(JobNotFoundError):
            return await context.reader.get(call.id, owner=caller.owner)
    return None


async def _accepted(context: ServiceContext, response: Response, job: Job) -> JobSchema:
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    (position,) = await context.reader.queue_positions([job])
    return JobSchema.of(job, position)
