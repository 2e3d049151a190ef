"""Blocks of inputs on the disk, shared by the workers of a machine, so that none is fetched twice.

Each block is a file of its own that appears under its name when it is whole, with a checksum at its end: a
reader sees all of it or nothing, whoever is killed, and if the machine is. One worker fetches a block, others
wait for it at a lock that the kernel drops with its holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from jobs.errors import StorageError
from jobs.storage import Storage

_log: Any = structlog.get_logger(__name__)

BLOCK_BYTES = 1 << 18
# Read on without a gap, an input comes in larger pieces, each half as long as all before: a request takes
# tens of milliseconds, and what is fetched in vain stays small beside what is read.
_MAX_BLOCKS_AT_ONCE = 32
# A block that another one has fetched may be gone again; then it is fetched without the cache.
_MAX_TRIES = 3
_CHECKSUM_BYTES = 4
_PART = ".part"
# Of the limit: how much is written from one look at all blocks to the next, and what is left by it.
_LOOK_SHARE, _KEPT_SHARE = 1 / 64, 0.9
# How exactly it is known when a block was used last.
_TOUCH_SECONDS = 60.0


class InputCache:
    """Blocks by folder and number. Safe for any number of threads and processes.

    What goes wrong with the disk is no error: then blocks are fetched again.

    Args:
        folder: Where; made if it is missing, for this user alone.
        max_bytes: Of all blocks together, give or take what is written from one look to the next; 0 keeps
            none.
        min_free_bytes: Room on the disk that is not to be used.

    Raises:
        OSError: If the folder cannot be made, or is another user's.
    """

    def __init__(self, folder: Path, *, max_bytes: int, min_free_bytes: int = 0) -> None:
        self.folder = folder
        self._max_bytes, self._min_free_bytes = max_bytes, min_free_bytes
        self._lock, self._num_unseen = Lock(), max_bytes  # so that the first block looks at what is there
        if max_bytes:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise PermissionError(f"the folder of inputs {folder} belongs to another user")
            folder.chmod(0o700)

    def get(self, name: str, number: int) -> bytes | None:
        """A block, if it is there."""
        path = self.folder / name / str(number)
        try:
            with path.open("rb") as file:
                content = file.read()
                if time.time() - os.fstat(file.fileno()).st_mtime > _TOUCH_SECONDS:
                    os.utime(file.fileno())
        except OSError:
            return None
        data, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if checksum != _checksum(data):  # the machine lost power
            _unlink(path)
            return None
        return data

    @contextmanager
    def claimed(self, name: str, number: int, *, waits: bool) -> Iterator[Callable[[bytes], None] | None]:
        """For whoever fetches a block, while the block of code runs.

        Args:
            name: Folder.
            number: Of the block.
            waits: Whether to wait for one who fetches it.

        Yields:
            What keeps the block; None if it is there by now, or is being fetched.
        """
        part = self.folder / name / f"{number}{_PART}"
        with ExitStack() as stack:
            try:
                descriptor = self._open_locked(part, waits=waits) if self._max_bytes else None
            except BlockingIOError:
                yield None
                return
            except OSError:
                descriptor = None
            if descriptor is None:
                yield lambda data: None
                return
            stack.callback(os.close, descriptor)
            stack.callback(_unlink, part)  # while it is locked; as a block it has another name
            if part.with_suffix("").exists():
                yield None
                return
            yield lambda data: self._keep(part, descriptor, data)

    def _open_locked(self, part: Path, *, waits: bool) -> int:
        """A lock that nobody else has, on a file that has this name.

        Raises:
            BlockingIOError: If somebody has it, and is not waited for.
            OSError: If it cannot be had.
        """
        while True:
            part.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), part.stat()):
                        return descriptor
                # It has become a block meanwhile, or was removed.
                if part.with_suffix("").exists():
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _keep(self, part: Path, descriptor: int, data: bytes) -> None:
        try:
            self._make_room(len(data))
            os.ftruncate(descriptor, 0)
            view = memoryview(data + _checksum(data))
            while view:
                view = view[os.write(descriptor, view) :]
            part.rename(part.with_suffix(""))
        except OSError as error:
            _log.warning("input_cache.not_kept", reason=error.strerror or str(error))

    def _make_room(self, num_bytes: int) -> None:
        """Removes what was used longest ago, now and then."""
        with self._lock:
            self._num_unseen += num_bytes
            if self._num_unseen < self._max_bytes * _LOOK_SHARE:
                return
            self._num_unseen = 0
        blocks = sorted(self._blocks())
        total = sum(size for _, size, _ in blocks)
        free = shutil.disk_usage(self.folder).free
        limit = min(self._max_bytes, total + free - self._min_free_bytes)
        if total + num_bytes <= limit:
            return
        for _, size, path in blocks:
            if total + num_bytes <= limit * _KEPT_SHARE:
                break
            _remove(path)
            total -= size
        if shutil.disk_usage(self.folder).free - num_bytes < self._min_free_bytes:
            with self._lock:
                self._num_unseen = self._max_bytes  # the next block looks again
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _blocks(self) -> Iterator[tuple[float, int, Path]]:
        """When each was used last, its size, and the file."""
        for folder in self.folder.iterdir():
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it is empty
                continue
            for path in folder.iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path


class CachedInput:
    """An object of the storage, read by blocks through the cache. Thread-safe.

    Args:
        storage: Where it is.
        key: Of the object.
        cache: For its blocks.

    Raises:
        ObjectNotFoundError: If there is none.
        StorageError: If the storage does not answer.
    """

    def __init__(self, storage: Storage, key: str, cache: InputCache) -> None:
        self._storage, self._key, self._cache = storage, key, cache
        self.size_bytes, self._version = storage.identify(key)
        identity = f"{storage.url}\n{key}\n{self._version}\n{self.size_bytes}"
        self._name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._lock = Lock()
        self._recent: dict[int, bytes] = {}
        self._next, self._num_in_row = -1, 0

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of a range that lies within.

        Raises:
            ObjectNotFoundError: If the object is gone.
            ObjectChangedError: If it is another one now.
            StorageError: If it cannot be read.
        """
        end = offset + length
        numbers = range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        data = b"".join(map(self._block, numbers))
        start = offset - numbers.start * BLOCK_BYTES
        return data[start : start + length]

    def _block(self, number: int) -> bytes:
        with self._lock:
            found = self._recent.get(number)
        for _ in range(_MAX_TRIES):
            if found is not None:
                return found
            found = self._cache.get(self._name, number)
            if found is None:
                found = self._fetch(number)
            else:
                self._remember({number: found})
        return found or self._read_blocks(number, 1)[0]

    def _fetch(self, number: int) -> bytes | None:
        """A block, and those behind it that are likely to be read next and that nobody has or fetches; None
        if another one has fetched it."""
        in_row = self._num_in_row if number == self._next else 0
        wanted = min(max(1, in_row // 2), _MAX_BLOCKS_AT_ONCE)
        end = min(number + wanted, -(-self.size_bytes // BLOCK_BYTES))
        with ExitStack() as stack:
            keeps = []
            for ahead in range(number, end):
                claim = self._cache.claimed(self._name, ahead, waits=ahead == number)
                keep = stack.enter_context(claim)
                if keep is None:
                    break
                keeps.append(keep)
            if not keeps:
                return None
            self._next, self._num_in_row = number + len(keeps), in_row + len(keeps)
            pieces = self._read_blocks(number, len(keeps))
            for keep, piece in zip(keeps, pieces, strict=True):
                keep(piece)
        self._remember(dict(enumerate(pieces, start=number)))
        return pieces[0]

    def _remember(self, blocks: dict[int, bytes]) -> None:
        """The last ones stay in memory: a block is asked for in pieces, and may not be kept on the disk."""
        with self._lock:
            self._recent |= blocks
            for number in list(self._recent)[: -2 * _MAX_BLOCKS_AT_ONCE]:
                del self._recent[number]

    def _read_blocks(self, first: int, count: int) -> list[bytes]:
        start = first * BLOCK_BYTES
        length = min(count * BLOCK_BYTES, self.size_bytes - start)
        data = self._storage.get_bytes(self._key, offset=start, length=length, version=self._version)
        if len(data) != length:
            raise StorageError(f"the storage gave {len(data)} of {length} bytes of {self._key}")
        return [data[at : at + BLOCK_BYTES] for at in range(0, length, BLOCK_BYTES)]


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove(path: Path) -> None:
    """Removes a block, or one that nobody fetches any more."""
    with contextlib.suppress(OSError):
        if path.suffix != _PART:
            path.unlink()
            return
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
