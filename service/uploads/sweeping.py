"""Removes what is left of uploads, in the background of every API process; they do not disturb each other."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from jobs.clock import redis_now
from jobs.objects import upload_id_of
from jobs.uploads import UploadStore
from service.context import ServiceContext
from service.repeating import repeating
from service.sources.task import sweep_fetches
from service.uploads.service import sweep_uploads

_PERIOD_SECONDS = 30.0
# Listing them is a request that S3 counts.
_MULTIPARTS_PERIOD_SECONDS = 3600.0
# Nothing is written to for so long while somebody still sends it.
_ABANDONED = timedelta(days=1)


@asynccontextmanager
async def sweeping_uploads(context: ServiceContext) -> AsyncIterator[None]:
    """Sweeps while the block runs."""
    async with (
        repeating("uploads.sweep", lambda: run_in_threadpool(_sweep, context), seconds=_PERIOD_SECONDS),
        repeating(
            "uploads.sweep_multiparts",
            lambda: run_in_threadpool(sweep_multiparts, context),
            seconds=_MULTIPARTS_PERIOD_SECONDS,
        ),
    ):
        yield


def sweep_incoming(context: ServiceContext, *, now: float | None = None) -> int:
    """Removes files of requests and fetches that died with their process. Blocking.

    Args:
        context: Of the process.
        now: Seconds since 1970; the clock's if None.

    Returns:
        How many files and folders were removed.
    """
    oldest = (time.time() if now is None else now) - _ABANDONED.total_seconds()
    abandoned = [path for path in context.incoming_dir.iterdir() if _last_written(path) < oldest]
    for path in abandoned:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(abandoned)


def sweep_multiparts(context: ServiceContext, *, older_than: timedelta = _ABANDONED) -> int:
    """Gives up objects in S3 that were begun and will not be finished: of uploads that are gone or complete,
    and whatever killed processes were storing. Their parts are in no listing, and cost money. Blocking.

    Args:
        context: Of the process.
        older_than: Younger ones may still grow.

    Returns:
        How many.
    """
    bucket = context.storage.multipart
    if bucket is None:
        return 0
    oldest = redis_now(context.client) - older_than
    begun = [found for found in bucket.open_multiparts() if found.started_at < oldest]
    ids = sorted({upload_id for found in begun if (upload_id := upload_id_of(found.key)) is not None})
    uploads = UploadStore(context.client).get_many(ids)
    growing = {upload.id for upload in uploads if upload is not None and upload.found is None}
    abandoned = [found for found in begun if upload_id_of(found.key) not in growing]
    for found in abandoned:
        bucket.abort(found)
    return len(abandoned)


def _sweep(context: ServiceContext) -> None:
    sweep_uploads(context)
    sweep_fetches(context)
    sweep_incoming(context)


def _last_written(path: Path) -> float:
    """When a file, or one in a folder, was last written to; now for what has just gone."""
    try:
        entries: list[Path] = [path, *path.iterdir()] if path.is_dir() else [path]
        return max(float(entry.stat().st_mtime) for entry in entries)
    except FileNotFoundError:
        return time.time()
