"""From answers to values and errors."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from time import time
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from dovetail_client.errors import APIError, UnexpectedAnswerError, error_class

M = TypeVar("M", bound=BaseModel)

_SHOWN_BYTES = 200


def parse(answer: httpx.Response, model: type[M]) -> M:
    """The value of a good answer.

    Raises:
        UnexpectedAnswerError: If the answer is not what the service would say.
    """
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"expected a {model.__name__}, received {shorten(answer.content)}: {error.errors()[0]['msg']}; "
            "is the URL that of a Dovetail service?"
        ) from error


def is_refusal(answer: httpx.Response) -> bool:
    """Whether an answer is neither a good one nor "not modified"."""
    return not (answer.is_success or answer.status_code == 304)


def to_error(answer: httpx.Response) -> APIError:
    """The error that a refusal describes, also where a proxy wrote it."""
    try:
        problem = json.loads(answer.content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": shorten(answer.content) if answer.content else ""}
    if answer.is_redirect:
        target = answer.headers.get("Location", "elsewhere")
        problem.setdefault("title", f"the service sends to {target}; use that as its URL")
    code = str(problem.get("code") or f"http_{answer.status_code}")
    errors = problem.get("errors")
    return error_class(answer.status_code, code)(
        answer.status_code,
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
