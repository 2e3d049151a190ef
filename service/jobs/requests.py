"""Reading what a customer submitted, in any of the forms that `POST /v1/jobs` takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from jobs.options import JobOptions
from service.errors import MalformedRequestError, UnsupportedMediaError
from service.forms import Form
from service.jobs.submissions import JobForm, JobRequest
from service.problems import invalid_request

MAX_JSON_BYTES = 16 << 20
_DIGEST_BYTES = 1 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)

REQUEST_FIELD = "request"
_OPTION_FIELDS = frozenset(JobOptions.model_fields)
_TEXT_FIELDS = frozenset({"priority", "filename", "deliver_to"})
_JSON_FIELDS = frozenset({"labels", "metadata", "webhook"})
FORM_FIELDS = frozenset({REQUEST_FIELD}) | _OPTION_FIELDS | _TEXT_FIELDS | _JSON_FIELDS


def parse_form(form: Form) -> JobForm:
    """The request in a form: the JSON in `request`, and options as fields of their own.

    Raises:
        InvalidRequestError: If a value is not accepted.
        MalformedRequestError: If a field that should be JSON is not.
    """
    fields = dict(form.fields)
    request = _json_object(REQUEST_FIELD, fields.pop(REQUEST_FIELD, "{}"))
    options = dict(request.get("options") or {})
    for name, value in fields.items():
        if name in _OPTION_FIELDS:
            options[name] = None if value == "" else value
        elif name in _JSON_FIELDS:
            request[name] = _json_object(name, value)
        else:
            request[name] = value
    if options:
        request["options"] = options
    return validate(JobForm, request)


async def read_json_request(request: Request) -> JobRequest:
    """The request in a JSON body.

    Raises:
        UnsupportedMediaError: If the body is of another type.
        MalformedRequestError: If it is no JSON.
        InvalidRequestError: If a value is not accepted.
    """
    return validate(JobRequest, await read_json(request))


async def read_json(request: Request) -> Any:
    """A JSON body of bounded size.

    Raises:
        UnsupportedMediaError: If the body is of another type.
        MalformedRequestError: If it is no JSON, or too long.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaError(
            f"the body is {content_type or 'untyped'!r}; send multipart/form-data or application/json"
        )
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise MalformedRequestError(f"a JSON body has at most {MAX_JSON_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the body is no JSON: {error}") from error


def validate(model: type[ModelT], content: Any) -> ModelT:
    """A value of a model.

    Raises:
        InvalidRequestError: If the content does not fit.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid_request(error.errors(), prefix=("body",)) from error


def file_fingerprint(path: Path) -> list[Any]:
    """Tells one file from another without reading all of it: its size, and digests of its ends."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_DIGEST_BYTES))
        file.seek(max(0, size - _DIGEST_BYTES))
        digest.update(file.read(_DIGEST_BYTES))
    return [size, digest.hexdigest()]


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the field {name!r} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedRequestError(f"the field {name!r} is no JSON object")
    return value
