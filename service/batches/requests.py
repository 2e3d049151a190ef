"""Reading what a customer submitted, in any of the forms that `POST /v1/batches` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from jobs.batch_records import BatchInput, RejectedInput
from service.batches.manifests import Line, read_csv, read_description, read_json_lines
from service.batches.schemas import BatchInputRequest, BatchRequest
from service.errors import InvalidRequestError, MalformedRequestError, UnsupportedMediaError
from service.forms import Form
from service.jobs.requests import MAX_JSON_BYTES, parse_form, read_json, validate
from service.jobs.submissions import JobForm, JobSettings
from service.problems import invalid_request

NDJSON_TYPES = ("application/x-ndjson", "application/jsonl")
CSV_TYPE = "text/csv"
_SIZE_OPTIONS = ("scale", "height", "width")


@dataclass(frozen=True)
class Submission:
    """What was submitted.

    Attributes:
        settings: Shared by all inputs.
        lines: The inputs.
        prefix: Below which more inputs are.
    """

    settings: JobSettings
    lines: list[Line]
    prefix: str | None = None


async def read_submission(request: Request) -> Submission:
    """Reads a body without files.

    Raises:
        UnsupportedMediaError: If it is of another type.
        MalformedRequestError: If it cannot be read.
        InvalidRequestError: If a shared value is not accepted.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in NDJSON_TYPES or kind == CSV_TYPE:
        settings = _shared(parse_form(Form(fields=dict(request.query_params))))
        text = await _read_text(request)
        return Submission(settings, read_csv(text) if kind == CSV_TYPE else read_json_lines(text))
    if kind != "application/json":
        raise UnsupportedMediaError(
            f"the body is {kind or 'untyped'!r}; send multipart/form-data, application/json, "
            f"{NDJSON_TYPES[0]} or {CSV_TYPE}"
        )
    body = validate(BatchRequest, await read_json(request))
    given = [name for name in ("inputs", "manifest", "prefix") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidRequestError(
            f"give one of inputs, manifest and prefix; received {' and '.join(given) or 'none'}",
            errors=[{"loc": ["body"], "message": "one of inputs, manifest and prefix", "received": None}],
        )
    settings = JobSettings.model_validate(
        body.model_dump(include=set(JobSettings.model_fields), exclude_unset=True)
    )
    lines = [Line(None, content) for content in body.inputs or ()]
    if body.manifest is not None:
        lines = read_description(body.manifest)
    return Submission(settings, lines, body.prefix)


def shared_settings(form: Form) -> JobSettings:
    """The settings in a form's fields.

    Raises:
        MalformedRequestError: If a field that should be JSON is not.
        InvalidRequestError: If a value is not accepted.
    """
    return _shared(parse_form(form))


def make_input(settings: JobSettings, index: int, line: Line, job_id: str) -> BatchInput | RejectedInput:
    """One input with the shared settings and its own, or why it is none."""
    if line.content is None:
        return RejectedInput(index=index, line=line.number, code="invalid_request", message=line.problem)
    try:
        request = BatchInputRequest.model_validate(line.content)
        form = merged(settings, request)
    except ValidationError as error:
        problem = invalid_request(error.errors())
        return RejectedInput(
            index=index,
            line=line.number,
            filename=_filename_of(line.content),
            code=problem.code,
            message=str(problem)[:1000],
        )
    return BatchInput(
        index=index,
        job_id=job_id,
        source=request.source.model_dump(mode="json"),
        form=form.model_dump(mode="json"),
        filename=request.filename,
    )


def merged(settings: JobSettings, request: BatchInputRequest) -> JobForm:
    """The settings of one input's job.

    Raises:
        pydantic.ValidationError: If they are wrong or contradict each other.
    """
    options = settings.options.model_dump(exclude_unset=True)
    if any(request.options.get(name) is not None for name in _SIZE_OPTIONS):
        # An input's own size replaces the shared one, however either is given.
        options = {name: value for name, value in options.items() if name not in _SIZE_OPTIONS}
    return JobForm.model_validate(
        {
            "options": {**options, **request.options},
            "priority": request.priority or settings.priority,
            "labels": {**settings.labels, **request.labels},
            "metadata": settings.metadata if request.metadata is None else request.metadata,
            "webhook": job_webhook(settings),
            "deliver_to": request.deliver_to or settings.deliver_to,
            "filename": request.filename,
        }
    )


def job_webhook(settings: JobSettings) -> dict[str, Any] | None:
    """The webhook of each job: none where only the batch's own event is wanted."""
    webhook = settings.webhook
    if webhook is None or (webhook.events and not any(name.startswith("job.") for name in webhook.events)):
        return None
    return webhook.model_dump()


def _shared(form: JobForm) -> JobSettings:
    if form.filename is not None:
        raise InvalidRequestError(
            "a batch has no filename; its inputs have",
            errors=[{"loc": ["body", "filename"], "message": "not for batches", "received": form.filename}],
        )
    return JobSettings.model_validate(form.model_dump(exclude={"filename"}, exclude_unset=True))


def _filename_of(content: Any) -> str | None:
    found = content.get("filename") if isinstance(content, dict) else None
    return found[:255] if isinstance(found, str) else None


async def _read_text(request: Request) -> str:
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_JSON_BYTES:
                raise MalformedRequestError(f"a manifest has at most {MAX_JSON_BYTES} bytes")
    except ClientDisconnect as error:
        raise MalformedRequestError("the manifest broke off") from error
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"the manifest is no UTF-8: {error}") from error
