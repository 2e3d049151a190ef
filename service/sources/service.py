"""Sources that are not in the request: finished uploads, and addresses."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from jobs.objects import upload_key
from jobs.specs import InputInfo
from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from service.auth import Caller, effective_limit
from service.context import ServiceContext
from service.errors import ConflictError, GoneError
from service.jobs.service import probe_file
from service.jobs.submissions import UploadSource
from service.sources.download import remove_download
from service.sources.fetching import describe_address, fetch_into


@dataclass(frozen=True)
class FoundUpload:
    """A finished upload, which can be made a job of.

    Attributes:
        found: What the probe found in it.
        key: Of the object in the storage.
    """

    found: InputInfo
    key: str


def find_upload(context: ServiceContext, caller: Caller, source: UploadSource) -> FoundUpload:
    """Looks a finished upload up. Blocking.

    Raises:
        ServiceError: If it is unfinished or has expired.
        JobsError: If there is none, or the store does not answer.
    """
    upload = UploadStore(context.client).get(source.upload_id, owner=caller.owner)
    return FoundUpload(require_completed(upload), upload_key(upload.id))


async def look_into_address(context: ServiceContext, caller: Caller, url: str) -> InputInfo:
    """Fetches an address for a look, and keeps nothing.

    Raises:
        ServiceError: If the address is refused or cannot be fetched, the content is no video, or the caller
            has too much under way.
        StorageFullError: If there is no room.
    """
    source = describe_address(context, caller, url, filename=None)
    path = context.incoming_dir / f"source-{uuid4().hex}"
    with context.in_flight.hold(
        "uploads", caller.owner, effective_limit(context, caller, "max_uploads_at_once")
    ):
        try:
            await fetch_into(context, source, path, num_tries=1)
            return await probe_file(context, path, source.filename, owner=caller.owner)
        finally:
            remove_download(path)


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
