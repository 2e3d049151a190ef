"""Removes expired uploads in the background. Every API process does; they do not disturb each other."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from starlette.concurrency import run_in_threadpool

from service.context import ServiceContext
from service.repeating import repeating
from service.uploads.service import sweep_uploads

_PERIOD_SECONDS = 30.0


def sweeping_uploads(context: ServiceContext) -> AbstractAsyncContextManager[None]:
    """Sweeps while the block runs."""
    return repeating(
        "uploads.sweep", lambda: run_in_threadpool(sweep_uploads, context), seconds=_PERIOD_SECONDS
    )
