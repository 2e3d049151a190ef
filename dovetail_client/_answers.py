"""From answers to values and errors."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from time import time
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from dovetail_client._calls import Answer
from dovetail_client.errors import APIError, UnexpectedAnswerError, error_class

M = TypeVar("M", bound=BaseModel)

_SHOWN_BYTES = 200


def parse(answer: Answer, model: type[M]) -> M:
    """The value of a good answer.

    Raises:
        APIError: If the service refused.
        UnexpectedAnswerError: If the answer is not what the service would say.
    """
    require_success(answer)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"expected a {model.__name__}, received {shorten(answer.body)}: {error.errors()[0]['msg']}; "
            "is the URL that of a Dovetail service?"
        ) from error


def require_success(answer: Answer) -> None:
    """Raises what an answer says.

    Raises:
        APIError: If the status is not 2xx.
    """
    if not 200 <= answer.status < 300:
        raise to_error(answer)


def to_error(answer: Answer) -> APIError:
    """The error that an answer describes, also where a proxy wrote it."""
    try:
        problem = json.loads(answer.body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": shorten(answer.body) if answer.body else ""}
    if 300 <= answer.status < 400:
        target = answer.headers.get("Location", "elsewhere")
        problem.setdefault("title", f"the service sends to {target}; use that as its URL")
    code = str(problem.get("code") or f"http_{answer.status}")
    errors = problem.get("errors")
    return error_class(answer.status, code)(
        answer.status,
        code,
        title=str(problem.get("title") or ""),
        detail=str(problem.get("detail") or ""),
        errors=[error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else (),
        request_id=answer.headers.get("X-Request-Id"),
        retry_after_seconds=retry_after_seconds(answer.headers),
    )


def retry_after_seconds(headers: httpx.Headers) -> float | None:
    """What `Retry-After` says, in seconds from now; None where it says nothing."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time(), 0.0)
    except ValueError:
        return None


def shorten(body: bytes) -> str:
    """The beginning of a body, for a message."""
    text = body[:_SHOWN_BYTES].decode(errors="replace").strip()
    return repr(text + ("..." if len(body) > _SHOWN_BYTES else ""))
