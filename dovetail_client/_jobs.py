"""Flows about jobs, models and the account: one or a few small requests each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast
from uuid import uuid4

import httpx

from dovetail_client._answers import parse, parse_json, require_success
from dovetail_client._sources import LocalFile, Source, local_file, remote_source
from dovetail_client._steps import Call, Emit, Flow, send, work
from dovetail_client._uploads import ProgressFunction, upload_file, upload_source
from dovetail_client.models import Estimate, Job, JobList, JobStatus, Me, Model, Upload
from dovetail_client.options import JobOptions, SubmitOptions, request_fields

LARGEST_MULTIPART_BYTES = 8 * 2**20
PAGE_SIZE = 100


def submit_source(
    source: Source,
    given: SubmitOptions,
    *,
    patience: int,
    filename: str | None = None,
    idempotency_key: str | None = None,
    on_progress: ProgressFunction | None = None,
) -> Flow[Job]:
    """Makes a job; see `Dovetail.submit`."""
    fields = request_fields(given)
    key = {"Idempotency-Key": idempotency_key or str(uuid4())}
    named = remote_source(source)
    if named is None:
        file = yield from work(lambda: local_file(source, filename))
        with file:
            if file.size_bytes <= LARGEST_MULTIPART_BYTES:
                body, headers = yield from work(lambda: _multipart(file, fields))
                call = Call("POST", "/v1/jobs", headers=key | headers, content=body)
                job = parse((yield from send(call)), Job)
                if on_progress is not None:
                    on_progress(file.size_bytes, file.size_bytes)
                return job
            uploaded = yield from upload_file(file, patience=patience, on_progress=on_progress)
        named = {"type": "upload", "upload_id": uploaded.id}
    if filename is not None:
        fields["filename"] = filename
    call = Call("POST", "/v1/jobs", headers=key, json={"source": named, **fields})
    return parse((yield from send(call)), Job)


def get_job(job_id: str) -> Flow[Job]:
    """A job as it is now."""
    return parse((yield from send(Call("GET", f"/v1/jobs/{job_id}"))), Job)


def list_page(params: Iterable[tuple[str, str]]) -> Flow[JobList]:
    """One page of jobs."""
    return parse((yield from send(Call("GET", "/v1/jobs", params=tuple(params)))), JobList)


def list_jobs(params: Iterable[tuple[str, str]], *, limit: int | None) -> Flow[None]:
    """Emits jobs, page after page, up to a limit."""
    fixed = tuple(params)
    after: tuple[tuple[str, str], ...] = ()
    num_left = limit
    while num_left is None or num_left > 0:
        size = PAGE_SIZE if num_left is None else min(num_left, PAGE_SIZE)
        page = yield from list_page((*fixed, ("limit", str(size)), *after))
        for job in page.data:
            yield Emit(job)
        if not page.has_more or page.next is None:
            return
        after = (("after", page.next),)
        num_left = None if num_left is None else num_left - len(page.data)


def list_params(
    *,
    status: Iterable[JobStatus | str] | JobStatus | str,
    labels: Mapping[str, str],
    batch_id: str | None,
    order: str,
) -> list[tuple[str, str]]:
    """The query of a list of jobs."""
    statuses = [status] if isinstance(status, str) else status
    params = [("status", str(one)) for one in statuses]
    params += [("label", f"{name}:{value}") for name, value in labels.items()]
    if batch_id is not None:
        params.append(("batch_id", batch_id))
    return [*params, ("order", order)]


def cancel_job(job_id: str) -> Flow[Job]:
    """Stops a job."""
    return parse((yield from send(Call("POST", f"/v1/jobs/{job_id}/cancel"))), Job)


def retry_job(job_id: str) -> Flow[Job]:
    """Lets a failed or cancelled job go on."""
    return parse((yield from send(Call("POST", f"/v1/jobs/{job_id}/retry"))), Job)


def delete_at(path: str) -> Flow[None]:
    """Deletes what is at a path."""
    answer = yield from send(Call("DELETE", path))
    if answer.status == 404 and answer.num_attempts > 1:
        return  # the first attempt did it, its answer was lost
    require_success(answer)


def estimate_job(source: Source | Mapping[str, Any], given: JobOptions) -> Flow[Estimate]:
    """What a job would cost; see `Dovetail.estimate`."""
    fields = request_fields(cast(SubmitOptions, given))
    if isinstance(source, Mapping):
        fields["input"] = dict(source)
    else:
        named = remote_source(source)
        if named is None:
            raise TypeError(
                "an estimate takes an upload, a URL, or the video's width, height, frame_rate and "
                f"duration_seconds, not {source!r}"
            )
        fields["source"] = named
    # Nothing is made by it, so that it may be asked twice.
    call = Call("POST", "/v1/estimate", json={"options": {}, **fields}, is_repeatable=True)
    return parse((yield from send(call)), Estimate)


def list_models() -> Flow[tuple[Model, ...]]:
    """The models that the service offers."""
    found = parse_json((yield from send(Call("GET", "/v1/models"))))
    return tuple(Model.model_validate(value) for value in found["data"])


def get_me() -> Flow[Me]:
    """Who the key belongs to."""
    return parse((yield from send(Call("GET", "/v1/me"))), Me)


def uploaded_input(source: Source, *, patience: int, on_progress: ProgressFunction | None) -> Flow[Any]:
    """How a batch names a source, after it is uploaded if it is a local file."""
    named = remote_source(source)
    if named is None:
        upload: Upload = yield from upload_source(source, patience=patience, on_progress=on_progress)
        named = {"type": "upload", "upload_id": upload.id}
    return {"source": named}


def _multipart(file: LocalFile, fields: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A form with the file and the request: bytes that stay the same when they are sent again."""
    content = file.read_at(0, LARGEST_MULTIPART_BYTES)
    request = httpx.Request(
        "POST",
        "http://service/v1/jobs",
        data={"request": json.dumps(fields)},
        files={"file": (file.filename, content, "application/octet-stream")},
    )
    return request.read(), {"Content-Type": request.headers["Content-Type"]}
