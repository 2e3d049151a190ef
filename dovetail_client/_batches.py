"""Flows about batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from dovetail_client._answers import parse, parse_json
from dovetail_client._downloads import download_job, source_stem
from dovetail_client._jobs import uploaded_input
from dovetail_client._sources import Source
from dovetail_client._steps import Call, Emit, Flow, send, work
from dovetail_client._uploads import ProgressFunction
from dovetail_client.models import Batch, BatchList, BatchResult, JobStatus
from dovetail_client.options import SubmitOptions, request_fields

PAGE_SIZE = 100


def create_batch(
    inputs: Iterable[Source | Mapping[str, Any]],
    given: SubmitOptions,
    *,
    patience: int,
    prefix: str | None = None,
    manifest: str | None = None,
    idempotency_key: str | None = None,
    on_progress: ProgressFunction | None = None,
) -> Flow[Batch]:
    """Makes a batch; see `Dovetail.create_batch`."""
    body = request_fields(given)
    found = []
    for one in inputs:
        if isinstance(one, Mapping):
            found.append(dict(one))
        else:
            found.append((yield from uploaded_input(one, patience=patience, on_progress=on_progress)))
    named = {"inputs": found, "prefix": prefix, "manifest": manifest}
    body |= {name: value for name, value in named.items() if value}
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    return parse((yield from send(Call("POST", "/v1/batches", headers=headers, json=body))), Batch)


def get_batch(batch_id: str) -> Flow[Batch]:
    """A batch as it is now."""
    return parse((yield from send(Call("GET", f"/v1/batches/{batch_id}"))), Batch)


def list_batches(*, limit: int | None) -> Flow[None]:
    """Emits batches, the newest first."""
    after: tuple[tuple[str, str], ...] = ()
    num_left = limit
    while num_left is None or num_left > 0:
        size = PAGE_SIZE if num_left is None else min(num_left, PAGE_SIZE)
        call = Call("GET", "/v1/batches", params=(("limit", str(size)), *after))
        page = parse((yield from send(call)), BatchList)
        for batch in page.data:
            yield Emit(batch)
        if not page.has_more or page.next is None:
            return
        after = (("after", page.next),)
        num_left = None if num_left is None else num_left - len(page.data)


def cancel_batch(batch_id: str) -> Flow[Batch]:
    """Stops all jobs of a batch that are not final."""
    return parse((yield from send(Call("POST", f"/v1/batches/{batch_id}/cancel"))), Batch)


def batch_results(batch_id: str) -> Flow[tuple[BatchResult, ...]]:
    """What became of each job."""
    results: list[BatchResult] = []
    after: tuple[tuple[str, str], ...] = ()
    while True:
        call = Call("GET", f"/v1/batches/{batch_id}/results", params=after)
        page = parse_json((yield from send(call)))
        results += [BatchResult.model_validate(value) for value in page["data"]]
        if not page["has_more"]:
            return tuple(results)
        after = (("after", page["next"]),)


def download_batch(
    batch_id: str,
    folder: str | os.PathLike[str],
    *,
    patience: int,
    on_download: Callable[[Path], None] | None = None,
) -> Flow[tuple[Path, ...]]:
    """Downloads every result that there is; see `Dovetail.download_batch`."""
    target = Path(folder)
    yield from work(lambda: target.mkdir(parents=True, exist_ok=True))
    results = [
        result for result in (yield from batch_results(batch_id)) if result.status is JobStatus.COMPLETED
    ]
    paths = []
    for result, name in zip(results, result_names(results), strict=True):
        path = yield from download_job(result.job_id, target / name, patience=patience)
        paths.append(path)
        if on_download is not None:
            on_download(path)
    return tuple(paths)


def result_names(results: Sequence[BatchResult]) -> list[str]:
    """A file name for each result: the source's, with the job's id where several sources share one."""
    stems = [source_stem(result.filename) or result.job_id for result in results]
    num_uses = Counter(stem.casefold() for stem in stems)
    return [
        (stem if num_uses[stem.casefold()] == 1 else f"{stem}-{result.job_id}") + f".{result.container}"
        for stem, result in zip(stems, results, strict=True)
    ]
