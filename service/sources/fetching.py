"""Fetches what an address names into a file: bounded in size and time, from allowed hosts and buckets."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import obstore
import structlog
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from starlette.concurrency import run_in_threadpool

from jobs.settings import ServiceSettings
from jobs.transfers import FetchedSource
from service.auth import Caller, effective_limit
from service.context import ServiceContext
from service.errors import InvalidRequestError
from service.filenames import clean_filename
from service.outgoing import (
    PASSING_STATUSES,
    HostNotFoundError,
    PinnedTransport,
    SourceRefusedError,
    check_url,
)
from service.quotas import check_prefix
from service.room import check_incoming_room
from service.sources.download import Download

if TYPE_CHECKING:
    from obstore import GetOptions
    from typing_extensions import Buffer

_log = structlog.get_logger(__name__)

MAX_REDIRECTS = 3
_PIECE_BYTES, _BLOCK_BYTES = 1 << 16, 1 << 20
# Between two pieces of the body, and for the whole of it.
_SILENCE_SECONDS = 30.0
_TOTAL_SECONDS = 4 * 3600.0
_BACKOFF_SECONDS = 1.0
# What is allowed is the operator's, and would tell strangers where to look.
_INSTEAD = "ask who runs this service to allow it, or send the file along"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class SourceFailedError(InvalidRequestError):
    """Raised when an address is allowed, but what it names cannot be fetched."""

    code, title = "source_failed", "Source cannot be fetched"


class _InterruptedError(Exception):
    """Raised when an origin fails in a way that may pass."""


def check_source_url(settings: ServiceSettings, url: str) -> None:
    """Checks an address against what the installation allows, as far as it goes without asking anybody.

    Raises:
        SourceRefusedError: If it may not be fetched.
    """
    if url.startswith("s3://"):
        _, key = parse_s3(settings, url)
        if not key or key.endswith("/"):
            raise SourceRefusedError(f"{url!r} names no object")
        return
    host = (check_url(url, allow_private=settings.allow_private_targets).hostname or "").lower().rstrip(".")
    if not any(_matches(host, pattern.lower()) for pattern in settings.source_hosts):
        raise SourceRefusedError(f"sources on {host!r} are not allowed here; {_INSTEAD}")


def parse_s3(settings: ServiceSettings, url: str) -> tuple[str, str]:
    """(bucket, key) of an s3:// address.

    Raises:
        SourceRefusedError: If the bucket is not an allowed one.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if bucket not in settings.source_buckets:
        raise SourceRefusedError(f"sources in the bucket {bucket!r} are not allowed here; {_INSTEAD}")
    return bucket, key


def open_bucket(bucket: str) -> S3Store:
    """A bucket, with the credentials and endpoint of the usual AWS_... variables."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return S3Store(
        bucket,
        client_options={"allow_http": endpoint.startswith("http://")},
        # By default a request to a server that is away takes minutes to fail; our callers try again.
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def describe_address(
    context: ServiceContext, caller: Caller, url: str, *, filename: str | None
) -> FetchedSource:
    """What is kept of an address that is to be fetched.

    Raises:
        ForbiddenError: If the caller's key may not read there.
        SourceRefusedError: If it may not be fetched.
    """
    check_prefix(caller, url)
    check_source_url(context.settings, url)
    end = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    return FetchedSource(
        url=url,
        filename=clean_filename(filename or end),
        max_bytes=effective_limit(context, caller, "max_upload_bytes"),
        max_output_pixels=caller.limits.max_output_pixels,
    )


async def fetch_into(context: ServiceContext, source: FetchedSource, path: Path, *, num_tries: int) -> None:
    """Fetches an address into a file, going on where an earlier attempt has left it.

    Args:
        context: Of the process.
        source: The address.
        path: Of the file; `remove_download` removes it.
        num_tries: Without a new byte, before it is given up.

    Raises:
        ServiceError: If the address is refused, fails, or is too large.
        StorageFullError: If there is no room.
    """
    url, settings = source.url, context.settings
    check_source_url(settings, url)
    fetch = _fetch_s3 if url.startswith("s3://") else _fetch_http
    try:
        async with asyncio.timeout(_TOTAL_SECONDS):
            check_room = partial(check_incoming_room, context)
            with Download(path, url, max_bytes=source.max_bytes, check_room=check_room) as download:
                num_failures = 0
                while not download.is_complete:
                    before = download.num_bytes
                    try:
                        await fetch(settings, url, download)
                        return
                    except _InterruptedError as error:
                        num_failures = 1 if download.num_bytes > before else num_failures + 1
                        if num_failures >= num_tries:
                            raise SourceFailedError(str(error)) from error
                        _log.info("source.interrupted", error=str(error), num_bytes=download.num_bytes)
                        await asyncio.sleep(_BACKOFF_SECONDS * 2 ** (num_failures - 1))
    except TimeoutError as error:
        raise SourceFailedError(f"{url!r} took longer than {_TOTAL_SECONDS:g} s") from error


async def _fetch_http(settings: ServiceSettings, url: str, download: Download) -> None:
    transport = PinnedTransport(allow_private=settings.allow_private_targets)
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=10)
    headers = {"User-Agent": "dovetail", "Accept-Encoding": "identity"}
    if download.num_bytes and download.etag:
        headers |= {"Range": f"bytes={download.num_bytes}-", "If-Range": download.etag}
    async with httpx.AsyncClient(transport=transport, timeout=timeout, headers=headers) as client:
        try:
            for _ in range(MAX_REDIRECTS + 1):
                check_source_url(settings, url)
                async with client.stream("GET", url, follow_redirects=False) as answer:
                    location = answer.headers.get("location")
                    if answer.status_code in _REDIRECTS and location:
                        url = urljoin(url, location)
                        continue
                    _check_answer(url, answer)
                    await run_in_threadpool(_place_answer, answer, download)
                    await _take(answer.aiter_raw(), download)
                    if download.total is not None and not download.is_complete:
                        raise _InterruptedError(f"{url!r} ended early")
                    return
        except HostNotFoundError as error:
            raise _InterruptedError(str(error)) from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise _InterruptedError(f"{url!r} cannot be fetched: {type(error).__name__}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceFailedError(f"{url!r} cannot be fetched: {type(error).__name__}") from error
    raise SourceFailedError(f"{url!r} comes after more than {MAX_REDIRECTS} redirects")


def _check_answer(url: str, answer: httpx.Response) -> None:
    status = answer.status_code
    if status in PASSING_STATUSES:
        raise _InterruptedError(f"{url!r} answers {status}")
    if status not in (200, 206, 416):
        raise SourceFailedError(f"{url!r} answers {status}")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceFailedError("the source is compressed in transfer, which was not asked for")


def _place_answer(answer: httpx.Response, download: Download) -> None:
    """Makes a download ready for the body of an answer: to go on with it, or to begin anew."""
    if answer.status_code == 200:
        etag, length = answer.headers.get("etag", ""), answer.headers.get("content-length", "")
        download.begin(
            etag="" if etag.startswith("W/") else etag,
            total=int(length) if length.isascii() and length.isdigit() else None,
        )
        return
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if answer.status_code == 206 and found and int(found[1]) == download.num_bytes:
        return
    # What is there does not fit what the origin has: the next try takes all of it.
    download.begin(etag="", total=None)
    raise _InterruptedError(f"the source answers {answer.status_code} with a part that was not asked for")


async def _take(pieces: AsyncIterable[Buffer], download: Download) -> None:
    """Adds pieces in blocks, and what has come of the last one also where it breaks off."""
    block = bytearray()
    try:
        async for piece in pieces:
            block += piece
            if len(block) >= _BLOCK_BYTES:
                await run_in_threadpool(download.add, bytes(block))
                block.clear()
    finally:
        await run_in_threadpool(download.add, bytes(block))


async def _fetch_s3(settings: ServiceSettings, url: str, download: Download) -> None:
    bucket, key = parse_s3(settings, url)
    options: GetOptions = {}
    if download.num_bytes and download.etag:
        options = {"range": {"offset": download.num_bytes}, "if_match": download.etag}
    try:
        result = await obstore.get_async(open_bucket(bucket), key, options=options)
        if not options:
            total, etag = int(result.meta["size"]), result.meta["e_tag"] or ""
            await run_in_threadpool(download.begin, etag=etag, total=total)
        await _take(result.stream(min_chunk_size=_PIECE_BYTES), download)
    except (FileNotFoundError, NotFoundError) as error:
        raise SourceFailedError(f"there is no object {url!r}") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise SourceFailedError(f"{url!r} may not be read with this server's credentials") from error
    except PreconditionError as error:
        await run_in_threadpool(download.begin, etag="", total=None)
        raise _InterruptedError(f"{url!r} has changed") from error
    except (BaseError, OSError) as error:
        raise _InterruptedError(f"{url!r} cannot be fetched") from error


def _matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern, or lies below it if it begins with "*."."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern.rstrip(".")
