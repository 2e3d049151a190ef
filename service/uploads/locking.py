"""One writer for each upload, whichever process it is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import structlog
from starlette.concurrency import run_in_threadpool

from jobs.errors import JobsError
from jobs.uploads import UploadStore
from service.errors import ServiceError
from service.uploads.protocol import UploadLockedError

_log = structlog.get_logger(__name__)
_LOCK_TTL = timedelta(seconds=20)


@asynccontextmanager
async def locked(store: UploadStore, upload_id: str) -> AsyncIterator[str]:
    """Makes this request the only writer of an upload while the block runs.

    Yields:
        The token with which it changes the record.

    Raises:
        UploadLockedError: If there is another writer.
    """
    token = uuid4().hex
    if not await run_in_threadpool(store.lock, upload_id, token, ttl=_LOCK_TTL):
        raise UploadLockedError(
            "another request writes to this upload; try again in a moment", headers={"Retry-After": "1"}
        )
    renewing = asyncio.create_task(_keep_lock(store, upload_id, token))
    try:
        yield token
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await run_in_threadpool(store.unlock, upload_id, token)


async def _keep_lock(store: UploadStore, upload_id: str, token: str) -> None:
    while True:
        await asyncio.sleep(_LOCK_TTL.total_seconds() / 3)
        try:
            await run_in_threadpool(store.renew, upload_id, token, ttl=_LOCK_TTL)
        except (ServiceError, JobsError) as error:
            # Writing goes on: the offset moves only if the lock still is this request's.
            _log.warning("upload.lock_not_renewed", upload_id=upload_id, error=str(error))
