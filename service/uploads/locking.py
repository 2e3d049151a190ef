"""One writer for each upload, whichever process it is in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from jobs.uploads import UploadStore
from service.repeating import holding
from service.uploads.protocol import UploadLockedError

_LOCK_TTL = timedelta(seconds=20)


@asynccontextmanager
async def locked(store: UploadStore, upload_id: str) -> AsyncIterator[str]:
    """Makes this request the only writer of an upload while the block runs. Writing goes on where it was
    thought dead, but the offset moves only if the lock still is this request's.

    Yields:
        The token with which it changes the record.

    Raises:
        UploadLockedError: If there is another writer.
    """
    lock = store.lock(upload_id, ttl=_LOCK_TTL)
    async with holding(lock) as is_mine:
        if not is_mine:
            raise UploadLockedError(
                "another request writes to this upload; try again in a moment", headers={"Retry-After": "1"}
            )
        yield lock.token
