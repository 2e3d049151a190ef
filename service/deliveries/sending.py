"""Sends one result to one address, whole or not at all."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from jobs.multipart import part_bytes
from jobs.records import Job, OutputInfo
from jobs.transfers import public_address
from service.context import ServiceContext
from service.deliveries.targets import TargetRefusedError, check_target, parse_target
from service.errors import InvalidRequestError
from service.outgoing import PASSING_STATUSES, HostNotFoundError, PinnedTransport, SourceRefusedError
from service.results.service import OUTPUT_TYPES
from service.sources.fetching import open_bucket

_TOTAL_SECONDS = 4 * 3600.0
# Some servers say nothing while they put a large object in its place.
_SILENCE_SECONDS, _ANSWER_SECONDS = 30.0, 120.0
# Of 8 MiB, in memory.
_PARTS_AT_ONCE = 4


class TargetFailedError(InvalidRequestError):
    """Raised when a result cannot be sent to an address.

    Attributes:
        is_passing: Whether it may have more luck later.
    """

    code, title = "target_failed", "Delivery failed"

    def __init__(self, detail: str, *, is_passing: bool) -> None:
        super().__init__(detail)
        self.is_passing = is_passing


async def send_result(context: ServiceContext, job: Job, output: OutputInfo, url: str) -> None:
    """Sends a result; harmless to repeat.

    Args:
        context: Of the process.
        job: Whose result.
        output: The result.
        url: Of an object in a bucket, or to PUT it to.

    Raises:
        TargetRefusedError: If it may not be sent there.
        TargetFailedError: If the other side refuses it, or does not answer. Says nothing that is secret.
        StorageError: If it cannot be read.
    """
    send = _put_object if url.startswith("s3://") else _put
    try:
        check_target(context.settings, url)
        async with asyncio.timeout(_TOTAL_SECONDS):
            await send(context, output, url, OUTPUT_TYPES[job.spec.options.container])
    except (TargetRefusedError, SourceRefusedError) as error:
        message = str(error).replace(url, public_address(url))
        if isinstance(error, HostNotFoundError):
            raise TargetFailedError(message, is_passing=True) from error
        raise TargetRefusedError(message) from error
    except TimeoutError as error:
        raise TargetFailedError(f"it took longer than {_TOTAL_SECONDS:g} s", is_passing=True) from error


async def _put(context: ServiceContext, output: OutputInfo, url: str, media_type: str) -> None:
    """A PUT whose body is the file. Redirects are not followed."""
    headers = {
        "User-Agent": "dovetail",
        "Content-Type": media_type,
        "Content-Length": str(output.size_bytes),
        # RFC 9530. Not Content-MD5: older ways of signing take it into the signature, which is not ours.
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(output.sha256)).decode()}:",
    }
    if {"sv", "sig"} <= parse_qs(urlsplit(url).query).keys():  # Azure asks for it
        headers["x-ms-blob-type"] = "BlockBlob"
    timeout = httpx.Timeout(_SILENCE_SECONDS, read=_ANSWER_SECONDS, connect=10)
    transport = PinnedTransport(allow_private=context.settings.allow_private_targets)
    content = context.storage.stream(output.key, length=output.size_bytes)
    async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
        try:
            async with client.stream("PUT", url, content=content, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise TargetFailedError(
                f"{public_address(url)} does not take it: {type(error).__name__}", is_passing=True
            ) from error
    if not 200 <= status < 300:
        raise TargetFailedError(
            f"{public_address(url)} answers {status}", is_passing=status in PASSING_STATUSES
        )


async def _put_object(context: ServiceContext, output: OutputInfo, url: str, media_type: str) -> None:
    """An object in an allowed bucket; S3 shows it when all of its parts are there."""
    bucket, key = parse_target(url)
    try:
        await obstore.put_async(
            open_bucket(bucket),
            key,
            context.storage.stream(output.key, length=output.size_bytes),
            attributes={"Content-Type": media_type, "sha256": output.sha256},
            chunk_size=part_bytes(output.size_bytes),
            max_concurrency=_PARTS_AT_ONCE,
            use_multipart=True,
        )
    except (FileNotFoundError, NotFoundError) as error:
        raise TargetFailedError(f"there is no bucket {bucket!r}", is_passing=False) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise TargetFailedError(
            f"{url!r} may not be written with this server's credentials", is_passing=False
        ) from error
    except (BaseError, OSError) as error:
        raise TargetFailedError(f"{url!r} cannot be written", is_passing=True) from error
