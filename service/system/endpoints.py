"""`/healthz`, `/readyz`, `/metrics`, `/v1/me`, `/v1/session`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from service.auth import COOKIE, PUBLIC, Identified, MetricsReader, effective_limits
from service.context import Context
from service.errors import UnauthorizedError
from service.jobs.requests import read_json, validate
from service.openapi import json_body
from service.problems import responses
from service.system.http_metrics import HttpMetrics
from service.system.schemas import HealthSchema, MeSchema, ReadinessSchema, SessionRequest
from service.system.service import ReadinessCheck

router = APIRouter(tags=["system"])


@router.get("/healthz", summary="Is the process alive?", openapi_extra=PUBLIC)
async def get_health() -> HealthSchema:
    """Answers as long as the process does. Asks nothing of others: a restart would not mend them."""
    return HealthSchema()


@router.get(
    "/readyz",
    summary="Is the API ready?",
    openapi_extra=PUBLIC,
    response_model=ReadinessSchema,
    responses={503: {"model": ReadinessSchema, "description": "A part that every request needs is away."}},
)
async def get_readiness(request: Request) -> Response:
    """Asks Redis, queue and storage, each for at most a second; what was found holds for a second.

    Without workers, or where files are read in processes that are not confined, the status is `degraded`,
    still with 200: the API takes jobs and serves results.
    """
    readiness: ReadinessCheck = request.app.state.readiness
    found = await readiness.run()
    return JSONResponse(
        found.model_dump(),
        503 if found.status == "unavailable" else 200,
        headers={"Cache-Control": "no-store"},
    )


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        **responses(),
        200: {
            "description": "Text of the Prometheus exposition format; docs/metrics.md explains each.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
async def get_metrics(request: Request, context: Context, _: MetricsReader) -> Response:
    """Queue, jobs, segments, workers and HTTP requests. Needs the scope `metrics:read`."""
    metrics: HttpMetrics = request.app.state.http_metrics
    text = await context.lanes.listing.run("", metrics.expose, context)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


@router.get("/v1/me", summary="Who am I?", responses=responses())
async def get_me(context: Context, caller: Identified) -> MeSchema:
    """What the API key is called, may do and is limited to."""
    return MeSchema(
        owner=caller.owner,
        name=caller.name,
        scopes=list(caller.scopes),
        limits=effective_limits(context, caller),
        auth_required=await context.key_use.is_needed(),
    )


@router.post(
    "/v1/session",
    status_code=204,
    summary="Sign a browser in",
    responses=responses(400, 415),
    openapi_extra={**PUBLIC, **json_body(SessionRequest)},
)
async def start_session(request: Request, response: Response, context: Context) -> None:
    """Keeps the API key in a cookie that scripts cannot read and other sites cannot make use of.

    Browsers send it along with what they load by themselves (`<video>`, `<img>`, `EventSource`). It is taken
    for GET and HEAD only. A server without keys takes any.
    """
    body = validate(SessionRequest, await read_json(request))
    if not await context.key_use.is_needed():
        return
    if await run_in_threadpool(context.keys.find, body.key) is None:
        raise UnauthorizedError("this API key is unknown, revoked or expired")
    is_secure = _is_secure(request, context.settings.public_url)
    response.set_cookie(COOKIE, body.key, httponly=True, samesite="strict", secure=is_secure)


@router.delete("/v1/session", status_code=204, summary="Sign a browser out", openapi_extra=PUBLIC)
async def end_session(request: Request, response: Response, context: Context) -> None:
    """Forgets the cookie."""
    is_secure = _is_secure(request, context.settings.public_url)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=is_secure)


def _is_secure(request: Request, public_url: str | None) -> bool:
    """Whether customers come by https, perhaps to a proxy in front of us."""
    return request.url.scheme == "https" or (public_url or "").startswith("https:")
