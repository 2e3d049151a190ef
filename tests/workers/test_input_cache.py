"""Inputs by blocks: fetched once for all workers of a machine, within a limit, whoever dies meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ObjectChangedError, ObjectNotFoundError
from jobs.storage import Storage
from workers import input_cache
from workers.input_cache import BLOCK_BYTES, CachedInput, InputCache

KEY = "uploads/film"
FILM = random.Random(1).randbytes(20 * BLOCK_BYTES + 12345)


class CountingStorage(Storage):
    """Remembers what was fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.fetched: list[tuple[int, int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def get_bytes(self, key: str, **options: Any) -> bytes:
        self.fetched.append((options["offset"] // BLOCK_BYTES, options["length"]))
        assert self.may_answer.wait(30)
        return super().get_bytes(key, **options)


@pytest.fixture
def storage(tmp_path: Path) -> CountingStorage:
    storage = CountingStorage(tmp_path / "storage")
    storage.put_bytes(KEY, FILM)
    return storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(storage: Storage, folder: Path, *, max_bytes: int = 1 << 30, **options: int) -> CachedInput:
    """As another worker opens it: nothing in memory."""
    return CachedInput(storage, KEY, InputCache(folder, max_bytes=max_bytes, **options))


def blocks(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*/*"))


def test_only_blocks_that_are_read_are_fetched_and_only_once(storage: CountingStorage, folder: Path) -> None:
    first = opened(storage, folder)
    assert first.size_bytes == len(FILM)
    place = 4 * BLOCK_BYTES - 100
    assert first.read(place, 50) == FILM[place : place + 50]
    assert first.read(place, 200) == FILM[place : place + 200]
    assert first.read(10, 20) == FILM[10:30]
    assert sum(length for _, length in storage.fetched) <= 4 * BLOCK_BYTES
    before = list(storage.fetched)
    second = opened(storage, folder)
    assert second.read(place, 200) == FILM[place : place + 200]
    assert storage.fetched == before


def test_what_is_read_on_comes_in_larger_pieces(storage: CountingStorage, folder: Path) -> None:
    content = opened(storage, folder)
    pieces = [content.read(at, min(100_000, len(FILM) - at)) for at in range(0, len(FILM), 100_000)]
    assert b"".join(pieces) == FILM
    assert [number for number, _ in storage.fetched] == [0, 1, 2, 3, 4, 6, 9, 13, 19]


def test_workers_fetch_a_block_once(
    storage: CountingStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.may_answer.clear()
    arrived, flock = threading.Semaphore(0), fcntl.flock

    def announced(descriptor: int, operation: int) -> None:
        arrived.release()
        flock(descriptor, operation)

    monkeypatch.setattr(input_cache.fcntl, "flock", announced)
    results: list[bytes] = []
    readers = [opened(storage, folder) for _ in range(3)]
    threads = [threading.Thread(target=lambda r=reader: results.append(r.read(5, 9))) for reader in readers]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=30)
    storage.may_answer.set()
    for thread in threads:
        thread.join()
    assert results == [FILM[5:14]] * 3
    assert len(storage.fetched) == 1


@pytest.mark.parametrize("damage", [b"", b"x" * (BLOCK_BYTES + 4)])
def test_a_damaged_block_is_fetched_again(storage: CountingStorage, folder: Path, damage: bytes) -> None:
    opened(storage, folder).read(0, 10)
    (path,) = folder.glob("*/0")
    path.write_bytes(damage)
    assert opened(storage, folder).read(0, 10) == FILM[:10]
    assert opened(storage, folder).read(0, 10) == FILM[:10]
    assert len(storage.fetched) == 2


def test_a_block_whose_worker_was_killed_is_fetched_by_the_next(
    storage: CountingStorage, folder: Path
) -> None:
    opened(storage, folder).read(0, 10)
    (block,) = folder.glob("*/0")
    block.rename(block.with_suffix(".part"))
    block.with_suffix(".part").write_bytes(b"half")
    assert opened(storage, folder).read(0, 10) == FILM[:10]
    assert [path.name for path in folder.glob("*/*")] == ["0"]


def test_blocks_used_longest_ago_go_first(storage: CountingStorage, folder: Path) -> None:
    content = opened(storage, folder, max_bytes=4 * BLOCK_BYTES)
    for age, number in enumerate([3, 0, 4, 2]):
        content.read(number * BLOCK_BYTES, 1)
        for path in folder.glob(f"*/{number}"):
            os.utime(path, (age, age))
    opened(storage, folder).read(3 * BLOCK_BYTES, 1)  # of use again
    again = opened(storage, folder, max_bytes=4 * BLOCK_BYTES)
    again.read(1 * BLOCK_BYTES, 1)
    assert {1, 3} <= set(blocks(folder))
    assert 0 not in blocks(folder)
    assert sum(path.stat().st_size for path in folder.glob("*/*")) <= 4 * BLOCK_BYTES


def test_a_full_disk_costs_the_cache_only(
    storage: CountingStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(input_cache.os, "write", write)
    content = opened(storage, folder)
    assert b"".join(content.read(at, 10_000) for at in range(0, 2 * BLOCK_BYTES, 10_000))
    assert len(storage.fetched) <= 3  # what was fetched ahead is not lost
    assert list(folder.glob("*/*")) == []


def test_room_that_is_reserved_is_not_taken(storage: CountingStorage, folder: Path) -> None:
    content = opened(storage, folder, min_free_bytes=1 << 60)
    assert content.read(7, 9) == FILM[7:16]
    assert list(folder.glob("*/*")) == []


def test_without_a_limit_above_zero_nothing_is_kept(storage: CountingStorage, folder: Path) -> None:
    assert opened(storage, folder, max_bytes=0).read(7, 9) == FILM[7:16]
    assert not folder.exists()


def test_nobody_else_may_look(storage: CountingStorage, folder: Path) -> None:
    opened(storage, folder).read(0, 1)
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}


def test_an_object_that_changes_or_goes_is_named(storage: CountingStorage, folder: Path) -> None:
    content = opened(storage, folder)
    content.read(0, 1)
    storage.put_bytes(KEY, FILM[::-1])
    with pytest.raises(ObjectChangedError, match="uploads/film"):
        content.read(2 * BLOCK_BYTES, 1)
    assert opened(storage, folder).read(0, 5) == FILM[::-1][:5]
    storage.delete(KEY)
    with pytest.raises(ObjectNotFoundError):
        content.read(3 * BLOCK_BYTES, 1)
    assert list(folder.glob("*/*.part")) == []
    with pytest.raises(ObjectNotFoundError):
        opened(storage, folder)
