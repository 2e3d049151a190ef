"""The headers of the tus protocol 1.0: reading those of requests, and those of every response."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from jobs.errors import JobsError
from jobs.upload_records import Upload
from service.errors import (
    ConflictError,
    MalformedRequestError,
    ServiceError,
    UnsupportedMediaError,
    from_jobs_error,
)
from service.problems import invalid_request

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
CHECKSUM_ALGORITHMS = ("sha1", "sha256", "md5", "crc32")
BODY_TYPE = "application/offset+octet-stream"
_MAX_METADATA_BYTES = 8192
_MAX_DIGITS = 15


class TusVersionError(ServiceError):
    """Raised when a request does not say that it speaks version 1.0.0."""

    status, code, title = 412, "unsupported_tus_version", "Unsupported version of tus"


class ChecksumError(ServiceError):
    """Raised when a body is not what its checksum says. Nothing of it is kept."""

    status, code, title = 460, "checksum_mismatch", "Checksum mismatch"


class UploadLockedError(ServiceError):
    """Raised when another request is writing to the upload."""

    status, code, title = 423, "locked", "Locked"


class WrongOffsetError(ConflictError):
    """Raised when an upload is at another offset than the sender believes."""

    def __init__(self, detail: str, *, offset: int) -> None:
        super().__init__(detail, code="wrong_offset", headers={"Upload-Offset": str(offset)})


class TusRoute(APIRoute):
    """A route whose responses, problems too, carry `Tus-Resumable`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_tus(request: Request) -> Response:
            try:
                response = await handle(request)
            except ServiceError as error:
                problem = error
            except JobsError as error:
                problem = from_jobs_error(error)
            except RequestValidationError as error:
                problem = invalid_request(error.errors())
            else:
                response.headers["Tus-Resumable"] = VERSION
                return response
            problem.headers = {**problem.headers, "Tus-Resumable": VERSION}
            raise problem

        return handle_tus


def check_version(version: str | None) -> None:
    """Checks `Tus-Resumable`.

    Raises:
        TusVersionError: If it is not 1.0.0.
    """
    if version != VERSION:
        raise TusVersionError(
            f"Tus-Resumable is {version!r}; send {VERSION}", headers={"Tus-Version": VERSION}
        )


def parse_size(name: str, value: str | None) -> int:
    """A header with a number of bytes.

    Raises:
        MalformedRequestError: If it is missing or no whole number.
    """
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > _MAX_DIGITS:
        raise MalformedRequestError(f"{name} is {value!r}; send a whole number of bytes")
    return int(value)


def check_body_type(value: str | None) -> None:
    """Checks the `Content-Type` of bytes to be appended.

    Raises:
        UnsupportedMediaError: If it is another.
    """
    if (value or "").partition(";")[0].strip().lower() != BODY_TYPE:
        raise UnsupportedMediaError(f"the Content-Type is {value!r}; send {BODY_TYPE}")


def parse_metadata(value: str | None) -> dict[str, str]:
    """`Upload-Metadata`: pairs of a name and a base64 value.

    Raises:
        MalformedRequestError: If it is too long, repeats a name, or a value is no base64 of UTF-8.
    """
    if value is None or not value.strip():
        return {}
    if len(value) > _MAX_METADATA_BYTES:
        raise MalformedRequestError(f"Upload-Metadata has more than {_MAX_METADATA_BYTES} characters")
    found: dict[str, str] = {}
    for pair in value.split(","):
        name, _, encoded = pair.strip().partition(" ")
        if not name or not name.isascii() or name in found:
            raise MalformedRequestError(f"Upload-Metadata has an empty, repeated or odd name: {name!r}")
        try:
            found[name] = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise MalformedRequestError(f"the value of {name!r} in Upload-Metadata is no base64") from error
    return found


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


@dataclass
class Checksum:
    """What a body is announced to be.

    Attributes:
        algorithm: Name.
        expected: Digest that was announced.
    """

    algorithm: str
    expected: bytes

    def __post_init__(self) -> None:
        self._hash: _Hash = (
            _Crc32()
            if self.algorithm == "crc32"
            else hashlib.new(self.algorithm, usedforsecurity=False)  # against accidents only
        )

    def update(self, data: bytes) -> None:
        """Takes the next bytes in."""
        self._hash.update(data)

    def check(self) -> None:
        """Compares what came with what was announced.

        Raises:
            ChecksumError: If they differ.
        """
        found = self._hash.digest()
        if found != self.expected:
            raise ChecksumError(
                f"the {self.algorithm} of the body is {base64.b64encode(found).decode()}, announced was "
                f"{base64.b64encode(self.expected).decode()}; send it again"
            )


def parse_checksum(value: str | None) -> Checksum | None:
    """`Upload-Checksum`: an algorithm and a base64 digest; crc32 as four bytes, the highest first.

    Raises:
        MalformedRequestError: If it is another algorithm, or no base64.
    """
    if value is None:
        return None
    algorithm, _, encoded = value.strip().partition(" ")
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise MalformedRequestError(
            f"Upload-Checksum is by {algorithm!r}; accepted are {', '.join(CHECKSUM_ALGORITHMS)}"
        )
    try:
        return Checksum(algorithm, base64.b64decode(encoded.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise MalformedRequestError("the digest in Upload-Checksum is no base64") from error


def upload_headers(upload: Upload) -> dict[str, str]:
    """How far an upload is, and until when it is kept."""
    return {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": format_datetime(upload.expires_at.replace(microsecond=0), usegmt=True),
        "Cache-Control": "no-store",
    }
