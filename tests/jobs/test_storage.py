"""Objects in a folder and in S3: the same behaviour, the latter over HTTP from a server of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jobs.errors import ObjectNotFoundError, StorageError, StorageFullError
from jobs.storage import CHUNK_BYTES, Storage

LARGE = os.urandom(17 << 20)  # more than one part of a multipart upload


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage(str(tmp_path / "storage"))
    return Storage(request.getfixturevalue("s3_url"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


async def read_all(storage: Storage, key: str, **options: int) -> list[bytes]:
    return [piece async for piece in storage.stream(key, **options)]


def test_bytes_come_back(storage: Storage) -> None:
    storage.put_bytes("jobs/1/report", b"0123456789")
    assert storage.get_bytes("jobs/1/report") == b"0123456789"
    assert storage.get_bytes("jobs/1/report", offset=3, length=4) == b"3456"
    assert storage.get_bytes("jobs/1/report", offset=7) == b"789"
    assert storage.size("jobs/1/report") == 10


@pytest.mark.parametrize("is_movable", [False, True])
def test_a_large_file_comes_back(storage: Storage, work: Path, is_movable: bool) -> None:
    path = work / "film"
    path.write_bytes(LARGE)
    storage.put_file("jobs/1/output.mp4", path, is_movable=is_movable)
    with storage.local_file("jobs/1/output.mp4", work_dir=work) as local:
        assert local.read_bytes() == LARGE
    pieces = asyncio.run(read_all(storage, "jobs/1/output.mp4"))
    assert b"".join(pieces) == LARGE
    assert len(pieces) > 1
    some = asyncio.run(read_all(storage, "jobs/1/output.mp4", offset=5, length=3 * CHUNK_BYTES))
    assert b"".join(some) == LARGE[5 : 5 + 3 * CHUNK_BYTES]


def test_a_copy_to_work_on_is_removed_afterwards(storage: Storage, work: Path) -> None:
    storage.put_bytes("jobs/1/input", b"film")
    with storage.local_file("jobs/1/input", work_dir=work) as local:
        assert local.read_bytes() == b"film"
    assert list(work.iterdir()) == []
    assert storage.exists("jobs/1/input")


def test_what_is_not_there_is_named(storage: Storage, work: Path) -> None:
    assert not storage.exists("no/such")
    storage.delete("no/such")
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        storage.get_bytes("no/such")
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        storage.size("no/such")
    with pytest.raises(ObjectNotFoundError, match="no/such"):
        asyncio.run(read_all(storage, "no/such"))
    with pytest.raises(ObjectNotFoundError, match="no/such"), storage.local_file("no/such", work_dir=work):
        pass
    assert list(work.iterdir()) == []


def test_objects_are_listed_and_removed_by_prefix(storage: Storage) -> None:
    for key in ("jobs/1/input", "jobs/1/segments/0", "jobs/11/input", "uploads/1"):
        storage.put_bytes(key, b"x" * 5)
    storage.check()
    found = list(storage.list("jobs/1/"))
    assert {(stored.key, stored.size_bytes) for stored in found} == {
        ("jobs/1/input", 5),
        ("jobs/1/segments/0", 5),
    }
    assert all(stored.modified_at.tzinfo is not None for stored in found)
    assert storage.delete_prefix("jobs/1/") == 2
    assert {stored.key for stored in storage.list()} == {"jobs/11/input", "uploads/1"}
    assert storage.delete_prefix("jobs/1/") == 0


def test_a_new_version_replaces_the_old_one(storage: Storage, work: Path) -> None:
    path = work / "new"
    path.write_bytes(b"new")
    storage.put_bytes("jobs/1/report", b"old")
    storage.put_file("jobs/1/report", path)
    assert storage.get_bytes("jobs/1/report") == b"new"
    assert path.exists()


def test_nothing_is_written_where_the_room_is_reserved(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "storage"), min_free_bytes=1 << 60)
    path = tmp_path / "film"
    path.write_bytes(b"film")
    for write in (
        lambda: storage.put_bytes("a", b"film"),
        lambda: storage.put_file("b", path),
        lambda: storage.put_file("c", path, is_movable=True),
    ):
        with pytest.raises(StorageFullError, match="MiB left"):
            write()
    assert list(storage.list()) == []
    assert path.exists()


def test_a_file_that_cannot_be_stored_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "storage"))
    with pytest.raises(StorageError):
        storage.put_file("a", tmp_path)  # a folder
    assert [path for path in (tmp_path / "storage").rglob("*") if path.is_file()] == []


def test_an_unreachable_s3_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    storage = Storage("s3://films", retry_seconds=0)
    with pytest.raises(StorageError, match="the storage failed at"):
        storage.get_bytes("a")


@pytest.mark.parametrize("url", ["ftp://host/folder", "s3://"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(StorageError, match="give a folder or s3://bucket/prefix"):
        Storage(url)


@pytest.mark.parametrize("is_movable", [False, True, None])
def test_a_stored_file_is_on_the_disk_before_it_has_its_name_and_its_name_is_before_it_is_told(
    tmp_path: Path, work: Path, is_movable: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, root = work / "film", tmp_path / "storage"
    path.write_bytes(b"film")
    storage, target = Storage(str(root)), root / "jobs/1/input"
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(root)
        synced.append((str(name), target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    if is_movable is None:
        storage.put_bytes("jobs/1/input", b"film")
    else:
        storage.put_file("jobs/1/input", path, is_movable=is_movable)
    *folders, content, name = synced
    assert content == ("jobs/1/.input.part", False)
    assert name == ("jobs/1", True)
    assert set(folders) == {(".", False), ("jobs", False)}  # which were made for it
