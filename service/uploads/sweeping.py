"""Removes what is left of uploads, in the background of every API process; they do not disturb each other."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from jobs.uploads import UploadStore
from service.context import ServiceContext
from service.repeating import repeating
from service.uploads.service import sweep_uploads, uploads_dir

_PERIOD_SECONDS = 30.0
# Nothing is written to for so long while somebody still sends it.
_ABANDONED_SECONDS = 24 * 3600.0


def sweeping_uploads(context: ServiceContext) -> AbstractAsyncContextManager[None]:
    """Sweeps while the block runs."""
    return repeating("uploads.sweep", lambda: run_in_threadpool(_sweep, context), seconds=_PERIOD_SECONDS)


def sweep_incoming(context: ServiceContext, *, now: float | None = None) -> int:
    """Removes files of requests that died with their process, and of uploads without a record. Blocking.

    Args:
        context: Of the process.
        now: Seconds since 1970; the clock's if None.

    Returns:
        How many files and folders were removed.
    """
    oldest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    folder = uploads_dir(context)
    abandoned = [
        path for path in context.incoming_dir.iterdir() if path != folder and _last_written(path) < oldest
    ]
    unfinished = (
        [path for path in folder.iterdir() if _last_written(path) < oldest] if folder.is_dir() else []
    )
    records = UploadStore(context.client).get_many([path.name for path in unfinished])
    abandoned += [path for path, record in zip(unfinished, records, strict=True) if record is None]
    for path in abandoned:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(abandoned)


def _sweep(context: ServiceContext) -> None:
    sweep_uploads(context)
    sweep_incoming(context)


def _last_written(path: Path) -> float:
    """When a file, or one in a folder, was last written to; now for what has just gone."""
    try:
        entries: list[Path] = [path, *path.iterdir()] if path.is_dir() else [path]
        return max(float(entry.stat().st_mtime) for entry in entries)
    except FileNotFoundError:
        return time.time()
