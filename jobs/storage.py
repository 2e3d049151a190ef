"""Objects (uploads, segments, results) in a folder or in S3, through one interface."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import LocalStore, S3Store

from jobs.errors import ObjectChangedError, ObjectNotFoundError, StorageError, StorageFullError
from jobs.multipart import MultipartBucket
from jobs.storage_folder import placing, require_disk_room

if TYPE_CHECKING:
    from obstore import GetOptions  # there for type checkers only

CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_LIST_PAGE = 1000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing tells it.

    Attributes:
        key: Name.
        size_bytes: Size.
        modified_at: UTC.
    """

    key: str
    size_bytes: int
    modified_at: datetime


class Storage:
    """Objects by key. Writing is all or nothing: an object is either not there or whole. Thread-safe.

    Args:
        url: A folder, which is made where it is missing, or `s3://bucket/prefix`. Credentials, region and
            endpoint come from the usual AWS_... variables; an endpoint with http:// is accepted.
        min_free_bytes: Room on a folder's disk that is not to be used.
        retry_seconds: How long a request to S3 is tried again.
        public_endpoint: Of signed addresses, where customers reach S3 by another one than we do.

    Raises:
        StorageError: If the address is no such thing.
    """

    def __init__(
        self,
        url: str,
        *,
        min_free_bytes: int = 0,
        retry_seconds: float = 30,
        public_endpoint: str | None = None,
    ) -> None:
        self.url, self._min_free_bytes = url, min_free_bytes
        self._retry_seconds, self._public_endpoint = retry_seconds, public_endpoint
        self.folder: Path | None = None
        self._store: LocalStore | S3Store
        parts = urlsplit(url)
        if parts.scheme == "s3" and parts.netloc:
            self._store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={"allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")},
                # By default a request to a server that is away takes minutes to fail.
                retry_config={"max_retries": 10, "retry_timeout": timedelta(seconds=retry_seconds)},
            )
        elif parts.scheme in ("", "file"):
            self.folder = Path(parts.path if parts.scheme else url).absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self.folder)
        else:
            raise StorageError(f"{url!r} is not a storage; give a folder or s3://bucket/prefix")

    @cached_property
    def multipart(self) -> MultipartBucket | None:
        """Objects in parts and signed addresses, where this is S3."""
        if self.folder is not None:
            return None
        parts = urlsplit(self.url)
        return MultipartBucket(
            parts.netloc,
            parts.path.strip("/"),
            public_endpoint=self._public_endpoint,
            retry_seconds=self._retry_seconds,
        )

    def put_file(self, key: str, path: Path, *, is_movable: bool = False) -> None:
        """Stores a file. In a folder it is on the disk when this returns, and so is its name.

        Args:
            key: Name.
            path: The file.
            is_movable: Whether it may be moved instead of copied, which takes no time on the same disk.

        Raises:
            StorageFullError: If there is no room.
            StorageError: If it cannot be stored.
        """
        if self.folder is None:
            with _reported(key), path.open("rb") as file:
                self._store.put(key, file, use_multipart=True, chunk_size=_PART_BYTES)
            return
        self.check_room(0 if is_movable else path.stat().st_size)
        with _reported(key), placing(self.folder / key, is_movable=is_movable) as part:
            if is_movable:
                shutil.move(path, part)
            else:
                shutil.copyfile(path, part)

    def put_bytes(self, key: str, content: bytes) -> None:
        """Stores a small object. In a folder it is on the disk when this returns, and so is its name.

        Raises:
            StorageFullError: If there is no room.
            StorageError: If it cannot be stored.
        """
        if self.folder is None:
            with _reported(key):
                self._store.put(key, content)
            return
        self.check_room(len(content))
        with _reported(key), placing(self.folder / key) as part:
            part.write_bytes(content)

    def get_bytes(
        self, key: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """Reads an object, or a range of it that lies within it, at once.

        Args:
            key: Name.
            offset: Of the range.
            length: Of the range; None is to the end.
            version: From `identify`; another version is an error.

        Raises:
            ObjectNotFoundError: If there is none.
            ObjectChangedError: If it has another version.
            StorageError: If it cannot be read.
        """
        with _reported(key):
            options: GetOptions = {} if version is None else {"if_match": version}
            if offset or length is not None:
                options["range"] = (offset, self.size(key) if length is None else offset + length)
            return bytes(self._store.get(key, options=options).bytes())

    def identify(self, key: str) -> tuple[int, str]:
        """Size of an object in bytes, and what tells its content from what had its name before.

        Raises:
            ObjectNotFoundError: If there is none.
            StorageError: If it cannot be asked for.
        """
        with _reported(key):
            meta = self._store.head(key)
        return int(meta["size"]), meta["e_tag"] or str(meta["last_modified"])

    async def stream(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Reads an object in pieces of about a MiB, without holding more than a few of them.

        Raises:
            ObjectNotFoundError: If there is none.
            StorageError: If it cannot be read.
        """
        with _reported(key):
            end = self.size(key) if length is None else offset + length
            if end <= offset:
                return
            result = await obstore.get_async(self._store, key, options={"range": (offset, end)})
            async for piece in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(piece)

    @contextmanager
    def local_file(self, key: str, *, work_dir: Path) -> Iterator[Path]:
        """The object as a file to be read: in place where objects are files, else a copy in `work_dir` that
        is removed afterwards.

        Raises:
            ObjectNotFoundError: If there is none.
            StorageFullError: If there is no room for the copy.
            StorageError: If it cannot be read.
        """
        if self.folder is not None:
            path = self.folder / key
            if not path.is_file():
                raise ObjectNotFoundError(f"there is no object {key}")
            yield path
            return
        copy = work_dir / key.replace("/", "_")
        try:
            with _reported(key), copy.open("wb") as file:
                for piece in self._store.get(key).stream(min_chunk_size=CHUNK_BYTES):
                    file.write(piece)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        """Size in bytes.

        Raises:
            ObjectNotFoundError: If there is none.
        """
        return self.identify(key)[0]

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        try:
            self.size(key)
        except ObjectNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Removes an object; harmless if there is none."""
        try:
            with _reported(key):
                self._store.delete(key)
        except ObjectNotFoundError:
            return

    def delete_prefix(self, prefix: str) -> int:
        """Removes all objects whose keys begin with `prefix`, a name with a slash at its end.

        Returns:
            How many.
        """
        count = 0
        for stored in list(self.list(prefix)):
            self.delete(stored.key)
            count += 1
        if self.folder is not None:
            shutil.rmtree(self.folder / prefix, ignore_errors=True)
        return count

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects whose keys begin with `prefix`."""
        with _reported(prefix):
            for page in self._store.list(prefix or None, chunk_size=_LIST_PAGE):
                for meta in page:
                    yield StoredObject(meta["path"], int(meta["size"]), meta["last_modified"])

    def check_room(self, num_bytes: int) -> None:
        """Makes sure that so many bytes fit on a folder's disk. S3 tells by itself.

        Raises:
            StorageFullError: If they do not.
        """
        if self.folder is not None:
            require_disk_room(self.folder, num_bytes, min_free_bytes=self._min_free_bytes)

    def check(self) -> None:
        """Makes sure that the storage answers.

        Raises:
            StorageError: If it does not.
        """
        with _reported("(listing)"):
            next(iter(self._store.list("uploads/", chunk_size=1)), None)


@contextmanager
def _reported(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError(f"there is no object {key}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"no room in the storage for {key}") from error
        raise StorageError(f"the storage failed at {key}: {error.strerror or error}") from error
    except PreconditionError as error:
        raise ObjectChangedError(f"the object {key} has changed while it was read") from error
    except BaseError as error:
        if "No space left" in str(error):
            raise StorageFullError(f"no room in the storage for {key}") from error
        raise StorageError(f"the storage failed at {key}: {error}") from error
