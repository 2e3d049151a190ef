"""What a key may have: quotas hold whichever way is taken, and a full disk is said before it is full."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from jobs.api_keys import KeyLimits
from jobs.errors import StorageFullError
from jobs.settings import ServiceSettings
from jobs.specs import Priority
from jobs.stored_bytes import StoredBytes
from service.room import GuardedFile
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import complete, make_job
from tests.service.test_uploads import BODY, TUS

MIB = 1 << 20


def send_clip(api: Api, clip: Path, headers: dict[str, str], **request: Any) -> httpx.Response:
    files = {"file": ("clip.mp4", clip.read_bytes()), "request": (None, json.dumps(request))}
    return api.http.post("/v1/jobs", files=files, headers=headers)


def begin(api: Api, size: int, headers: dict[str, str] | None = None) -> httpx.Response:
    return api.http.post("/v1/uploads", headers={**TUS, **(headers or {}), "Upload-Length": str(size)})


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


class SmallDisk:
    """Claims that the folder lies on a disk of its own."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self._size = folder, size

    def usage(self, _: object) -> Any:
        return SimpleNamespace(free=self._size - self.used())

    def used(self) -> int:
        """Bytes of all files, with room that is only reserved."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*") if path.is_file())

    def files(self) -> list[Path]:
        """Those that customers sent."""
        folders = [self.folder / "incoming", self.folder / "storage"]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def disk(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    """A disk with 24 MiB."""
    found = SmallDisk(settings.data_dir, 24 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", found.usage)
    return found


@pytest.fixture
def full_api(disk: SmallDisk, settings: ServiceSettings) -> Iterator[Api]:
    """An API on that disk, 8 MiB of which nobody may take."""
    with running_api(settings.model_copy(update={"min_free_bytes": 8 * MIB})) as api:
        yield api


def test_a_body_of_unknown_length_stops_at_the_reserve(full_api: Api, disk: SmallDisk) -> None:
    most = 0

    def body() -> Iterator[bytes]:
        nonlocal most
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(60):
            yield bytes(MIB)
            most = max(most, disk.used())
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = full_api.http.post("/v1/jobs", content=body(), headers=headers)
    assert code_of(answer) == (507, "storage_full")
    # What one sender may take between two looks at the disk, at most.
    assert most <= 24 * MIB
    wait_until(lambda: not disk.files())


def test_a_disk_that_refuses_is_full_and_not_broken(api: Api) -> None:
    """As when others fill it between two looks."""
    full = Path("/dev/full")
    file = GuardedFile(api.context, full.open("wb", buffering=0))
    with pytest.raises(StorageFullError):
        file.write(b"x")
    file.close()
    late = GuardedFile(api.context, full.open("wb"))
    late.write(b"kept in memory at first")
    with pytest.raises(StorageFullError):
        late.close()


def test_an_upload_has_its_room_from_the_beginning(full_api: Api, clip: Path) -> None:
    first = begin(full_api, 12 * MIB)
    assert first.status_code == 201
    assert code_of(begin(full_api, 12 * MIB)) == (507, "storage_full")
    assert full_api.http.delete(first.headers["Location"], headers=TUS).status_code == 204
    assert begin(full_api, 12 * MIB).status_code == 201


def test_cancel_and_retry_do_not_pass_the_limit_of_unfinished_jobs(api_with_keys: Api, clip: Path) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_unfinished_jobs=1))
    first = send_clip(api_with_keys, clip, headers).json()["id"]
    post = api_with_keys.http.post
    assert post(f"/v1/jobs/{first}/cancel", headers=headers).status_code == 202
    second = send_clip(api_with_keys, clip, headers).json()["id"]
    assert code_of(post(f"/v1/jobs/{first}/retry", headers=headers)) == (429, "quota_exceeded")
    assert post(f"/v1/jobs/{second}/cancel", headers=headers).status_code == 202
    assert post(f"/v1/jobs/{first}/retry", headers=headers).status_code == 202


def test_a_full_queue_takes_no_retried_job(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        first = send_clip(api, clip, {}).json()["id"]
        api.http.post(f"/v1/jobs/{first}/cancel")
        assert send_clip(api, clip, {}).status_code == 202
        assert code_of(api.http.post(f"/v1/jobs/{first}/retry")) == (503, "queue_full")


def test_a_key_stores_no_more_than_it_may(api_with_keys: Api, clip: Path) -> None:
    size = clip.stat().st_size
    key, headers = api_with_keys.make_key(limits=KeyLimits(max_stored_bytes=2 * size + 2000))
    http, stored = api_with_keys.http, StoredBytes(api_with_keys.context.client)
    full = (429, "quota_exceeded")

    upload = begin(api_with_keys, size, headers).headers["Location"]
    job = send_clip(api_with_keys, clip, headers)
    assert job.status_code == 202, job.text
    assert stored.of(key.id) == 2 * size
    # By a form, in chunks that do not say how long they are, by tus, and as a batch.
    files = {"file": ("clip.mp4", clip.read_bytes())}
    request = http.build_request("POST", "/v1/jobs", files=files, headers=headers)
    chunked = {**headers, "Content-Type": request.headers["Content-Type"]}
    assert code_of(send_clip(api_with_keys, clip, headers)) == full
    assert code_of(http.post("/v1/jobs", content=iter([request.read()]), headers=chunked)) == full
    assert code_of(http.post("/v1/batches", content=iter([request.read()]), headers=chunked)) == full
    assert code_of(begin(api_with_keys, size, headers)) == full
    assert stored.of(key.id) == 2 * size

    # A job of an upload takes no more; what is deleted takes nothing.
    sent = http.patch(upload, content=clip.read_bytes(), headers={**BODY, **headers, "Upload-Offset": "0"})
    assert sent.status_code == 204
    source = {"type": "upload", "upload_id": upload.rsplit("/", 1)[1]}
    twin = http.post("/v1/jobs", json={"source": source}, headers=headers)
    assert twin.status_code == 202
    assert stored.of(key.id) == 2 * size
    http.delete(f"/v1/jobs/{job.json()['id']}", headers=headers)
    assert stored.of(key.id) == size
    # An upload that was ended counts as long as a job reads it.
    http.delete(upload, headers={**TUS, **headers})
    assert stored.of(key.id) == size


def test_inputs_of_a_batch_count_until_it_goes(api_with_keys: Api, clip: Path) -> None:
    key, headers = api_with_keys.make_key(limits=KeyLimits(max_unfinished_jobs=1))
    stored = StoredBytes(api_with_keys.context.client)
    files = [("file", (f"{number}.mp4", clip.read_bytes())) for number in range(3)]
    batch = api_with_keys.http.post("/v1/batches", files=files, headers=headers).json()
    assert stored.of(key.id) == 3 * clip.stat().st_size
    path = f"/v1/batches/{batch['id']}"
    assert api_with_keys.http.delete(path, headers=headers).status_code == 204
    wait_until(lambda: stored.of(key.id) == 0)


def test_unfinished_uploads_are_limited(api_with_keys: Api, clip: Path) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_uploads_at_once=1))
    size = clip.stat().st_size
    first = begin(api_with_keys, size, headers).headers["Location"]
    assert code_of(begin(api_with_keys, size, headers)) == (429, "quota_exceeded")
    sending = {**BODY, **headers, "Upload-Offset": "0"}
    assert api_with_keys.http.patch(first, content=clip.read_bytes(), headers=sending).status_code == 204
    second = begin(api_with_keys, size, headers)
    assert second.status_code == 201
    api_with_keys.http.delete(second.headers["Location"], headers={**TUS, **headers})
    assert begin(api_with_keys, size, headers).status_code == 201


def test_a_key_may_be_kept_from_priorities(api_with_keys: Api, clip: Path) -> None:
    key, headers = api_with_keys.make_key(limits=KeyLimits(priorities=(Priority.LOW,)))
    refused = send_clip(api_with_keys, clip, headers, priority="high")
    assert code_of(refused) == (403, "forbidden")
    assert "may not have the priority high, only low" in refused.json()["detail"]
    assert send_clip(api_with_keys, clip, headers, priority="low").status_code == 202
    inputs = [{"source": {"type": "url", "url": "http://localhost/a.mp4"}}]
    post = api_with_keys.http.post
    assert code_of(post("/v1/batches", json={"inputs": inputs}, headers=headers)) == (403, "forbidden")
    earlier = make_job(api_with_keys.context, owner=key.id, priority=Priority.HIGH)
    post(f"/v1/jobs/{earlier.id}/cancel", headers=headers)
    assert code_of(post(f"/v1/jobs/{earlier.id}/retry", headers=headers)) == (403, "forbidden")


def test_a_key_reads_and_writes_only_below_its_prefixes(settings: ServiceSettings, clip: Path) -> None:
    shared = {"source_buckets": ("films", "other"), "target_buckets": ("films", "other")}
    mine, jobs = "s3://films/mine/", "/v1/jobs"
    with running_api(settings.model_copy(update=shared), uses_keys=True) as api:
        _, headers = api.make_key(limits=KeyLimits(s3_prefixes=(mine, "s3://other/")))

        def ask(path: str, body: dict[str, Any]) -> tuple[int, Any]:
            answer = api.http.post(path, json=body, headers=headers)
            return answer.status_code, answer.json()

        def source(url: str) -> dict[str, Any]:
            return {"source": {"type": "url", "url": url}}

        for url in ("s3://films/b.mp4", "s3://films/mine/../b.mp4", "s3://films/mine2/b.mp4"):
            for path, body in (
                (jobs, source(url)),
                (jobs, source(f"{mine}a.mp4") | {"deliver_to": url}),
                ("/v1/batches", {"prefix": url.removesuffix("b.mp4")}),
                ("/v1/batches", {"inputs": [source(f"{mine}a.mp4")], "deliver_to": url}),
            ):
                status, said = ask(path, body)
                assert (status, said["code"]) == (403, "forbidden"), (path, body)
                assert "may only lie below s3://films/mine/, s3://other/, received" in said["detail"]
            # One input of a batch does not keep the others back.
            inputs = [source(f"{mine}a.mp4"), source(url), source(f"{mine}a.mp4") | {"deliver_to": url}]
            status, batch = ask("/v1/batches", {"inputs": inputs})
            assert status == 202
            assert [(item["index"], item["error"]["code"]) for item in batch["rejected"]] == [
                (1, "forbidden"),
                (2, "forbidden"),
            ]
        status, job = ask(jobs, source(f"{mine}a.mp4") | {"deliver_to": "s3://other/b.mp4"})
        assert (status, job["delivery"]["url"]) == (202, "s3://other/b.mp4")
        done = make_job(api.context, owner=job["owner"]).id
        complete(api.context, done, b"result")
        assert ask(f"{jobs}/{done}/deliver", {"deliver_to": "s3://films/b.mp4"})[0] == 403
