"""Batches: every way to submit one, kills in between, cancellation, results, the archive, the webhook."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from jobs.batch_store import BatchStore
from jobs.embedded_redis import free_port
from jobs.records import JobError, OutputInfo
from jobs.settings import ServiceSettings
from jobs.webhook_secrets import INSTALLATION
from service.batches import intake
from service.batches.archive import unique_name
from service.batches.manifests import read_description
from service.errors import InvalidRequestError, MalformedRequestError
from service.webhooks.secrets import signers
from tests.service.api_process import api_process
from tests.service.conftest import Api, running_api, wait_until
from tests.service.origin import Answer, Asked, Origin, running_origin
from tests.service.test_sources import s3
from tests.thorough import sized

__all__ = ["s3"]

TTL = timedelta(minutes=5)
TUS = {
    "Tus-Resumable": "1.0.0",
    "Content-Type": "application/offset+octet-stream",
    "Upload-Metadata": "filename dXBsb2FkZWQubXA0",  # uploaded.mp4
}


def upload(http: httpx.Client, content: bytes) -> str:
    """A finished upload; its id."""
    headers = {**TUS, "Upload-Length": str(len(content))}
    answer = http.post("/v1/uploads", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"].rsplit("/", 1)[1])


def submit(api: Api, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = api.http.post("/v1/batches", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def inputs_of(*upload_ids: str) -> list[dict[str, Any]]:
    return [{"source": {"type": "upload", "upload_id": upload_id}} for upload_id in upload_ids]


def look(api: Api, batch: dict[str, Any]) -> dict[str, Any]:
    return dict(api.http.get(batch["links"]["self"]).json())


def jobs_of(api: Api, batch: dict[str, Any]) -> list[dict[str, Any]]:
    return list(api.http.get("/v1/jobs", params={"batch_id": batch["id"], "order": "asc"}).json()["data"])


def is_admitted(api: Api, batch: dict[str, Any]) -> bool:
    return BatchStore(api.context.client).get(batch["id"]).num_waiting == 0


def complete(api: Api, job_id: str, content: bytes) -> None:
    """Ends a job as a worker would, with this file."""
    token = uuid4().hex
    api.context.store.begin(job_id, "join", token, ttl=TTL, max_attempts=4, worker="test", num_workers=1)
    output = OutputInfo(
        width=256, height=192, num_frames=12, duration_seconds=0.48, size_bytes=len(content),
        sha256="0" * 64, job_id=job_id, container="mp4", num_segments=1, token=token,
    )  # fmt: skip
    api.context.storage.put_bytes(output.key, content)
    api.context.store.complete(job_id, token, output, ttl=TTL)


def fail(api: Api, job_id: str) -> None:
    api.context.store.fail(job_id, JobError(code="no_frames", message="there are none"), ttl=TTL)


def test_finished_uploads_become_jobs_with_shared_and_own_settings(api: Api, clip: Path) -> None:
    first, second = upload(api.http, clip.read_bytes()), upload(api.http, clip.read_bytes())
    inputs = inputs_of(first, second, first)
    inputs[1] |= {
        "options": {"height": 96},
        "filename": "b.mp4",
        "labels": {"shelf": "8"},
        "priority": "high",
    }
    inputs[2] |= {"metadata": {"own": True}}
    batch = submit(
        api,
        {
            "inputs": inputs,
            "options": {"scale": 2, "codec": "h265", "crf": 20},
            "labels": {"shelf": "7", "project": "archive"},
            "metadata": {"order": 12},
        },
    )
    assert batch["object"] == "batch"
    assert batch["counts"]["total"] == 3
    wait_until(lambda: is_admitted(api, batch))

    one, two, three = jobs_of(api, batch)
    assert {job["batch_id"] for job in (one, two, three)} == {batch["id"]}
    assert (one["input"]["filename"], two["input"]["filename"]) == ("uploaded.mp4", "b.mp4")
    assert (one["options"]["scale"], one["options"]["codec"], one["options"]["crf"]) == (2, "h265", 20)
    assert (two["options"]["scale"], two["options"]["height"], two["options"]["codec"]) == (None, 96, "h265")
    assert one["labels"] == {"shelf": "7", "project": "archive"}
    assert two["labels"] == {"shelf": "8", "project": "archive"}
    assert (one["priority"], two["priority"]) == ("normal", "high")
    assert (one["metadata"], three["metadata"]) == ({"order": 12}, {"own": True})
    assert look(api, batch)["counts"] == {
        "total": 3, "queued": 3, "in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0,
        "rejected": 0, "deleted": 0,
    }  # fmt: skip


def test_files_become_jobs_and_those_that_are_no_videos_are_told(
    api: Api, clip: Path, not_a_video: Path
) -> None:
    content = clip.read_bytes()
    files = [
        ("file", ("one.mp4", content)),
        ("file", ("notes.txt", not_a_video.read_bytes())),
        ("file", ("two.mp4", content)),
    ]
    answer = api.http.post("/v1/batches", files=files, data={"scale": "2", "labels": '{"a": "b"}'})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    wait_until(lambda: is_admitted(api, batch))
    jobs = jobs_of(api, batch)
    assert [job["input"]["filename"] for job in jobs] == ["one.mp4", "two.mp4"]
    assert {job["options"]["scale"] for job in jobs} == {2}
    [rejected] = look(api, batch)["rejected"]
    assert (rejected["index"], rejected["filename"]) == (1, "notes.txt")
    assert "notes.txt" in rejected["error"]["message"]
    kept = sorted(stored.key for stored in api.context.storage.list("jobs/"))
    assert kept == sorted(f"jobs/{job['id']}/input" for job in jobs)


CSV = """url,filename,scale,detect_cuts
{url}/clip.mp4,first.mp4,2,false
http://elsewhere.example.com/clip.mp4,,,
{url}/missing.mp4,third.mp4,,
{url}/clip.mp4,fourth.mp4,99,
{url}/clip.mp4,"fi,fth.mp4",,,
{url}/clip.mp4,"six""th.mp4",,
"""


@pytest.fixture
def origin(clip: Path) -> Iterator[Origin]:
    def answer(asked: Asked) -> Answer:
        return Answer(body=clip.read_bytes()) if asked.path == "/clip.mp4" else Answer(404)

    with running_origin(answer) as server:
        yield server


def test_wrong_lines_of_a_csv_manifest_are_told_by_their_number_and_stop_no_other(
    api: Api, origin: Origin
) -> None:
    answer = api.http.post(
        "/v1/batches?scale=4&priority=low&labels=" + '{"a":"b"}',
        content=CSV.format(url=origin.url),
        headers={"Content-Type": "text/csv; charset=utf-8"},
    )
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert [item["line"] for item in batch["rejected"]] == [3, 5, 6]
    wait_until(lambda: is_admitted(api, batch))
    after = look(api, batch)
    assert [item["index"] for item in after["rejected"]] == [1, 3, 4]
    assert [item["error"]["code"] for item in after["rejected"]] == [
        "source_refused", "invalid_request", "invalid_request",
    ]  # fmt: skip
    wait_until(lambda: all(job["stage"] is None for job in jobs_of(api, batch)))
    first, missing, sixth = jobs_of(api, batch)
    assert (missing["status"], missing["error"]["code"]) == ("failed", "source_failed")
    jobs = [first, sixth]
    assert [job["input"]["filename"] for job in jobs] == ["first.mp4", 'six"th.mp4']
    assert [job["input"]["width"] for job in jobs] == [64, 64]
    assert [job["options"]["scale"] for job in jobs] == [2, 4]
    assert [job["options"]["detect_cuts"] for job in jobs] == [False, True]
    assert {job["priority"] for job in jobs} == {"low"}
    assert {job["labels"]["a"] for job in jobs} == {"b"}


def test_json_lines_may_be_flat_or_whole(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    lines = [
        {"upload_id": upload_id, "height": 96, "labels": {"n": "1"}},
        {"source": {"type": "upload", "upload_id": upload_id}, "options": {"scale": 3}},
        "not an object",
        {"upload_id": upload_id, "url": "https://example.com/a"},
        {"upload_id": upload_id, "colour": "red"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{broken\n\n"
    for answer in (
        api.http.post("/v1/batches", content=text, headers={"Content-Type": "application/x-ndjson"}),
        api.http.post("/v1/batches", json={"manifest": text}),
    ):
        assert answer.status_code == 202, answer.text
        batch = answer.json()
        assert [item["line"] for item in batch["rejected"]] == [3, 4, 5, 6]
        wait_until(lambda batch=batch: is_admitted(api, batch))
        one, two = jobs_of(api, batch)
        assert (one["options"]["height"], one["labels"], two["options"]["scale"]) == (96, {"n": "1"}, 3)


def test_objects_below_a_prefix_become_jobs(settings: ServiceSettings, s3: None) -> None:
    with running_api(settings.model_copy(update={"source_buckets": ("films",)})) as api:
        batch = submit(api, {"prefix": "s3://films/old/"})
        wait_until(lambda: is_admitted(api, batch))
        [job] = jobs_of(api, batch)
        assert job["input"]["filename"] == "clip.mp4"
        for prefix, code in (
            ("s3://secrets/", "source_refused"),
            ("s3://films/none/", "invalid_request"),
            ("https://films/", "invalid_request"),
        ):
            answer = api.http.post("/v1/batches", json={"prefix": prefix})
            assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_batch_without_a_valid_input_is_refused(api: Api) -> None:
    unknown = {"source": {"type": "upload", "upload_id": "upl_unknown"}}
    answer = api.http.post("/v1/batches", json={"inputs": [unknown, 7, {"source": None}]})
    assert answer.status_code == 422
    assert [error["loc"][-1] for error in answer.json()["errors"]] == [0, 1, 2]
    assert api.http.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 422),
        (b'{"inputs": []}', "application/json", 422),
        (b'{"inputs": [], "manifest": ""}', "application/json", 422),
        (b'{"manifest": ""}', "application/json", 422),
        (b'{"inputs": [], "colour": 1}', "application/json", 422),
        (b'{"inputs": {}}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{", "application/json", 400),
        (b"", "text/csv", 422),
        (b"colour\nred\n", "text/csv", 422),
        (b"url,url\na,b\n", "text/csv", 422),
        (b"scale\n2\n", "text/csv", 422),
        (b'url\n"a\n', "text/csv", 400),
        (b"\xff\xfe", "text/csv", 400),
        (b"", "application/x-ndjson", 422),
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422),
    ],
)
def test_what_cannot_be_read_is_a_problem(api: Api, body: bytes, kind: str, status: int) -> None:
    answer = api.http.post("/v1/batches", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_more_inputs_than_accepted_are_refused(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_batch_inputs": 2})) as api:
        upload_id = upload(api.http, clip.read_bytes())
        answer = api.http.post("/v1/batches", json={"inputs": inputs_of(*[upload_id] * 3)})
        assert answer.status_code == 422
        files = [("file", ("a.mp4", b"x"))] * 3
        assert api.http.post("/v1/batches", files=files).status_code == 422
        assert submit(api, {"inputs": inputs_of(upload_id, upload_id)})["counts"]["total"] == 2


def test_the_same_key_and_request_make_one_batch(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    key = {"Idempotency-Key": "monday"}
    first = submit(api, {"inputs": inputs_of(upload_id)}, **key)
    assert submit(api, {"inputs": inputs_of(upload_id)}, **key)["id"] == first["id"]
    other = api.http.post("/v1/batches", json={"inputs": inputs_of(upload_id) * 2}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert len(api.http.get("/v1/batches").json()["data"]) == 1


@pytest.mark.slow
def test_a_manifest_of_thousands_of_lines_is_accepted_at_once_and_survives_a_kill(
    settings: ServiceSettings, clip: Path
) -> None:
    """The first process makes jobs and is killed in the middle; the second makes each of the others once."""
    port, total = free_port(), sized(10_000, brief=600)
    with (
        api_process(settings, port) as killed,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http,
    ):
        # The catalogue that a worker would have written.
        with running_api(settings) as api:
            client = api.context.client
        upload_id = upload(http, clip.read_bytes())
        lines = "\n".join(f'{{"upload_id": "{upload_id}", "filename": "{n}.mp4"}}' for n in range(total))
        answer = http.post("/v1/batches", content=lines, headers={"Content-Type": "application/x-ndjson"})
        assert answer.status_code == 202, answer.text
        batch = answer.json()
        assert batch["counts"] == {
            "total": total, "queued": total, "in_progress": 0, "completed": 0, "failed": 0,
            "cancelled": 0, "rejected": 0, "deleted": 0,
        }  # fmt: skip
        jobs_key = f"dv:batch:{batch['id']}:jobs"
        wait_until(lambda: client.zcard(jobs_key) > 50)
        killed.kill()
        killed.wait()
    made = client.zcard(jobs_key)
    assert made < total
    with running_api(settings) as api:
        wait_until(lambda: is_admitted(api, batch), seconds=240)
        ids = BatchStore(api.context.client).job_ids(batch["id"])
        assert len(ids) == total
        names = [job.spec.input.filename for job in api.context.store.get_many(ids)]
        assert names == [f"{n}.mp4" for n in range(total)]
        assert look(api, batch)["counts"]["queued"] == total
    client.close()


def test_inputs_wait_while_the_queue_is_full(
    settings: ServiceSettings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_FULL_DELAY", timedelta(milliseconds=100))
    with running_api(settings.model_copy(update={"max_waiting_jobs": 2})) as api:
        upload_id = upload(api.http, clip.read_bytes())
        batch = submit(api, {"inputs": inputs_of(*[upload_id] * 5)})
        for _ in range(3):
            wait_until(lambda: len(api.http.get("/v1/jobs?status=queued").json()["data"]) == 2)
            waiting = api.http.get("/v1/jobs?status=queued").json()["data"]
            api.context.store.cancel(waiting[0]["id"], ttl=TTL)
        wait_until(lambda: is_admitted(api, batch))
        after = look(api, batch)
        assert (after["counts"]["rejected"], after["counts"]["cancelled"]) == (0, 3)


def test_progress_and_status_follow_the_jobs(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    batch = submit(api, {"inputs": inputs_of(*[upload_id] * 4)})
    wait_until(lambda: is_admitted(api, batch))
    jobs = jobs_of(api, batch)
    assert (look(api, batch)["status"], look(api, batch)["progress"]) == ("in_progress", 0)
    complete(api, jobs[0]["id"], b"x")
    fail(api, jobs[1]["id"])
    after = look(api, batch)
    assert (after["status"], after["progress"]) == ("in_progress", 50)
    assert api.http.delete(f"/v1/jobs/{jobs[2]['id']}").status_code == 204
    api.context.store.cancel(jobs[3]["id"], ttl=TTL)
    after = look(api, batch)
    assert (after["status"], after["progress"]) == ("completed", 100)
    assert after["counts"] == {
        "total": 4, "queued": 0, "in_progress": 0, "completed": 1, "failed": 1, "cancelled": 1,
        "rejected": 0, "deleted": 1,
    }  # fmt: skip
    wait_until(lambda: look(api, batch)["expires_at"] is not None)
    assert look(api, batch)["completed_at"] is not None


def test_a_batch_whose_jobs_all_failed_has_failed(api: Api, clip: Path) -> None:
    batch = submit(api, {"inputs": inputs_of(upload(api.http, clip.read_bytes()))})
    wait_until(lambda: is_admitted(api, batch))
    [job] = jobs_of(api, batch)
    fail(api, job["id"])
    assert look(api, batch)["status"] == "failed"
    assert api.http.post(f"/v1/jobs/{job['id']}/retry").status_code == 202
    assert look(api, batch)["status"] == "in_progress"


def test_cancelling_a_batch_cancels_what_waits_and_what_runs(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    batch = submit(api, {"inputs": inputs_of(*[upload_id] * 3)})
    wait_until(lambda: is_admitted(api, batch))
    running = jobs_of(api, batch)[0]["id"]
    store = api.context.store
    store.begin(running, "plan", "token", ttl=TTL, max_attempts=4, worker="test", num_workers=1)
    answer = api.http.post(batch["links"]["cancel"])
    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelling"
    assert (answer.json()["counts"]["cancelled"], answer.json()["counts"]["in_progress"]) == (2, 1)
    store.end(running, "plan", "token", "finished", worker="test", cancelled_ttl=TTL)
    assert look(api, batch)["status"] == "cancelled"
    again = api.http.post(batch["links"]["cancel"])
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")


def test_a_batch_whose_jobs_have_ended_is_not_cancelled(api: Api, clip: Path) -> None:
    batch = submit(api, {"inputs": inputs_of(upload(api.http, clip.read_bytes()))})
    wait_until(lambda: is_admitted(api, batch))
    fail(api, jobs_of(api, batch)[0]["id"])
    assert api.http.post(batch["links"]["cancel"]).json()["code"] == "wrong_state"


def test_inputs_of_a_cancelled_batch_become_no_jobs(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        upload_id = upload(api.http, clip.read_bytes())
        batch = submit(api, {"inputs": inputs_of(*[upload_id] * 50)})
        wait_until(lambda: jobs_of(api, batch))
        assert api.http.post(batch["links"]["cancel"]).status_code == 202
        wait_until(lambda: look(api, batch)["status"] == "cancelled")
        assert look(api, batch)["counts"]["cancelled"] == 50


def test_deleting_a_batch_removes_its_jobs_and_files(api: Api, clip: Path) -> None:
    files = [("file", (f"{n}.mp4", clip.read_bytes())) for n in range(3)]
    batch = api.http.post("/v1/batches", files=files).json()
    wait_until(lambda: is_admitted(api, batch))
    assert api.http.delete(batch["links"]["self"]).status_code == 204
    assert api.http.get(batch["links"]["self"]).status_code == 404
    assert api.http.get("/v1/jobs").json()["data"] == []
    assert list(api.context.storage.list("jobs/")) == []
    assert api.http.get("/v1/batches").json()["data"] == []
    assert list(api.context.client.scan_iter(f"dv:*{batch['id']}*")) == []


def test_batches_are_listed_newest_first_in_pages(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    ids = [submit(api, {"inputs": inputs_of(upload_id)})["id"] for _ in range(5)]
    page = api.http.get("/v1/batches?limit=3").json()
    assert page["has_more"]
    rest = api.http.get("/v1/batches", params={"limit": 3, "after": page["next"]}).json()
    assert not rest["has_more"]
    assert sorted(item["id"] for item in page["data"] + rest["data"]) == sorted(ids)


def test_batches_of_others_are_not_found(api_with_keys: Api, clip: Path) -> None:
    api = api_with_keys
    (_, mine), (_, theirs) = api.make_key(), api.make_key()
    files = {"file": ("a.mp4", clip.read_bytes())}
    batch = api.http.post("/v1/batches", files=files, headers=mine).json()
    path = batch["links"]["self"]
    assert api.http.get(path, headers=mine).status_code == 200
    for method, end in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/results"),
        ("GET", "/results.zip"),
    ):
        assert api.http.request(method, path + end, headers=theirs).status_code == 404
    assert api.http.get("/v1/batches", headers=theirs).json()["data"] == []
    assert api.http.get("/v1/batches").status_code == 401


def test_results_are_listed_and_downloaded_as_one_archive(api: Api, clip: Path) -> None:
    files = [("file", (name, clip.read_bytes())) for name in ("a.mp4", "../A.mkv", "a.mp4", "b.mp4")]
    batch = api.http.post("/v1/batches", files=files).json()
    wait_until(lambda: is_admitted(api, batch))
    assert api.http.get(batch["links"]["zip"]).json()["code"] == "not_ready"
    ids = [job["id"] for job in jobs_of(api, batch)]
    contents = [bytes([n]) * (3_000_000 + n) for n in range(3)]
    for job_id, content in zip(ids, contents, strict=False):
        complete(api, job_id, content)
    fail(api, ids[3])

    results = api.http.get(batch["links"]["results"]).json()
    assert [item["job_id"] for item in results["data"]] == ids
    assert [item["filename"] for item in results["data"]] == ["a.mp4", "A.mkv", "a.mp4", "b.mp4"]
    assert results["data"][0]["content"] == f"/v1/jobs/{ids[0]}/content"
    assert results["data"][1]["size_bytes"] == 3_000_001
    assert results["data"][3]["error"]["code"] == "no_frames"
    assert not results["has_more"]
    page = api.http.get(batch["links"]["results"], params={"limit": 3}).json()
    rest = api.http.get(batch["links"]["results"], params={"limit": 3, "after": page["next"]}).json()
    assert page["data"] + rest["data"] == results["data"]
    assert rest["next"] is None

    answer = api.http.get(batch["links"]["zip"])
    assert answer.headers["Content-Type"] == "application/zip"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.mp4", "A-2.mp4", "a-3.mp4"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert [archive.read(name) for name in archive.namelist()] == contents


def test_names_in_the_archive_are_unique_and_harmless() -> None:
    taken: set[str] = set()
    names = ["a.mov", "A.mp4", "a-2.mp4", "..", "C:\\x.mp4", ".mp4", "x" * 300]
    found = [unique_name(name, taken) for name in names]
    assert found == ["a.mp4", "A-2.mp4", "a-2-2.mp4", "video.mp4", "C__x.mp4", "mp4.mp4", "x" * 150 + ".mp4"]


def test_one_webhook_tells_that_all_is_done(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer()) as receiver:
        upload_id = upload(api.http, clip.read_bytes())
        webhook = {"url": receiver.url, "events": ["batch.completed"]}
        batch = submit(api, {"inputs": inputs_of(upload_id, upload_id), "webhook": webhook})
        wait_until(lambda: is_admitted(api, batch))
        first, second = jobs_of(api, batch)
        complete(api, first["id"], b"x")
        fail(api, second["id"])
        wait_until(lambda: receiver.asked)
        # A job that is tried again ends once more; the batch has been told of.
        api.context.store.retry(second["id"])
        fail(api, second["id"])
        wait_until(lambda: not api.context.client.exists("dv:webhooks:pending"))
    [asked] = receiver.asked
    event = signers(api.context, INSTALLATION)[0].verify(asked.body, asked.headers)
    assert event["type"] == "batch.completed"
    assert event["data"]["id"] == batch["id"]
    assert event["data"]["counts"]["completed"] == event["data"]["counts"]["failed"] == 1


def test_jobs_of_a_batch_tell_too_if_their_events_are_wanted(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer()) as receiver:
        upload_id = upload(api.http, clip.read_bytes())
        batch = submit(api, {"inputs": inputs_of(upload_id), "webhook": {"url": receiver.url}})
        wait_until(lambda: is_admitted(api, batch))
        [job] = jobs_of(api, batch)
        fail(api, job["id"])
        wait_until(lambda: len(receiver.asked) == 2)
    kinds = {json.loads(asked.body)["type"] for asked in receiver.asked}
    assert kinds == {"job.failed", "batch.completed"}


def test_a_batch_with_only_wrong_files_is_told_as_failed(api: Api, not_a_video: Path) -> None:
    with running_origin(lambda _: Answer()) as receiver:
        request = json.dumps({"webhook": {"url": receiver.url}})
        files = {"file": ("notes.txt", not_a_video.read_bytes())}
        batch = api.http.post("/v1/batches", files=files, data={"request": request}).json()
        wait_until(lambda: receiver.asked)
    assert json.loads(receiver.asked[0].body)["data"]["status"] == "failed"
    assert look(api, batch)["counts"]["rejected"] == 1


def test_manifests_are_told_apart_by_their_first_character() -> None:
    assert [line.number for line in read_description('\ufeff\n{"url": "a"}\n')] == [2]
    [line] = read_description("url, scale\n\na , 2\n")
    assert line.number == 3
    assert line.content == {"source": {"type": "url", "url": "a"}, "options": {"scale": "2"}}
    with pytest.raises(InvalidRequestError, match="colour"):
        read_description("url,colour\n")
    with pytest.raises(MalformedRequestError, match="line"):
        read_description('url\n"a"b\n')
