"""Resumable uploads: with the real tus client, and by the letter of the protocol."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tusclient.client import TusClient

from jobs.api_keys import KeyLimits
from jobs.objects import upload_key
from jobs.settings import ServiceSettings
from jobs.uploads import UploadStore
from service.uploads.file_sink import growing_file
from service.uploads.service import sweep_uploads
from service.uploads.sweeping import sweep_incoming
from tests.service.conftest import Api, running_api, wait_until

TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


def named(filename: str) -> str:
    return "filename " + base64.b64encode(filename.encode()).decode()


def begin(api: Api, size: int, **headers: str) -> str:
    answer = api.http.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size), **headers})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def send(api: Api, location: str, offset: int, content: Any, **headers: str) -> httpx.Response:
    return api.http.patch(
        location, content=content, headers={**BODY, "Upload-Offset": str(offset), **headers}
    )


def offset_of(api: Api, location: str) -> int:
    answer = api.http.head(location, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def file_of(api: Api, location: str) -> Path:
    assert api.context.storage.folder is not None
    return growing_file(api.context.storage.folder, location.rsplit("/", 1)[1])


def unfinished_files(api: Api) -> list[str]:
    return [stored.key for stored in api.context.storage.list("incoming/")]


def test_tus_client_uploads_a_video_in_chunks_and_a_job_reads_it(api: Api, clip: Path) -> None:
    client = TusClient(f"{api.url}/v1/uploads")
    with clip.open("rb") as file:
        uploader = client.uploader(file_stream=file, chunk_size=1000, metadata={"filename": "holiday.mp4"})
        uploader.upload()

    upload = api.http.get(uploader.url.removeprefix(api.url)).json()
    assert upload["status"] == "completed"
    assert upload["offset"] == upload["size_bytes"] == clip.stat().st_size
    assert upload["filename"] == "holiday.mp4"

    source = {"type": "upload", "upload_id": upload["id"]}
    job = api.http.post("/v1/jobs", json={"source": source}).json()
    assert job["input"]["filename"] == "holiday.mp4"
    assert job["input"]["num_frames"] == 12
    assert api.context.storage.get_bytes(upload_key(upload["id"])) == clip.read_bytes()
    assert not unfinished_files(api)


def test_tus_client_uploads_with_checksums(api: Api, clip: Path) -> None:
    client = TusClient(f"{api.url}/v1/uploads")
    with clip.open("rb") as file:
        uploader = client.uploader(file_stream=file, chunk_size=1000, upload_checksum=True)
        uploader.upload()
    assert api.http.get(uploader.url.removeprefix(api.url)).json()["status"] == "completed"


def test_options_tell_what_the_server_can_do(api: Api) -> None:
    answer = api.http.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Resumable"] == answer.headers["Tus-Version"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation", "creation-with-upload", "checksum", "expiration", "termination",
    }  # fmt: skip
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5,crc32"
    assert int(answer.headers["Tus-Max-Size"]) == api.context.settings.max_upload_bytes


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1"])
def test_other_versions_are_refused_with_412(api: Api, version: str | None) -> None:
    headers = {"Upload-Length": "10"} | ({} if version is None else {"Tus-Resumable": version})
    answer = api.http.post("/v1/uploads", headers=headers)
    assert answer.status_code == 412
    assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.json()["code"] == "unsupported_tus_version"


def test_bytes_before_a_broken_connection_are_kept(
    api: Api, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.uploads.receiving._BLOCK_BYTES", 500)
    content = clip.read_bytes()
    location = begin(api, len(content))
    path = file_of(api, location)
    with raw_patch(api, location, 0, len(content)) as connection:
        connection.sendall(content[:1500])
        # uvicorn forgets what it has read and not yet passed on (64 KiB at most) when a connection breaks.
        wait_until(lambda: path.read_bytes()[:1500] == content[:1500])
    wait_until(lambda: offset_of(api, location) == 1500)
    # It is locked (423) until the server has noticed that the connection is broken.
    wait_until(lambda: send(api, location, 1500, content[1500:]).status_code == 204)
    assert api.http.get(location).json()["status"] == "completed"


def test_bytes_before_a_broken_connection_are_dropped_when_a_checksum_was_announced(
    api: Api, clip: Path
) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    checksum = "sha1 " + base64.b64encode(hashlib.sha1(content).digest()).decode()
    with raw_patch(api, location, 0, len(content), f"Upload-Checksum: {checksum}") as connection:
        connection.sendall(content[:1500])
    wait_until(lambda: send(api, location, 0, content[:10]).status_code == 204)
    assert offset_of(api, location) == 10


def raw_patch(api: Api, location: str, offset: int, length: int, *headers: str) -> socket.socket:
    """A connection on which a PATCH has begun, and no byte of its body been sent."""
    host, port = api.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    lines = [
        f"PATCH {location} HTTP/1.1", f"Host: {host}", "Tus-Resumable: 1.0.0", f"Content-Length: {length}",
        "Content-Type: application/offset+octet-stream", f"Upload-Offset: {offset}", *headers, "", "",
    ]  # fmt: skip
    connection.sendall("\r\n".join(lines).encode())
    return connection


def test_a_second_writer_is_locked_out(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    with raw_patch(api, location, 0, len(content)) as connection:
        connection.sendall(content[:100])
        wait_until(lambda: api.context.client.exists(f"dv:upload:{location.rsplit('/', 1)[1]}:lock"))
        answer = send(api, location, 0, content)
        assert answer.status_code == 423
        assert answer.json()["code"] == "locked"
        assert api.http.delete(location, headers=TUS).status_code == 423
        connection.sendall(content[100:])
        assert connection.recv(100).startswith(b"HTTP/1.1 204")
    assert api.http.get(location).json()["status"] == "completed"


DIGESTS = {
    "sha1": lambda body: hashlib.sha1(body).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
    "md5": lambda body: hashlib.md5(body).digest(),
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_a_chunk_that_is_not_its_checksum_is_discarded(api: Api, clip: Path, algorithm: str) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    checksum = f"{algorithm} {base64.b64encode(DIGESTS[algorithm](content[:700])).decode()}"

    damaged = bytes([content[0] ^ 1]) + content[1:700]
    answer = send(api, location, 0, damaged, **{"Upload-Checksum": checksum})
    assert answer.status_code == 460
    assert answer.json()["code"] == "checksum_mismatch"
    assert offset_of(api, location) == 0

    assert send(api, location, 0, content[:700], **{"Upload-Checksum": checksum}).status_code == 204
    assert offset_of(api, location) == 700


@pytest.mark.parametrize("checksum", ["sha3 AAAA", "sha1 !!!", "sha1"])
def test_checksums_of_another_kind_are_refused(api: Api, checksum: str) -> None:
    location = begin(api, 100)
    answer = send(api, location, 0, b"x" * 10, **{"Upload-Checksum": checksum})
    assert answer.status_code in (400, 460)
    assert offset_of(api, location) == 0


def test_offset_must_be_where_the_upload_is(api: Api) -> None:
    location = begin(api, 100)
    assert send(api, location, 0, b"x" * 40).status_code == 204
    answer = send(api, location, 0, b"x" * 40)
    assert answer.status_code == 409
    assert answer.headers["Upload-Offset"] == "40"
    assert send(api, location, 41, b"x").status_code == 409
    assert send(api, location, 40, b"x" * 20).status_code == 204


def test_more_bytes_than_announced_are_refused(api: Api) -> None:
    location = begin(api, 100)
    assert send(api, location, 0, b"x" * 101).status_code == 413

    def chunks() -> Iterator[bytes]:  # of unknown length
        yield from [b"x" * 60, b"x" * 60]

    assert send(api, location, 0, chunks()).status_code == 413
    assert offset_of(api, location) == 0


def test_other_body_types_are_refused(api: Api) -> None:
    location = begin(api, 100)
    answer = send(api, location, 0, b"x", **{"Content-Type": "application/octet-stream"})
    assert answer.status_code == 415
    assert offset_of(api, location) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "ten"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "0"}, 422),
        ({"Upload-Length": "9" * 15}, 413),
        ({"Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "10", "Upload-Metadata": "filename not-base64!"}, 400),
        ({"Upload-Length": "10", "Upload-Metadata": "filename //79"}, 400),
        ({"Upload-Length": "10", "Upload-Metadata": "a YQ==,a Yg=="}, 400),
    ],
)
def test_uploads_are_not_begun_with_wrong_headers(api: Api, headers: dict[str, str], status: int) -> None:
    answer = api.http.post("/v1/uploads", headers={**TUS, **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_metadata_is_given_back(api: Api) -> None:
    metadata = f"{named('../../ärger.mp4')},private"
    location = begin(api, 10, **{"Upload-Metadata": metadata})
    assert api.http.head(location, headers=TUS).headers["Upload-Metadata"] == metadata
    assert api.http.get(location).json()["filename"] == "ärger.mp4"


def test_first_bytes_may_come_with_the_creation(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    headers = {**BODY, "Upload-Length": str(len(content)), "Upload-Metadata": named("a.mp4")}
    answer = api.http.post("/v1/uploads", content=content[:900], headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Upload-Offset"] == "900"
    assert send(api, answer.headers["Location"], 900, content[900:]).status_code == 204

    whole = api.http.post("/v1/uploads", content=content, headers=headers)
    assert whole.status_code == 201
    assert api.http.get(whole.headers["Location"]).json()["status"] == "completed"


def test_a_file_that_is_no_video_is_refused_at_its_last_byte_and_removed(api: Api, not_a_video: Path) -> None:
    content = not_a_video.read_bytes()
    location = begin(api, len(content), **{"Upload-Metadata": named("notes.txt")})
    assert send(api, location, 0, content[:50]).status_code == 204
    answer = send(api, location, 50, content[50:])
    assert answer.status_code == 415
    assert "notes.txt" in answer.json()["detail"]
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert api.http.head(location, headers=TUS).status_code == 404
    assert not unfinished_files(api)


def test_an_ended_upload_is_gone(api: Api) -> None:
    location = begin(api, 100)
    send(api, location, 0, b"x" * 40)
    assert api.http.delete(location, headers=TUS).status_code == 204
    assert api.http.head(location, headers=TUS).status_code == 404
    assert send(api, location, 40, b"x").status_code == 404
    assert not unfinished_files(api)


def test_methods_may_be_overridden(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    patch = {**BODY, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert api.http.post(location, content=content[:500], headers=patch).status_code == 204
    head = api.http.post(location, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert head.headers["Upload-Offset"] == "500"
    end = api.http.post(location, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert end.status_code == 204
    assert api.http.head(location, headers=TUS).status_code == 404
    assert api.http.post(location, headers={**TUS, "X-HTTP-Method-Override": "PUT"}).status_code == 422


def test_uploads_of_others_are_not_found(api_with_keys: Api) -> None:
    api = api_with_keys
    _, mine = api.make_key()
    _, theirs = api.make_key()
    location = api.http.post("/v1/uploads", headers={**TUS, **mine, "Upload-Length": "10"}).headers[
        "Location"
    ]
    assert api.http.head(location, headers={**TUS, **mine}).status_code == 200
    assert api.http.head(location, headers={**TUS, **theirs}).status_code == 404
    assert api.http.get(location, headers=theirs).status_code == 404
    assert api.http.delete(location, headers={**TUS, **theirs}).status_code == 404
    assert (
        api.http.patch(location, content=b"x", headers={**BODY, **theirs, "Upload-Offset": "0"}).status_code
        == 404
    )
    assert api.http.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"}).status_code == 401


def test_a_key_may_have_a_smaller_limit(api_with_keys: Api) -> None:
    _, key = api_with_keys.make_key(limits=KeyLimits(max_upload_bytes=1000))
    post = api_with_keys.http.post
    assert post("/v1/uploads", headers={**TUS, **key, "Upload-Length": "1001"}).status_code == 413
    assert post("/v1/uploads", headers={**TUS, **key, "Upload-Length": "1000"}).status_code == 201


def test_expired_uploads_are_gone_and_swept_unless_a_job_reads_them(
    settings: ServiceSettings, clip: Path
) -> None:
    with running_api(settings.model_copy(update={"upload_ttl": timedelta(seconds=1.5)})) as api:
        content = clip.read_bytes()
        used, unused, unfinished = (begin(api, len(content)) for _ in range(3))
        assert send(api, used, 0, content).status_code == 204
        assert send(api, unused, 0, content).status_code == 204
        source = {"type": "upload", "upload_id": used.rsplit("/", 1)[1]}
        job = api.http.post("/v1/jobs", json={"source": source})
        assert job.status_code == 202, job.text

        wait_until(lambda: api.http.get(unused).status_code == 410)
        wait_until(lambda: api.http.get(unfinished).status_code == 410)
        assert send(api, unfinished, 0, content).status_code == 410
        wait_until(lambda: sweep_uploads(api.context) or api.http.get(unused).status_code == 404)
        wait_until(lambda: sweep_uploads(api.context) or api.http.get(unfinished).status_code == 404)

        keys = [stored.key for stored in api.context.storage.list("uploads/")]
        assert keys == [upload_key(used.rsplit("/", 1)[1])]
        assert not unfinished_files(api)


def test_ending_an_upload_leaves_its_bytes_to_the_job_that_reads_them(
    settings: ServiceSettings, clip: Path
) -> None:
    with running_api(settings.model_copy(update={"upload_ttl": timedelta(seconds=1)})) as api:
        location = begin(api, clip.stat().st_size)
        assert send(api, location, 0, clip.read_bytes()).status_code == 204
        upload_id = location.rsplit("/", 1)[1]
        source = {"type": "upload", "upload_id": upload_id}
        job = api.http.post("/v1/jobs", json={"source": source}).json()
        assert api.http.delete(location, headers=TUS).status_code == 204
        assert api.http.get(location).status_code == 404
        assert api.context.storage.exists(upload_key(upload_id))
        # Once the job has gone, so do they.
        assert api.http.delete(job["links"]["self"]).status_code == 204
        wait_until(lambda: sweep_uploads(api.context))
        assert not api.context.storage.exists(upload_key(upload_id))


def test_what_dead_requests_left_is_swept_after_a_day(api: Api) -> None:
    incoming = api.context.incoming_dir
    form = incoming / "0123456789abcdef"
    form.mkdir()
    (form / "00000").write_bytes(b"x")
    (incoming / "source-0123").write_bytes(b"x")
    assert sweep_incoming(api.context) == 0
    assert sweep_incoming(api.context, now=time.time() + 25 * 3600) == 2
    assert list(incoming.iterdir()) == []


def test_what_a_killed_server_had_not_recorded_is_sent_again(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    send(api, location, 0, content[:500])
    # What a killed process leaves: bytes in the file that the record does not know of.
    path = file_of(api, location)
    with path.open("ab") as file:
        file.write(b"\0" * 300)
    assert offset_of(api, location) == 500
    assert send(api, location, 500, content[500:]).status_code == 204
    assert api.http.get(location).json()["status"] == "completed"


def test_an_upload_is_finished_although_the_server_died_after_moving_it(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    location = begin(api, len(content))
    send(api, location, 0, content[:500])
    upload_id = location.rsplit("/", 1)[1]
    file_of(api, location).unlink()
    api.context.storage.put_file(upload_key(upload_id), clip)
    assert send(api, location, 500, content[500:]).status_code == 204
    assert offset_of(api, location) == len(content)
    assert UploadStore(api.context.client).get(upload_id).found is not None


def test_large_uploads_take_bounded_memory(api: Api) -> None:
    size = 300 << 20
    process, peak, done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, process.memory_info().rss)

    def zeros() -> Iterator[bytes]:
        block = bytes(1 << 20)
        for _ in range((size >> 20) - 1):
            yield block

    location = begin(api, size)
    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = send(api, location, 0, zeros())
    finally:
        done.set()
        watcher.join()
    assert answer.status_code == 204
    assert offset_of(api, location) == size - (1 << 20)
    assert peak - before < 64 << 20


def test_importing_the_api_loads_neither_torch_nor_codecs() -> None:
    code = "import sys, service.app; print([name for name in ('torch', 'av') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
