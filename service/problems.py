"""One shape for every error: RFC 9457 problem documents."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from jobs.errors import JobsError
from service.errors import InvalidRequestError, ServiceError, from_jobs_error
from service.openapi import REF_TEMPLATE, with_headers

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)
_MAX_RECEIVED = 200

# Statuses that the framework answers by itself.
_CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    416: "bad_range",
}


class WrongValue(BaseModel):
    """One wrong value of a request."""

    loc: Annotated[list[str | int], Field(description="Where: body, query, path or header, then names.")]
    message: Annotated[str, Field(description="What is accepted.")]
    received: Annotated[str | None, Field(description="What came, shortened.")] = None


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not found",
                    "status": 404,
                    "detail": "there is no job 'job_01k9zz'; it was deleted, has expired, or never existed",
                    "instance": "/v1/jobs/job_01k9zz",
                    "code": "not_found",
                    "request_id": "0b8c",
                    "errors": [],
                }
            ]
        }
    )

    type: Annotated[str, Field(description="Always about:blank: `code` tells the kind.")] = "about:blank"
    title: Annotated[str, Field(description="The kind of problem, for people.")]
    status: Annotated[int, Field(description="HTTP status.")]
    detail: Annotated[str, Field(description="This occurrence: what was received and what is accepted.")]
    instance: Annotated[str, Field(description="Path of the request.")]
    code: Annotated[str, Field(description="The kind of problem, for programs; never changes its meaning.")]
    request_id: Annotated[str, Field(description="To find the request in the server's log.")]
    errors: Annotated[list[WrongValue], Field(description="Wrong values, where there are any.")] = []


def problem_response(request: Request, error: ServiceError) -> JSONResponse:
    """The response for an error."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=str(error),
        instance=request.url.path,
        code=error.problem_code,
        request_id=getattr(request.state, "request_id", ""),
        errors=[WrongValue.model_validate(item) for item in error.errors],
    )
    return JSONResponse(
        problem.model_dump(mode="json"), error.status, headers=error.headers, media_type=MEDIA_TYPE
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the errors that an endpoint may answer; 401, 403, 422, 429 and 503 always."""
    titles = {
        400: "The request cannot be read.",
        401: "No valid API key.",
        403: "The API key lacks the scope.",
        404: "There is no such thing, or it is not yours.",
        409: "Its state does not allow it.",
        410: "It was there and is gone.",
        412: "A precondition does not hold.",
        413: "The upload is larger than accepted.",
        415: "Not a video that can be read, or a body of the wrong type.",
        416: "The range lies outside the file.",
        422: "Values are missing, unknown, out of range or contradictory.",
        429: "Too many requests, or a quota is used up; see Retry-After.",
        460: "The checksum does not match the body.",
        503: "The queue is full, or a part of the installation does not answer; see Retry-After.",
        507: "The storage is full.",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": REF_TEMPLATE.format(model=Problem.__name__)}}}
    headers = {status: with_headers("Retry-After") for status in (429, 503)}
    wanted = sorted({401, 403, 422, 429, 503, *statuses})
    return {
        status: {"description": titles[status], "content": content, **headers.get(status, {})}
        for status in wanted
    }


def install(app: FastAPI) -> None:
    """Makes every error of an app a problem document."""

    async def service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        return problem_response(request, error)

    async def jobs_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, JobsError)
        answer = from_jobs_error(error)
        if answer.status >= 500:
            _log.warning("request.failed", code=error.code, error=str(error), path=request.url.path)
        return problem_response(request, answer)

    async def validation_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem_response(request, invalid_request(error.errors()))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        wrapped = ServiceError(
            str(error.detail),
            headers=dict(error.headers or {}),
            code=_CODES.get(error.status_code, "http_error"),
        )
        wrapped.status, wrapped.title = error.status_code, str(error.detail)
        if error.status_code == 405:
            wrapped.headers["Allow"] = ", ".join(allowed_methods(request))
        return problem_response(request, wrapped)

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("request.crashed", path=request.url.path, exc_info=error)
        return problem_response(request, ServiceError("an internal error occurred; it was logged"))

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(JobsError, jobs_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


def allowed_methods(request: Request) -> list[str]:
    """All methods of a path, from the app's own description; the framework names those of one route only."""
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        pattern, _, _ = compile_path(template)
        if pattern.match(request.url.path):
            found |= {name.upper() for name in operations if name != "parameters"}
    return sorted(found)


def invalid_request(errors: Any, *, prefix: tuple[str | int, ...] = ()) -> InvalidRequestError:
    """The error for what pydantic found.

    Args:
        errors: From `ValidationError.errors()`.
        prefix: Where in the request the validated value was.
    """
    found = [
        {
            "loc": [*prefix, *(part if isinstance(part, int) else str(part) for part in item["loc"])],
            "message": item["msg"],
            "received": _shorten(item.get("input")),
        }
        for item in errors
    ]
    first = found[0]
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidRequestError(
        f"{where}: {first['message']}, received {first['received']}{more}", errors=found
    )


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_RECEIVED else text[: _MAX_RECEIVED - 3] + "..."
