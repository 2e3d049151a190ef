"""Fetches what an address names into a file: bounded in size and time, from allowed hosts and buckets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from uuid import uuid4

import httpx
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from jobs.records import InputInfo
from jobs.settings import ServiceSettings
from service.auth import Caller, effective_limits
from service.context import ServiceContext
from service.errors import InvalidRequestError, TooLargeError
from service.jobs.service import probe_file
from service.outgoing import PinnedTransport, SourceRefusedError, check_url
from service.room import GuardedFile, check_incoming_room

MAX_REDIRECTS = 3
_BLOCK_BYTES = 1 << 20
# Between two pieces of the body, and for the whole of it.
_SILENCE_SECONDS = 30.0
_TOTAL_SECONDS = 4 * 3600.0
# What is allowed is the operator's, and would tell strangers where to look.
_INSTEAD = "ask who runs this service to allow it, or send the file along"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class SourceFailedError(InvalidRequestError):
    """Raised when an address is allowed, but what it names cannot be fetched."""

    code, title = "source_failed", "Source cannot be fetched"


@dataclass(frozen=True)
class FetchedSource:
    """What was fetched.

    Attributes:
        path: The file.
        filename: Last part of the address.
        found: What the probe found.
    """

    path: Path
    filename: str
    found: InputInfo


def check_source_url(settings: ServiceSettings, url: str) -> None:
    """Checks an address against what the installation allows, as far as it goes without asking anybody.

    Raises:
        SourceRefusedError: If it may not be fetched.
    """
    if url.startswith("s3://"):
        parse_s3(settings, url)
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
    return S3Store(bucket, client_options={"allow_http": endpoint.startswith("http://")})


@asynccontextmanager
async def fetched_source(context: ServiceContext, caller: Caller, url: str) -> AsyncIterator[FetchedSource]:
    """Fetches an address; the file is removed after the block unless it was moved away.

    Raises:
        ServiceError: If it is refused, fails, is too large or no video.
        StorageFullError: If there is no room.
    """
    check_source_url(context.settings, url)
    path = context.incoming_dir / f"source-{uuid4().hex}"
    try:
        with closing(_Receiver(context, caller, path)) as receiver:
            try:
                async with asyncio.timeout(_TOTAL_SECONDS):
                    if url.startswith("s3://"):
                        await _fetch_s3(context.settings, url, receiver)
                    else:
                        await _fetch_http(context.settings, url, receiver)
            except TimeoutError as error:
                raise SourceFailedError(f"{url!r} took longer than {_TOTAL_SECONDS:g} s") from error
        filename = unquote(urlsplit(url).path.rsplit("/", 1)[-1]) or "video"
        found = await probe_file(context, path, filename, owner=caller.owner)
        yield FetchedSource(path, filename, found)
    finally:
        path.unlink(missing_ok=True)


class _Receiver:
    """Writes what comes, in blocks, up to a limit."""

    def __init__(self, context: ServiceContext, caller: Caller, path: Path) -> None:
        self._context, self._caller = context, caller
        self._limit = effective_limits(context, caller).max_upload_bytes
        self._file = GuardedFile(context, path.open("wb"))
        self._num_bytes = 0

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def check_size(self, num_bytes: int) -> None:
        """Refuses what is too large before it comes."""
        if num_bytes > self._limit:
            raise TooLargeError(f"the source has {num_bytes} bytes, {self._limit} are accepted")
        check_incoming_room(self._context, num_bytes)

    async def take(self, piece: bytes) -> None:
        self._num_bytes += len(piece)
        if self._num_bytes > self._limit:
            raise TooLargeError(f"the source has more than the {self._limit} bytes that are accepted")
        await self._context.lanes.storage.run(self._caller.owner, self._file.write, piece)


async def _fetch_http(settings: ServiceSettings, url: str, receiver: _Receiver) -> None:
    transport = PinnedTransport(allow_private=settings.allow_private_targets)
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=10)
    headers = {"User-Agent": "dovetail", "Accept-Encoding": "identity"}
    async with httpx.AsyncClient(transport=transport, timeout=timeout, headers=headers) as client:
        try:
            for _ in range(MAX_REDIRECTS + 1):
                check_source_url(settings, url)
                async with client.stream("GET", url, follow_redirects=False) as answer:
                    location = answer.headers.get("location")
                    if answer.status_code in _REDIRECTS and location:
                        url = urljoin(url, location)
                        continue
                    if answer.status_code != 200:
                        raise SourceFailedError(f"{url!r} answers {answer.status_code}")
                    await _take_body(answer, receiver)
                    return
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise SourceFailedError(f"{url!r} cannot be fetched: {type(error).__name__}") from error
    raise SourceFailedError(f"{url!r} comes after more than {MAX_REDIRECTS} redirects")


async def _take_body(answer: httpx.Response, receiver: _Receiver) -> None:
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceFailedError("the source is compressed in transfer, which was not asked for")
    length = answer.headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        receiver.check_size(int(length))
    async for piece in answer.aiter_raw(_BLOCK_BYTES):
        await receiver.take(piece)


async def _fetch_s3(settings: ServiceSettings, url: str, receiver: _Receiver) -> None:
    bucket, key = parse_s3(settings, url)
    if not key or key.endswith("/"):
        raise SourceRefusedError(f"{url!r} names no object")
    try:
        result = await obstore.get_async(open_bucket(bucket), key)
        receiver.check_size(int(result.meta["size"]))
        async for piece in result.stream(min_chunk_size=_BLOCK_BYTES):
            await receiver.take(bytes(piece))
    except FileNotFoundError as error:
        raise SourceFailedError(f"there is no object {url!r}") from error
    except (BaseError, OSError) as error:
        raise SourceFailedError(f"{url!r} cannot be fetched") from error


def _matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern, or lies below it if it begins with "*."."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern.rstrip(".")
