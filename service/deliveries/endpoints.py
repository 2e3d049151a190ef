"""`/v1/jobs/{job_id}/deliver`: sends a result once more, or elsewhere."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from jobs.records import Job
from service.auth import Caller, Writer
from service.context import Context, ServiceContext
from service.deliveries.schemas import DeliveryRequest
from service.deliveries.targets import target_of_job
from service.deliveries.task import QUEUE, TASK
from service.errors import ConflictError
from service.jobs.dependencies import JobId
from service.jobs.requests import read_json, validate
from service.jobs.schemas import JobSchema
from service.openapi import json_body
from service.problems import responses
from service.quotas import check_prefix
from service.results.service import require_output
from service.tasks import enqueue_task

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])


@router.post(
    "/deliver",
    status_code=202,
    summary="Deliver the result",
    responses=responses(400, 404, 409, 410, 415),
    openapi_extra=json_body(DeliveryRequest),
)
async def deliver_job(
    request: Request, response: Response, job_id: JobId, context: Context, caller: Writer
) -> JobSchema:
    """Sends the result of a completed job to `deliver_to`, or once more to where it went before, with all its
    attempts before it. What is under way begins anew.
    """
    body = validate(DeliveryRequest, await read_json(request))
    job = await context.reader.get(job_id, owner=caller.owner)
    require_output(job)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    await run_in_threadpool(_ask, context, caller, job, body.deliver_to)
    return JobSchema.of(await context.reader.get(job_id, owner=caller.owner), None)


def _ask(context: ServiceContext, caller: Caller, job: Job, deliver_to: str | None) -> None:
    url = job.delivery.url if deliver_to is None and job.delivery is not None else deliver_to
    if url is None:
        raise ConflictError(f"job {job.id} was not to be delivered; give deliver_to")
    check_prefix(caller, url)
    target = target_of_job(context.settings, url, job_id=job.id, options=job.spec.options)
    context.store.ask_delivery(job.id, target)
    enqueue_task(context, QUEUE, TASK, job.id, owner=caller.owner, weight=job.spec.weight)
