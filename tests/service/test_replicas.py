"""Two API processes that share Redis and S3 and nothing else: each goes on with what the other has begun."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from jobs.embedded_redis import free_port
from jobs.multipart import PART_BYTES, MultipartBucket, part_bytes
from jobs.objects import upload_key
from jobs.settings import ServiceSettings
from jobs.uploads import UploadStore
from service.uploads.service import sweep_uploads
from service.uploads.sweeping import sweep_multiparts
from tests.s3_server import make_s3_url, s3_server, s3_url
from tests.service.api_process import api_process
from tests.service.conftest import Api, running_api, wait_until
from tests.service.test_uploads import BODY, TUS, begin, offset_of, send

__all__ = ["s3_server", "s3_url"]

SMALL_PART = 4096


@dataclass
class Replicas:
    """Both, and what they share."""

    first: Api
    second: Api

    @property
    def bucket(self) -> MultipartBucket:
        bucket = self.first.context.storage.multipart
        assert bucket is not None
        return bucket

    def left_in_bucket(self) -> list[str]:
        """What is neither a finished object nor needed."""
        objects = [stored.key for stored in self.first.context.storage.list("incoming/")]
        return objects + [found.key for found in self.bucket.open_multiparts()]


@pytest.fixture
def settings_with_s3(settings: ServiceSettings, s3_url: str) -> ServiceSettings:
    return settings.model_copy(update={"storage_url": s3_url})


@pytest.fixture(scope="module")
def running_replicas(
    valkey: str, s3_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Both, for all tests."""
    folder = tmp_path_factory.mktemp("replicas")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        url = make_s3_url(s3_server, folder.name, patch)
        settings = ServiceSettings(data_dir=folder / "1", redis_url=valkey, storage_url=url, min_free_bytes=0)
        other = settings.model_copy(update={"data_dir": folder / "2"})
        yield Replicas(*(stack.enter_context(running_api(found)) for found in (settings, other)))


@pytest.fixture
def replicas(running_replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> Replicas:
    """Both, with parts of 4 KiB and an empty storage."""
    monkeypatch.setattr("jobs.multipart.PART_BYTES", SMALL_PART)
    monkeypatch.setattr("jobs.multipart._MIB", SMALL_PART)
    for stored in list(running_replicas.first.context.storage.list()):
        running_replicas.first.context.storage.delete(stored.key)
    for found in list(running_replicas.bucket.open_multiparts()):
        running_replicas.bucket.abort(found)
    return running_replicas


def clip_of(clip: Path, size: int) -> bytes:
    """A video of that size: players skip the box at its end."""
    content = clip.read_bytes()
    missing = size - len(content)
    filling = bytes(range(1, 251)) * (missing // 250 + 1)
    return (content + struct.pack(">I4s", missing, b"free") + filling)[:size]


def id_of(location: str) -> str:
    return location.rsplit("/", 1)[1]


@pytest.mark.parametrize("chunk", [1500, SMALL_PART, 10_000])
def test_each_chunk_may_go_to_another_replica(replicas: Replicas, clip: Path, chunk: int) -> None:
    content = clip_of(clip, 30_000)
    location = begin(replicas.first, len(content))
    turns = cycle([replicas.second, replicas.first])
    for offset in range(0, len(content), chunk):
        answer = send(next(turns), location, offset, content[offset : offset + chunk])
        assert answer.status_code == 204, answer.text
        arrived = min(offset + chunk, len(content))
        assert {offset_of(api, location) for api in (replicas.first, replicas.second)} == {arrived}
    assert replicas.first.context.storage.get_bytes(upload_key(id_of(location))) == content
    assert replicas.left_in_bucket() == []

    source = {"type": "upload", "upload_id": id_of(location)}
    job = replicas.first.http.post("/v1/jobs", json={"source": source}).json()
    assert replicas.second.http.get(f"{job['links']['self']}/source").content == content


def test_many_tiny_chunks_become_few_objects(
    replicas: Replicas, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.uploads.parts_sink._MAX_PIECES", 3)
    content = clip_of(clip, 2 * SMALL_PART)
    location = begin(replicas.first, len(content))
    for offset in range(0, len(content), 256):
        assert send(replicas.first, location, offset, content[offset : offset + 256]).status_code == 204
        assert len(list(replicas.first.context.storage.list("incoming/"))) <= 3
    assert replicas.second.context.storage.get_bytes(upload_key(id_of(location))) == content


def test_a_killed_replica_s_upload_goes_on_at_another(
    settings_with_s3: ServiceSettings, tmp_path: Path, clip: Path
) -> None:
    content = clip_of(clip, PART_BYTES + 3_100_000)
    other = settings_with_s3.model_copy(update={"data_dir": tmp_path / "other"})
    port = free_port()
    with running_api(settings_with_s3) as api, api_process(other, port) as doomed:
        location = begin(api, len(content))

        def body() -> Iterator[bytes]:
            yield content[: PART_BYTES + 3_000_000]
            wait_until(lambda: offset_of(api, location) == PART_BYTES)
            doomed.kill()
            yield content[PART_BYTES + 3_000_000 :]

        headers = {**BODY, "Upload-Offset": "0"}
        with pytest.raises(httpx.TransportError):
            httpx.patch(
                f"http://127.0.0.1:{port}{location}", content=body(), headers=headers, trust_env=False
            )
        lock = f"dv:upload:{id_of(location)}:lock"
        assert send(api, location, PART_BYTES, content[PART_BYTES:]).status_code == 423
        api.context.client.pexpire(lock, 1)  # as 20 s later
        wait_until(lambda: not api.context.client.exists(lock))
        assert send(api, location, PART_BYTES, content[PART_BYTES:]).status_code == 204
        assert api.context.storage.get_bytes(upload_key(id_of(location))) == content


def test_what_fails_its_checksum_is_not_kept_in_parts_either(replicas: Replicas, clip: Path) -> None:
    content = clip_of(clip, 3 * SMALL_PART)
    location = begin(replicas.first, len(content))
    assert send(replicas.first, location, 0, content[:1000]).status_code == 204
    checksum = "sha1 " + base64.b64encode(hashlib.sha1(content[1000:10_000]).digest()).decode()
    damaged = bytes(9_000)
    answer = send(replicas.second, location, 1000, damaged, **{"Upload-Checksum": checksum})
    assert answer.status_code == 460
    assert offset_of(replicas.first, location) == 1000
    again = send(replicas.first, location, 1000, content[1000:10_000], **{"Upload-Checksum": checksum})
    assert again.status_code == 204
    assert send(replicas.second, location, 10_000, content[10_000:]).status_code == 204
    assert replicas.first.context.storage.get_bytes(upload_key(id_of(location))) == content


def test_an_object_is_made_of_nothing_but_the_parts_that_were_recorded(
    replicas: Replicas, clip: Path
) -> None:
    content = clip_of(clip, 4 * SMALL_PART)
    location = begin(replicas.first, len(content))
    sent = 3 * SMALL_PART
    assert send(replicas.first, location, 0, content[:sent]).status_code == 204
    # A process that was thought dead sends one of them once more, and other bytes.
    parts = UploadStore(replicas.first.context.client).parts(id_of(location))
    replicas.bucket.put_part(upload_key(id_of(location)), parts.multipart_id, 2, bytes(SMALL_PART))
    answer = send(replicas.second, location, sent, content[sent:])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, str(SMALL_PART))
    assert offset_of(replicas.first, location) == SMALL_PART
    assert send(replicas.first, location, SMALL_PART, content[SMALL_PART:]).status_code == 204
    assert replicas.first.context.storage.get_bytes(upload_key(id_of(location))) == content


def test_an_upload_is_finished_by_another_replica_than_made_its_object(
    replicas: Replicas, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = clip_of(clip, 3 * SMALL_PART)
    location = begin(replicas.first, len(content))
    with monkeypatch.context() as patch:
        patch.setattr("service.uploads.service._look_into", None)  # it dies there
        assert send(replicas.first, location, 0, content).status_code == 500
    assert offset_of(replicas.second, location) < len(content)
    rest = content[offset_of(replicas.second, location) :]
    assert send(replicas.second, location, len(content) - len(rest), rest).status_code == 204
    assert replicas.second.http.get(location).json()["status"] == "completed"


def test_ended_and_expired_uploads_leave_no_parts(replicas: Replicas, clip: Path) -> None:
    ended, expired = (begin(replicas.first, 30_000) for _ in range(2))
    for location in (ended, expired):
        assert send(replicas.first, location, 0, clip_of(clip, 30_000)[:5000]).status_code == 204
    assert len(replicas.left_in_bucket()) == 4
    assert replicas.second.http.delete(ended, headers=TUS).status_code == 204
    UploadStore(replicas.first.context.client).postpone(id_of(expired), timedelta(seconds=-1))
    wait_until(lambda: sweep_uploads(replicas.second.context) or not replicas.left_in_bucket())
    assert replicas.left_in_bucket() == []


def test_parts_that_killed_processes_left_are_swept(replicas: Replicas, clip: Path) -> None:
    growing = begin(replicas.first, 30_000)
    assert send(replicas.first, growing, 0, clip_of(clip, 30_000)[:SMALL_PART]).status_code == 204
    for key in ("uploads/upl_gone", "jobs/job_gone/output"):
        replicas.bucket.put_part(key, replicas.bucket.start(key), 1, b"part")
    context = replicas.second.context
    # To the server of the tests everything was begun in 2010.
    assert sweep_multiparts(context, older_than=timedelta(days=30_000)) == 0
    assert sweep_multiparts(context) == 2
    assert replicas.left_in_bucket() == [upload_key(id_of(growing))]


def test_a_file_that_is_no_video_is_removed_from_s3(replicas: Replicas) -> None:
    content = b"no video at all\n" * 1000
    location = begin(replicas.first, len(content))
    assert send(replicas.second, location, 0, content).status_code == 415
    assert replicas.first.http.head(location, headers=TUS).status_code == 404
    assert list(replicas.first.context.storage.list()) == []
    assert replicas.left_in_bucket() == []


def test_the_largest_upload_fits_into_the_parts_of_s3() -> None:
    assert part_bytes(1) == part_bytes(10_000 * PART_BYTES) == PART_BYTES
    for size in (10_000 * PART_BYTES + 1, 5 << 40):
        assert part_bytes(size) % (1 << 20) == 0
        assert -(-size // part_bytes(size)) <= 10_000


def sign(api: Api, location: str, numbers: list[int] | None = None) -> dict[str, Any]:
    answer = api.http.post(f"{location}/parts", json={} if numbers is None else {"numbers": numbers})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def put_part(part: dict[str, Any], content: bytes) -> str:
    end = part["offset"] + part["size_bytes"]
    answer = httpx.put(part["url"], content=content[part["offset"] : end], trust_env=False)
    assert answer.status_code == 200
    return answer.headers["ETag"]


def test_parts_go_straight_to_s3_and_either_replica_takes_them(replicas: Replicas, clip: Path) -> None:
    content = clip_of(clip, 10_000)
    location = begin(replicas.first, len(content))
    first = sign(replicas.first, location, [2])
    assert (first["part_size_bytes"], first["num_parts"], first["arrived"]) == (SMALL_PART, 3, [])
    etags = {2: put_part(first["parts"][0], content)}

    incomplete = replicas.second.http.post(f"{location}/complete", json={})
    assert (incomplete.status_code, incomplete.json()["code"]) == (409, "upload_incomplete")
    assert "another size: 1, 3;" in incomplete.json()["detail"]
    missing = sign(replicas.second, location)
    assert ([part["number"] for part in missing["parts"]], missing["arrived"]) == ([1, 3], [2])
    etags |= {part["number"]: put_part(part, content) for part in missing["parts"]}

    wrong = [{"number": number, "etag": '"other"' if number == 3 else etag} for number, etag in etags.items()]
    refused = replicas.first.http.post(f"{location}/complete", json={"parts": wrong})
    assert refused.status_code == 409
    assert '3 ("other" was sent' in refused.json()["detail"]
    parts = [{"number": number, "etag": etag} for number, etag in etags.items()]
    for api in (replicas.first, replicas.second):  # also twice
        complete = api.http.post(f"{location}/complete", json={"parts": parts})
        assert (complete.status_code, complete.json()["status"]) == (200, "completed"), complete.text
    assert replicas.first.context.storage.get_bytes(upload_key(id_of(location))) == content
    assert replicas.left_in_bucket() == []
    assert replicas.second.http.post(f"{location}/parts", json={}).status_code == 409


def test_parts_of_another_size_than_announced_do_not_count(replicas: Replicas, clip: Path) -> None:
    location = begin(replicas.first, 2 * SMALL_PART)
    [first, _] = sign(replicas.first, location)["parts"]
    # The address names the length, so S3 refuses this; the server of the tests checks no signatures.
    assert "content-length" in parse_qs(urlsplit(first["url"]).query)["X-Amz-SignedHeaders"][0]
    httpx.put(first["url"], content=bytes(SMALL_PART + 1), trust_env=False)
    assert sign(replicas.first, location)["arrived"] == []
    unknown = replicas.first.http.post(f"{location}/parts", json={"numbers": [1, 3]})
    assert unknown.status_code == 422
    assert "parts 1 to 2; received 3" in unknown.json()["detail"]


def test_an_upload_takes_bytes_by_one_way_only(replicas: Replicas, api: Api) -> None:
    direct, resumable = begin(replicas.first, 10_000), begin(replicas.first, 10_000)
    sign(replicas.first, direct)
    assert send(replicas.second, direct, 0, b"x").status_code == 409
    assert send(replicas.first, resumable, 0, b"x").status_code == 204
    assert replicas.second.http.post(f"{resumable}/parts", json={}).status_code == 409
    assert replicas.second.http.post(f"{resumable}/complete", json={}).status_code == 409
    in_folder = api.http.post(f"{begin(api, 10)}/parts", json={})
    assert (in_folder.status_code, in_folder.json()["code"]) == (409, "no_direct_uploads")


def test_an_ended_direct_upload_frees_its_parts(replicas: Replicas, clip: Path) -> None:
    content = clip_of(clip, 10_000)
    location = begin(replicas.first, len(content))
    put_part(sign(replicas.first, location)["parts"][0], content)
    assert replicas.second.http.delete(location, headers=TUS).status_code == 204
    assert replicas.left_in_bucket() == []
    assert replicas.second.http.post(f"{location}/complete", json={}).status_code == 404
