"""Uploads from their creation to an object in the storage that jobs can read."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from jobs.clock import redis_now
from jobs.errors import ObjectNotFoundError, QuotaExceededError
from jobs.objects import incoming_prefix, upload_key
from jobs.specs import InputInfo, new_id
from jobs.upload_records import Upload, UploadStatus
from jobs.uploads import UploadStore
from service.auth import Caller, effective_limits
from service.context import ServiceContext
from service.errors import (
    ConflictError,
    GoneError,
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaError,
)
from service.filenames import clean_filename
from service.jobs.service import probe_file
from service.uploads.file_sink import FileSink, reserve_file
from service.uploads.locking import locked
from service.uploads.parts_sink import PartsSink
from service.uploads.protocol import Checksum, WrongOffsetError, parse_metadata
from service.uploads.receiving import Sink, receive

_SWEPT_AT_ONCE = 100


def create_upload(context: ServiceContext, caller: Caller, *, size_bytes: int, metadata: str) -> Upload:
    """Begins an upload. Blocking.

    Raises:
        InvalidRequestError: If it is to be empty.
        TooLargeError: If it is larger than accepted.
        QuotaExceededError: If the caller has too many, or no room left.
        StorageFullError: If there is no room for it.
    """
    limits = effective_limits(context, caller)
    limit = limits.max_upload_bytes
    if size_bytes > limit:
        raise TooLargeError(f"Upload-Length is {size_bytes} bytes, {limit} are accepted")
    if size_bytes == 0:
        raise InvalidRequestError("Upload-Length is 0; an empty file is no video")
    names = parse_metadata(metadata)
    filename = names.get("filename") or names.get("name")
    now = redis_now(context.client)
    upload = Upload(
        id=new_id("upl"),
        owner=caller.owner,
        size_bytes=size_bytes,
        filename=clean_filename(filename) if filename else None,
        metadata=metadata,
        created_at=now,
        expires_at=now + context.settings.upload_ttl,
    )
    storage = context.storage
    if storage.folder is not None:
        # First the file: a record without one could never be finished.
        reserve_file(storage, storage.folder, upload)
    try:
        UploadStore(context.client).create(
            upload, max_unfinished=limits.max_uploads_at_once, max_stored_bytes=limits.max_stored_bytes
        )
    except QuotaExceededError:
        storage.delete_prefix(incoming_prefix(upload.id))
        raise
    return upload


async def append(
    context: ServiceContext,
    caller: Caller,
    upload_id: str,
    stream: AsyncIterator[bytes],
    *,
    offset: int,
    content_length: int | None,
    checksum: Checksum | None,
) -> Upload:
    """Takes bytes in; after the last one, makes them an object and looks into it.

    Args:
        context: Of the process.
        caller: Who sends.
        upload_id: Of what.
        stream: The bytes.
        offset: Where the sender believes the upload to be.
        content_length: How many come, if the sender said so.
        checksum: Of the bytes.

    Returns:
        The upload as it is afterwards; less than was sent when the connection broke.

    Raises:
        ServiceError: If there is another writer, the offset is another, or the whole is no video; in the
            last case the upload is gone.
        JobsError: If there is no such upload, or store or storage do not answer.
    """
    store, lane = UploadStore(context.client), context.lanes.storage
    async with locked(store, upload_id) as token:
        upload = await run_in_threadpool(store.get, upload_id, owner=caller.owner)
        _check_offset(upload, offset, content_length)
        await run_in_threadpool(store.postpone, upload_id, context.settings.upload_ttl)
        # A process may have been killed after it had made the object and before it could say so.
        if not await run_in_threadpool(is_stored, context, upload_id):
            try:
                sink = await run_in_threadpool(_make_sink, context, upload, store, token)
                with sink:
                    offset = await receive(stream, sink, upload, checksum=checksum, lane=lane)
                    if offset == upload.size_bytes:
                        await lane.run(caller.owner, sink.complete)
            except ObjectNotFoundError as error:
                # Or one that was thought dead has just made it.
                if not await run_in_threadpool(is_stored, context, upload_id):
                    raise GoneError("the bytes of this upload are gone; begin it again") from error
            else:
                if offset < upload.size_bytes:
                    return await run_in_threadpool(store.get, upload_id)
        await finish(context, upload, store, token)
        return await run_in_threadpool(store.get, upload_id)


def is_stored(context: ServiceContext, upload_id: str) -> bool:
    """Whether all bytes have become an object. Blocking."""
    return context.storage.exists(upload_key(upload_id))


async def delete_upload(context: ServiceContext, caller: Caller, upload_id: str) -> None:
    """Ends an upload and frees its bytes, unless a job reads them.

    Raises:
        UploadNotFoundError: If there is none.
        UploadLockedError: If bytes are coming in.
    """
    store = UploadStore(context.client)
    async with locked(store, upload_id):
        await run_in_threadpool(store.get, upload_id, owner=caller.owner)
        await run_in_threadpool(remove_upload, context, store, upload_id)


def require_current(upload: Upload) -> Upload:
    """The upload, if its time is not over.

    Raises:
        GoneError: If it has expired.
    """
    if upload.is_expired:
        raise GoneError(f"upload {upload.id} has expired; begin it again")
    return upload


def sweep_uploads(context: ServiceContext) -> int:
    """Removes uploads whose time is over, except those that a job reads. Blocking; harmless to run twice.

    Returns:
        How many were removed.
    """
    store = UploadStore(context.client)
    removed = 0
    for upload_id in store.expired_ids(limit=_SWEPT_AT_ONCE):
        outcome = store.remove(upload_id, only_expired=True)
        if outcome == "used":
            store.postpone(upload_id, context.settings.upload_ttl)
        elif outcome == "removed":
            _remove_bytes(context, upload_id)
            removed += 1
    return removed


def remove_upload(context: ServiceContext, store: UploadStore, upload_id: str) -> None:
    """Forgets an upload and removes its bytes. While a job reads them it is only hidden, and swept later.
    Blocking; harmless to repeat."""
    if store.remove(upload_id) == "used":
        store.disown(upload_id)
    else:
        _remove_bytes(context, upload_id)


def _remove_bytes(context: ServiceContext, upload_id: str) -> None:
    storage, key = context.storage, upload_key(upload_id)
    if storage.multipart is not None:
        storage.multipart.abort_all(key)
    storage.delete_prefix(incoming_prefix(upload_id))
    storage.delete(key)


def _check_offset(upload: Upload, offset: int, content_length: int | None) -> None:
    require_current(upload)
    if offset != upload.offset:
        raise WrongOffsetError(
            f"Upload-Offset is {offset}, the upload is at {upload.offset}", offset=upload.offset
        )
    if upload.status is UploadStatus.COMPLETED:
        if content_length:
            raise ConflictError(f"upload {upload.id} is complete")
        return
    if content_length is not None and offset + content_length > upload.size_bytes:
        raise TooLargeError(
            f"{content_length} bytes at {offset} are more than Upload-Length announced, {upload.size_bytes}"
        )


def _make_sink(context: ServiceContext, upload: Upload, store: UploadStore, token: str) -> Sink:
    storage = context.storage
    if storage.multipart is not None:
        return PartsSink(storage, storage.multipart, upload, store, token, folder=context.incoming_dir)
    assert storage.folder is not None
    return FileSink(storage, storage.folder, upload, store, token)


async def finish(context: ServiceContext, upload: Upload, store: UploadStore, token: str) -> None:
    """Looks into the object that an upload has become, and says that it is complete; harmless to repeat.

    Raises:
        UnsupportedMediaError: If it is no video; the upload is gone.
        InvalidRequestError: If it may not be read; the upload is gone.
        StorageFullError: If there is no room to look into it.
    """
    if upload.found is not None:
        return
    try:
        found = await _look_into(context, upload)
    except (UnsupportedMediaError, InvalidRequestError):
        await run_in_threadpool(remove_upload, context, store, upload.id)
        raise
    await run_in_threadpool(store.finish, upload.id, token, found, ttl=context.settings.upload_ttl)


async def _look_into(context: ServiceContext, upload: Upload) -> InputInfo:
    async with context.readable_object(upload.owner, upload_key(upload.id)) as path:
        return await probe_file(context, path, upload.filename, owner=upload.owner)
