"""Objects of the storage as HTTP responses, with ranges and preconditions, whatever the storage is.

Starlette's FileResponse does this for local files only, and answers wrong ranges with plain text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from jobs.errors import ObjectNotFoundError
from jobs.multipart import MultipartBucket
from jobs.storage import Storage
from service.errors import GoneError
from service.results.ranges import ByteRange, http_date, is_unchanged, may_use_range, parse_ranges

_PRIVATE = "private, no-cache"
# A player goes on asking its address as long as somebody watches.
_SIGNED_FOR = timedelta(hours=6)


@dataclass(frozen=True)
class ServedFile:
    """An object that never changes.

    Attributes:
        key: In the storage.
        size: In bytes.
        media_type: Of the content.
        etag: With its quotes.
        modified_at: UTC.
        headers: Others to be sent with it.
    """

    key: str
    size: int
    media_type: str
    etag: str
    modified_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


async def serve_file(
    request: Request, storage: Storage, file: ServedFile, *, bucket: MultipartBucket | None = None
) -> Response:
    """The response to a GET or HEAD: 200, 206 (also with several ranges) or 304.

    Args:
        request: What is asked for.
        storage: Where the object is.
        file: The object.
        bucket: Where a GET is sent to instead (307), if it can do there what it asks for; None for nowhere.

    Raises:
        BadRangeError: If the wanted range lies outside the file.
        GoneError: If the object is no longer there.
    """
    headers = {
        "ETag": file.etag,
        "Last-Modified": http_date(file.modified_at),
        "Accept-Ranges": "bytes",
        "Cache-Control": _PRIVATE,
        "X-Content-Type-Options": "nosniff",
        **file.headers,
    }
    sent = request.headers
    if is_unchanged(
        sent.get("if-none-match"),
        sent.get("if-modified-since"),
        etag=file.etag,
        modified_at=file.modified_at,
    ):
        return Response(status_code=304, headers=headers)
    ranges = []
    is_ours = may_use_range(sent.get("if-range"), etag=file.etag, modified_at=file.modified_at)
    if is_ours:
        ranges = parse_ranges(sent.get("range"), file.size)
    try:
        await run_in_threadpool(storage.size, file.key)
    except ObjectNotFoundError as error:
        raise GoneError("the file was there and has been removed") from error
    # S3 knows no several ranges, and an ETag of its own: whoever has ours goes on here.
    may_go_there = len(ranges) <= 1 and ("if-range" not in sent or not is_ours)
    if bucket is not None and request.method == "GET" and may_go_there:
        return await run_in_threadpool(_redirect, bucket, file)
    if len(ranges) > 1:
        return _respond_in_parts(request, storage, file, headers, ranges)
    part = ranges[0] if ranges else ByteRange(0, file.size)
    if ranges:
        headers["Content-Range"] = _content_range(part, file.size)
    headers["Content-Length"] = str(part.size)
    content = storage.stream(file.key, offset=part.start, length=part.size)
    return _respond(request, content, 206 if ranges else 200, headers, file.media_type)


def content_disposition(kind: str, filename: str) -> str:
    """The header's value with a name in any script (RFC 6266 and 5987)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _redirect(bucket: MultipartBucket, file: ServedFile) -> Response:
    """Sends a client to the object itself."""
    wanted = {"Content-Type": file.media_type, "Cache-Control": _PRIVATE}
    disposition = file.headers.get("Content-Disposition")
    if disposition is not None:
        wanted["Content-Disposition"] = disposition
    url = bucket.sign_get(file.key, headers=wanted, expires_in=_SIGNED_FOR)
    return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})


def _respond_in_parts(
    request: Request, storage: Storage, file: ServedFile, headers: dict[str, str], ranges: list[ByteRange]
) -> Response:
    """RFC 9110, section 14.6."""
    boundary = token_hex(16)
    heads = [
        f"--{boundary}\r\nContent-Type: {file.media_type}\r\n"
        f"Content-Range: {_content_range(part, file.size)}\r\n\r\n".encode()
        for part in ranges
    ]
    tail = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + part.size + 2 for head, part in zip(heads, ranges, strict=True)) + len(tail)
    headers["Content-Length"] = str(length)

    async def content() -> AsyncIterator[bytes]:
        for head, part in zip(heads, ranges, strict=True):
            yield head
            async for piece in storage.stream(file.key, offset=part.start, length=part.size):
                yield piece
            yield b"\r\n"
        yield tail

    return _respond(request, content(), 206, headers, f"multipart/byteranges; boundary={boundary}")


def _respond(
    request: Request,
    content: AsyncIterator[bytes],
    status: int,
    headers: Mapping[str, str],
    media_type: str,
) -> Response:
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(content, status, headers, media_type)


def _content_range(part: ByteRange, size: int) -> str:
    return f"bytes {part.start}-{part.end - 1}/{size}"
