"""`/v1/estimate`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from jobs.specs import InputInfo
from service.auth import Caller, Reader
from service.context import Context, ServiceContext
from service.estimates.schemas import EstimateRequest, EstimateSchema
from service.estimates.service import describe_unseen, estimate
from service.jobs.requests import read_json, validate
from service.jobs.submissions import UrlSource
from service.openapi import json_body
from service.problems import responses
from service.sources.service import find_upload, look_into_address

router = APIRouter(prefix="/v1/estimate", tags=["estimates"])


@router.post(
    "",
    summary="Ask what a job would take",
    responses=responses(400, 404, 409, 410, 413, 415, 507),
    openapi_extra=json_body(EstimateRequest),
)
async def estimate_job(request: Request, context: Context, caller: Reader) -> EstimateSchema:
    """Frames, size, memory and time of a job that is not submitted. Nothing is kept.

    Asked with the measures of a video it costs nothing; an address is fetched and looked into.
    """
    body = validate(EstimateRequest, await read_json(request))
    found = await _look_into(body, context, caller)
    return await run_in_threadpool(estimate, context, caller, found, body.options, body.priority)


async def _look_into(body: EstimateRequest, context: ServiceContext, caller: Caller) -> InputInfo:
    if body.input is not None:
        return describe_unseen(body.input, body.options)
    assert body.source is not None
    if isinstance(body.source, UrlSource):
        return await look_into_address(context, caller, body.source.url)
    return (await run_in_threadpool(find_upload, context, caller, body.source)).found
