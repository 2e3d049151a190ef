"""Uploads from their creation to an object in the storage that jobs can read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import structlog
from starlette.concurrency import run_in_threadpool

from jobs.clock import redis_now
from jobs.errors import JobsError, QuotaExceededError, StorageFullError
from jobs.objects import upload_key
from jobs.records import new_id
from jobs.syncing import sync
from jobs.uploads import Upload, UploadStatus, UploadStore
from service.auth import Caller, effective_limits
from service.context import ServiceContext
from service.errors import (
    ConflictError,
    GoneError,
    InvalidRequestError,
    ServiceError,
    TooLargeError,
    UnsupportedMediaError,
)
from service.jobs.service import clean_filename, probe_file
from service.room import check_incoming_room, reported_full
from service.uploads.protocol import Checksum, UploadLockedError, parse_metadata
from service.uploads.receiving import receive

_log = structlog.get_logger(__name__)
_LOCK_TTL = timedelta(seconds=20)
_SWEPT_AT_ONCE = 100


def uploads_dir(context: ServiceContext) -> Path:
    """Where bytes of unfinished uploads are. API processes of one installation share this folder."""
    return context.incoming_dir / "uploads"


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
    check_incoming_room(context, size_bytes)
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
    path = uploads_dir(context) / upload.id
    # First the file: a record without one could never be finished.
    _reserve_room(context, path, size_bytes)
    try:
        UploadStore(context.client).create(
            upload, max_unfinished=limits.max_uploads_at_once, max_stored_bytes=limits.max_stored_bytes
        )
    except QuotaExceededError:
        path.unlink()
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
    """Takes bytes in; after the last one, looks into the file and moves it into the storage.

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
    store = UploadStore(context.client)
    async with _locked(store, upload_id) as token:
        upload = await run_in_threadpool(store.get, upload_id, owner=caller.owner)
        _check_offset(upload, offset, content_length)
        await run_in_threadpool(store.postpone, upload_id, context.settings.upload_ttl)
        path = uploads_dir(context) / upload_id
        if await run_in_threadpool(_is_stored, context, path, upload_id):
            await _finish_stored(context, upload, store, token)
            return await run_in_threadpool(store.get, upload_id)
        received = await receive(
            stream, path, upload, store=store, token=token, checksum=checksum, lane=context.lanes.storage
        )
        if received.offset == upload.size_bytes:
            await _finish(context, upload, path, store, token)
        return await run_in_threadpool(store.get, upload_id)


async def delete_upload(context: ServiceContext, caller: Caller, upload_id: str) -> None:
    """Ends an upload and frees its bytes, unless a job reads them.

    Raises:
        UploadNotFoundError: If there is none.
        UploadLockedError: If bytes are coming in.
    """
    store = UploadStore(context.client)
    async with _locked(store, upload_id):
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
    (uploads_dir(context) / upload_id).unlink(missing_ok=True)
    context.storage.delete(upload_key(upload_id))


def _check_offset(upload: Upload, offset: int, content_length: int | None) -> None:
    require_current(upload)
    if offset != upload.offset:
        raise ConflictError(
            f"Upload-Offset is {offset}, the upload is at {upload.offset}",
            code="wrong_offset",
            headers={"Upload-Offset": str(upload.offset)},
        )
    if upload.status is UploadStatus.COMPLETED:
        if content_length:
            raise ConflictError(f"upload {upload.id} is complete")
        return
    if content_length is not None and offset + content_length > upload.size_bytes:
        raise TooLargeError(
            f"{content_length} bytes at {offset} are more than Upload-Length announced, {upload.size_bytes}"
        )


async def _finish(
    context: ServiceContext, upload: Upload, path: Path, store: UploadStore, token: str
) -> None:
    try:
        found = await probe_file(context, path, upload.filename, owner=upload.owner)
    except (UnsupportedMediaError, InvalidRequestError):
        await run_in_threadpool(remove_upload, context, store, upload.id)
        raise
    key = upload_key(upload.id)
    await context.lanes.storage.run(upload.owner, context.storage.put_file, key, path, is_movable=True)
    # With an object store the file was copied.
    path.unlink(missing_ok=True)
    await run_in_threadpool(store.finish, upload.id, token, found, ttl=context.settings.upload_ttl)


def _is_stored(context: ServiceContext, path: Path, upload_id: str) -> bool:
    """Whether a process was killed after it had moved the file and before it could say so."""
    return not path.exists() and context.storage.exists(upload_key(upload_id))


async def _finish_stored(context: ServiceContext, upload: Upload, store: UploadStore, token: str) -> None:
    if upload.found is not None:
        return
    async with context.local_object(upload.owner, upload_key(upload.id)) as path:
        found = await probe_file(context, path, upload.filename, owner=upload.owner)
    await run_in_threadpool(store.finish, upload.id, token, found, ttl=context.settings.upload_ttl)


@asynccontextmanager
async def _locked(store: UploadStore, upload_id: str) -> AsyncIterator[str]:
    """Makes this request the only writer of an upload while the block runs."""
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


def _reserve_room(context: ServiceContext, path: Path, size_bytes: int) -> None:
    """Makes the upload's file with all the room that it will take, so that nobody else can take it: not
    another upload that looked at the same free room, and no worker.

    Raises:
        StorageFullError: If there is not so much.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with reported_full(), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        # Two that looked at the same time have both been let in.
        check_incoming_room(context, 0)
    except StorageFullError:
        path.unlink(missing_ok=True)
        raise
    sync(path.parent)
