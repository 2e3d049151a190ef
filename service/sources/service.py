"""Opens a source: what a job names instead of sending the video along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from jobs.objects import upload_key
from jobs.records import InputInfo
from jobs.uploads import Upload, UploadStore
from service.auth import Caller
from service.context import ServiceContext
from service.errors import ConflictError, GoneError
from service.jobs.submissions import UploadSource, UrlSource
from service.sources.fetching import fetched_source


@dataclass(frozen=True)
class OpenSource:
    """A source that can be made a job of.

    Attributes:
        found: What the probe found in it.
        filename: What to call it.
        path: The file, for the block's time; it may be moved away. None where `key` says where it is.
        key: Of the object in the storage; empty where there is a file.
    """

    found: InputInfo
    filename: str | None
    path: Path | None = None
    key: str = ""


@asynccontextmanager
async def open_source(
    context: ServiceContext, caller: Caller, source: UploadSource | UrlSource
) -> AsyncIterator[OpenSource]:
    """Makes a source ready: looks a finished upload up, or fetches an address.

    Args:
        context: Of the process.
        caller: Who asks.
        source: What was submitted.

    Raises:
        ServiceError: If the address is refused or cannot be fetched, or the content is no video.
        JobsError: If there is no such upload, or store or storage do not answer.
    """
    if isinstance(source, UploadSource):
        store = UploadStore(context.client)
        upload = await run_in_threadpool(store.get, source.upload_id, owner=caller.owner)
        yield OpenSource(require_completed(upload), upload.filename, key=upload_key(upload.id))
        return
    async with fetched_source(context, caller, source.url) as fetched:
        yield OpenSource(fetched.found, fetched.filename, path=fetched.path)


def require_completed(upload: Upload) -> InputInfo:
    """What was found in a finished upload.

    Raises:
        ConflictError: If bytes of it are missing.
        GoneError: If it has expired.
    """
    if upload.found is None:
        raise ConflictError(
            f"of upload {upload.id} only {upload.offset} of {upload.size_bytes} bytes have arrived",
            code="upload_incomplete",
        )
    if upload.is_expired:
        raise GoneError(f"upload {upload.id} has expired")
    return upload.found
