"""`GET /v1/jobs/{job_id}`: the route that customers poll."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute

from service.auth import Reader, reader_of
from service.context import Context, context_of
from service.jobs.dependencies import JOB_ID_PATTERN, JobId
from service.jobs.schemas import JobSchema, job_json
from service.openapi import with_headers
from service.problems import responses

POLL_SECONDS = 2
_POLLED = with_headers("ETag", "Retry-After")


async def get_job(
    context: Context,
    caller: Reader,
    job_id: JobId,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """State, progress and links. Cheap; `Retry-After` says when it is worth asking again."""
    found = await context.reader.look(job_id, owner=caller.owner, seen=if_none_match or "")
    headers = {"ETag": found.tag, "Cache-Control": "private, no-cache"}
    if not found.state.is_final:
        headers["Retry-After"] = str(POLL_SECONDS)
    if found.job is None:
        return Response(status_code=304, headers=headers)
    # Straight to JSON: checking the response against its model takes several times as long as reading it.
    return Response(job_json(found.job, found.queue_position), headers=headers, media_type="application/json")


class PolledRoute(APIRoute):
    """The route of `get_job`: it finds out the arguments itself, for which FastAPI takes a sixth of a poll's
    time. That describes them, and says what is wrong with an id that is none."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        by_fastapi = super().get_route_handler()

        async def handle(request: Request) -> Response:
            job_id = request.path_params["job_id"]
            if re.fullmatch(JOB_ID_PATTERN, job_id) is None:
                return await by_fastapi(request)
            context, seen = context_of(request), request.headers.get("If-None-Match")
            return await get_job(context, await reader_of(request, context), job_id, seen)

        return handle


def add_polled_route(router: APIRouter) -> None:
    """Adds it where the other routes of jobs are."""
    router.add_api_route(
        "/{job_id}",
        get_job,
        methods=["GET"],
        summary="Look at a job",
        response_model=JobSchema,
        responses={**responses(404), 200: _POLLED, 304: {"description": "It has not changed.", **_POLLED}},
        route_class_override=PolledRoute,
    )
