"""What obstore does not offer of S3: objects in parts that several processes send one after another, and
signed addresses.

It speaks through botocore, which only processes of the service have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from jobs.errors import ObjectNotFoundError, StorageError

# Both are S3's; the last part may be smaller. Changing the first breaks uploads that are under way.
PART_BYTES = 8 << 20
MAX_PARTS = 10_000
_MIB = 1 << 20


def part_bytes(size_bytes: int) -> int:
    """The size of each part of an object but its last: all of one size, as some servers ask for."""
    wanted = -(-size_bytes // MAX_PARTS)
    return max(PART_BYTES, -(-wanted // _MIB) * _MIB)


class PartsChangedError(StorageError):
    """Raised when parts are not, or no longer, what they were when they were sent."""


@dataclass(frozen=True)
class StoredPart:
    """A part that has arrived.

    Attributes:
        number: From 1.
        etag: With its quotes, as S3 names the content.
        size_bytes: Size.
    """

    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True)
class OpenMultipart:
    """An object whose parts have not been put together.

    Attributes:
        key: Of the object that is to be.
        multipart_id: Of the attempt; there may be several for one key.
        started_at: UTC, by the server's clock.
    """

    key: str
    multipart_id: str
    started_at: datetime


class MultipartBucket:
    """A bucket, or what lies under a prefix of it. Credentials, region and endpoint come from the usual
    AWS_... variables. Thread-safe.

    Args:
        bucket: Name.
        prefix: Of all keys, without a slash at its end; "" for none.
        public_endpoint: Of signed addresses, where customers reach the bucket by another one than we do.
        retry_seconds: How long a request may wait for an answer.

    Raises:
        StorageError: By every method, when S3 refuses or does not answer.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, public_endpoint: str | None = None, retry_seconds: float = 30
    ) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
        self._client = _make_client(endpoint, retry_seconds)
        is_other = public_endpoint is not None and public_endpoint != endpoint
        self._signer = _make_client(public_endpoint, retry_seconds) if is_other else self._client

    @property
    def origin(self) -> str:
        """Scheme and host of signed addresses."""
        parts = urlsplit(self._sign("get_object", "any", {}, timedelta(minutes=1)))
        return f"{parts.scheme}://{parts.netloc}"

    def start(self, key: str) -> str:
        """Begins an object; returns the id of its parts."""
        with _reported(key):
            return str(self._client.create_multipart_upload(**self._named(key))["UploadId"])

    def put_part(self, key: str, multipart_id: str, number: int, content: bytes) -> str:
        """Sends a part, in place of an earlier one of that number.

        Returns:
            Its ETag.

        Raises:
            ObjectNotFoundError: If the object was put together or given up meanwhile.
        """
        with _reported(key):
            answer = self._client.upload_part(
                **self._named(key), UploadId=multipart_id, PartNumber=number, Body=content
            )
        return str(answer["ETag"])

    def parts(self, key: str, multipart_id: str) -> list[StoredPart]:
        """The parts that have arrived, in order.

        Raises:
            ObjectNotFoundError: If the object was put together or given up meanwhile.
        """
        with _reported(key):
            pages = self._client.get_paginator("list_parts").paginate(
                **self._named(key), UploadId=multipart_id
            )
            return [
                StoredPart(int(part["PartNumber"]), str(part["ETag"]), int(part["Size"]))
                for page in pages
                for part in page.get("Parts", ())
            ]

    def complete(self, key: str, multipart_id: str, etags: Iterable[str]) -> None:
        """Makes an object of its parts.

        Args:
            key: Of the object.
            multipart_id: Of its parts.
            etags: Of the parts from the first on.

        Raises:
            PartsChangedError: If S3 has other parts.
            ObjectNotFoundError: If the object was put together or given up meanwhile.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        with _reported(key):
            self._client.complete_multipart_upload(
                **self._named(key), UploadId=multipart_id, MultipartUpload={"Parts": parts}
            )

    def open_multiparts(self, prefix: str = "") -> Iterator[OpenMultipart]:
        """Objects that were begun and neither put together nor given up, of keys that begin with `prefix`.
        MinIO tells of those only whose whole key the prefix is."""
        with _reported(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for found in page.get("Uploads", ()):
                    key = str(found["Key"]).removeprefix(self._prefix)
                    yield OpenMultipart(key, str(found["UploadId"]), found["Initiated"])

    def abort(self, found: OpenMultipart) -> None:
        """Gives an object up and frees its parts; harmless to repeat."""
        try:
            with _reported(found.key):
                self._client.abort_multipart_upload(**self._named(found.key), UploadId=found.multipart_id)
        except ObjectNotFoundError:
            return

    def abort_all(self, key: str) -> None:
        """Gives up whatever was begun under a key."""
        for found in list(self.open_multiparts(key)):
            if found.key == key:
                self.abort(found)

    def sign_part(
        self, key: str, multipart_id: str, number: int, *, size_bytes: int, expires_in: timedelta
    ) -> str:
        """An address to PUT a part of just this size to."""
        # The length is signed, so S3 refuses any other.
        wanted = {"UploadId": multipart_id, "PartNumber": number, "ContentLength": size_bytes}
        return self._sign("upload_part", key, wanted, expires_in)

    def sign_get(self, key: str, *, headers: Mapping[str, str], expires_in: timedelta) -> str:
        """An address to GET an object from.

        Args:
            key: Of the object.
            headers: That the answer is to have: Content-Type, Content-Disposition, Cache-Control.
            expires_in: How long it may be used.
        """
        wanted = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        return self._sign("get_object", key, wanted, expires_in)

    def _sign(self, operation: str, key: str, wanted: Mapping[str, Any], expires_in: timedelta) -> str:
        with _reported(key):
            return str(
                self._signer.generate_presigned_url(
                    operation,
                    Params={**self._named(key), **wanted},
                    ExpiresIn=int(expires_in.total_seconds()),
                )
            )

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


def _make_client(endpoint: str | None, retry_seconds: float) -> Any:
    from botocore.config import Config
    from botocore.session import get_session

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    config = Config(
        signature_version="s3v4",
        # As obstore does it: servers of one's own seldom have a name for each bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=10,
        read_timeout=retry_seconds,
        max_pool_connections=32,
        # Many servers do not know the checksums that AWS has added since.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = get_session()
    session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
    return session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config)


@cache
def _data_loader(data_path: str | None) -> Any:
    """Keeps the description of S3, which takes a tenth of a second to read, for a second client."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


@contextmanager
def _reported(key: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("NoSuchUpload", "NoSuchKey"):
            raise ObjectNotFoundError(f"there are no parts of {key}") from error
        if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
            raise PartsChangedError(f"the parts of {key} have changed") from error
        raise StorageError(f"the storage failed at {key}: {code}") from error
    except BotoCoreError as error:
        raise StorageError(f"the storage failed at {key}: {type(error).__name__}") from error
