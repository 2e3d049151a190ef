"""Uploads whose parts their owner sends to S3: signed addresses for them, and the object that they become."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool

from jobs.clock import redis_now
from jobs.errors import ObjectNotFoundError
from jobs.multipart import MultipartBucket, part_bytes
from jobs.objects import upload_key
from jobs.upload_records import Upload, UploadParts, UploadStatus
from jobs.uploads import UploadStore
from service.auth import Caller
from service.context import ServiceContext
from service.errors import ConflictError, GoneError, InvalidRequestError
from service.uploads.locking import locked
from service.uploads.service import finish, is_stored, require_current

MAX_ADDRESSES = 1000
# Long enough for a slow line, short enough for an address that somebody else gets hold of.
_EXPIRES_IN = timedelta(hours=1)
_NAMED_IN_ERRORS = 5


@dataclass(frozen=True)
class PartAddress:
    """Where to PUT a part.

    Attributes:
        number: From 1.
        offset: Of its first byte in the file.
        size_bytes: Its size; S3 takes no other.
        url: Signed.
    """

    number: int
    offset: int
    size_bytes: int
    url: str


@dataclass(frozen=True)
class PartsOverview:
    """How far the parts of an upload are.

    Attributes:
        part_bytes: Size of each part but the last.
        num_parts: In all.
        arrived: Numbers of those that are in S3.
        addresses: Of parts.
        expires_at: When the addresses end.
    """

    part_bytes: int
    num_parts: int
    arrived: tuple[int, ...]
    addresses: tuple[PartAddress, ...]
    expires_at: datetime


async def sign_parts(
    context: ServiceContext, caller: Caller, upload_id: str, numbers: Sequence[int] | None
) -> PartsOverview:
    """Signs addresses for parts of an upload; from then on it takes no bytes by PATCH.

    Args:
        context: Of the process.
        caller: Whose upload it is.
        upload_id: Of what.
        numbers: Of parts; None for the first that have not arrived.

    Raises:
        ConflictError: If the storage is no S3, or the upload has bytes that came by PATCH, or is complete.
        InvalidRequestError: If it has no such part.
        GoneError: If it has expired, or S3 has given its parts up.
        UploadLockedError: If another request writes to it.
    """
    bucket, store = _bucket_of(context), UploadStore(context.client)
    async with locked(store, upload_id) as token:
        upload = require_current(await run_in_threadpool(store.get, upload_id, owner=caller.owner))
        if upload.status is UploadStatus.COMPLETED or await run_in_threadpool(is_stored, context, upload_id):
            raise ConflictError(f"all parts of upload {upload_id} are there; ask for /complete")
        await run_in_threadpool(store.postpone, upload_id, context.settings.upload_ttl)
        multipart_id = await run_in_threadpool(_start, bucket, store, upload, token)
        return await run_in_threadpool(_overview, context, bucket, upload, multipart_id, numbers)


async def complete_parts(
    context: ServiceContext, caller: Caller, upload_id: str, etags: dict[int, str] | None
) -> Upload:
    """Makes the object of the parts that have arrived, and looks into it; harmless to repeat.

    Args:
        context: Of the process.
        caller: Whose upload it is.
        upload_id: Of what.
        etags: That S3 has answered, by part; None takes the parts as they are.

    Raises:
        ConflictError: If parts are missing, or are not what was sent.
        UnsupportedMediaError: If the whole is no video; the upload is gone.
        InvalidRequestError: If it may not be read; the upload is gone.
        GoneError: If it has expired, or S3 has given its parts up.
        UploadLockedError: If another request writes to it.
    """
    bucket, store = _bucket_of(context), UploadStore(context.client)
    async with locked(store, upload_id) as token:
        upload = require_current(await run_in_threadpool(store.get, upload_id, owner=caller.owner))
        await run_in_threadpool(store.postpone, upload_id, context.settings.upload_ttl)
        if not await run_in_threadpool(is_stored, context, upload_id):
            await context.lanes.storage.run(caller.owner, _put_together, bucket, store, upload, etags)
        await finish(context, upload, store, token)
        return await run_in_threadpool(store.get, upload_id)


def _bucket_of(context: ServiceContext) -> MultipartBucket:
    bucket = context.storage.multipart
    if bucket is None:
        raise ConflictError(
            "this service keeps files in a folder; send the bytes by PATCH", code="no_direct_uploads"
        )
    return bucket


def _start(bucket: MultipartBucket, store: UploadStore, upload: Upload, token: str) -> str:
    known = store.parts(upload.id)
    if known.is_direct:
        return known.multipart_id
    if upload.offset:
        raise ConflictError(
            f"{upload.offset} bytes of upload {upload.id} have come by PATCH; go on so, or begin another"
        )
    multipart_id = known.multipart_id or bucket.start(upload_key(upload.id))
    store.advance(upload.id, token, 0, UploadParts(multipart_id, is_direct=True))
    return multipart_id


def _overview(
    context: ServiceContext,
    bucket: MultipartBucket,
    upload: Upload,
    multipart_id: str,
    numbers: Sequence[int] | None,
) -> PartsOverview:
    sizes, key = _part_sizes(upload), upload_key(upload.id)
    unknown = sorted(set(numbers or ()) - set(sizes))
    if unknown:
        raise InvalidRequestError(
            f"upload {upload.id} has the parts 1 to {len(sizes)}; received {_named(map(str, unknown))}",
            errors=[
                {"loc": ["body", "numbers"], "message": f"1 to {len(sizes)}", "received": str(unknown[0])}
            ],
        )
    arrived = _arrived(bucket, upload, multipart_id)
    if numbers is None:
        numbers = [number for number in sizes if number not in arrived][:MAX_ADDRESSES]
    size = part_bytes(upload.size_bytes)
    return PartsOverview(
        part_bytes=size,
        num_parts=len(sizes),
        arrived=tuple(arrived),
        addresses=tuple(
            PartAddress(
                number=number,
                offset=(number - 1) * size,
                size_bytes=sizes[number],
                url=bucket.sign_part(
                    key, multipart_id, number, size_bytes=sizes[number], expires_in=_EXPIRES_IN
                ),
            )
            for number in numbers
        ),
        expires_at=redis_now(context.client) + _EXPIRES_IN,
    )


def _put_together(
    bucket: MultipartBucket, store: UploadStore, upload: Upload, etags: dict[int, str] | None
) -> None:
    known = store.parts(upload.id)
    if not known.is_direct:
        raise ConflictError(f"no parts of upload {upload.id} were asked for; send its bytes by PATCH")
    arrived = _arrived(bucket, upload, known.multipart_id)
    missing = [number for number in _part_sizes(upload) if number not in arrived]
    if missing:
        raise ConflictError(
            f"of upload {upload.id} these parts are missing or have another size: "
            f"{_named(map(str, missing))}; ask for their addresses again",
            code="upload_incomplete",
        )
    others = [
        f"{number} ({etags.get(number)} was sent, {etag} is there)"
        for number, etag in arrived.items()
        if etags is not None and etags.get(number, "").strip('"') != etag.strip('"')
    ]
    if others:
        raise ConflictError(
            f"parts of upload {upload.id} are not what was sent: {_named(others)}; send them again"
        )
    bucket.complete(upload_key(upload.id), known.multipart_id, arrived.values())


def _part_sizes(upload: Upload) -> dict[int, int]:
    """Bytes of each part, by number."""
    size = part_bytes(upload.size_bytes)
    starts = range(0, upload.size_bytes, size)
    return {number: min(size, upload.size_bytes - start) for number, start in enumerate(starts, start=1)}


def _arrived(bucket: MultipartBucket, upload: Upload, multipart_id: str) -> dict[int, str]:
    """ETags of the parts that have arrived with the size that they must have, by number in order."""
    sizes = _part_sizes(upload)
    try:
        parts = bucket.parts(upload_key(upload.id), multipart_id)
    except ObjectNotFoundError as error:
        raise GoneError("the parts of this upload are gone; begin it again") from error
    return {part.number: part.etag for part in parts if sizes.get(part.number) == part.size_bytes}


def _named(items: Iterable[str]) -> str:
    """The first of many."""
    found = list(items)
    more = len(found) - _NAMED_IN_ERRORS
    return ", ".join(found[:_NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
