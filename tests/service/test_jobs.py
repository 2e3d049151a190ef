"""Jobs over HTTP: submit, find, follow, cancel, retry, delete, and what happens when something is away."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from jobs.api_keys import KeyLimits
from jobs.objects import job_prefix
from jobs.records import JobState
from jobs.settings import ServiceSettings
from jobs.specs import Priority
from tests.jobs.made import make_batch
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import TTL, begin, end, fail, make_job
from tests.service.outages import own_server

CUT_OFF = b'--x\r\nContent-Disposition: form-data; name="scale"\r\n\r\n2'


def submit(api: Api, clip: Path, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    """Sends a clip as a form."""
    with clip.open("rb") as file:
        files = {"file": (clip.name, file, "video/mp4")}
        return api.http.post("/v1/jobs", files=files, data=fields, headers=headers)


def job_of(response: httpx.Response) -> dict[str, Any]:
    """The job in a response."""
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids_of(response: httpx.Response) -> list[str]:
    """Ids of the jobs on a page."""
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


# Submitting


def test_submitted_video_is_probed_stored_and_queued(api: Api, clip: Path) -> None:
    response = submit(api, clip, scale="2", model="bicubic", priority="high", labels='{"project": "a"}')
    job = job_of(response)
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"] == "2"
    assert (job["status"], job["priority"], job["labels"]) == ("queued", "high", {"project": "a"})
    assert job["queue_position"] == 1
    assert job["input"]["filename"] == "clip.mp4"
    assert (job["input"]["width"], job["input"]["height"], job["input"]["num_frames"]) == (64, 48, 12)
    assert (job["options"]["scale"], job["options"]["model"]) == (2.0, "bicubic")
    stored = api.http.get(job["links"]["source"])
    assert stored.content == clip.read_bytes()
    assert {task.job_id for task in api.context.queue.tasks()} == {job["id"]}
    assert list(api.context.incoming_dir.iterdir()) == []


def test_options_may_come_as_json_in_a_form(api: Api, clip: Path) -> None:
    request = {"options": {"scale": 3}, "metadata": {"n": [1, None]}, "filename": "../../etc/x.mov"}
    job = job_of(submit(api, clip, request=json.dumps(request)))
    assert job["options"]["scale"] == 3
    assert job["metadata"] == {"n": [1, None]}
    assert job["input"]["filename"] == "x.mov"


def test_a_container_takes_the_codecs_it_can_hold(api: Api, clip: Path) -> None:
    job = job_of(submit(api, clip, request=json.dumps({"options": {"container": "webm"}})))
    assert (job["options"]["container"], job["options"]["codec"]) == ("webm", "auto")
    refused = submit(api, clip, request=json.dumps({"options": {"container": "webm", "codec": "h264"}}))
    assert refused.status_code == 422
    assert "a webm cannot hold h264; it takes auto or av1 or vp9" in refused.text


def test_finished_upload_can_be_submitted_as_json(api: Api, clip: Path) -> None:
    content, tus = clip.read_bytes(), {"Tus-Resumable": "1.0.0"}
    created = api.http.post("/v1/uploads", headers={**tus, "Upload-Length": str(len(content))})
    location = created.headers["location"]
    patch = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert api.http.patch(location, content=content, headers=patch).status_code == 204
    source = {"type": "upload", "upload_id": location.rpartition("/")[2]}
    job = job_of(api.http.post("/v1/jobs", json={"source": source, "options": {"codec": "h265"}}))
    assert job["options"]["codec"] == "h265"
    assert api.http.get(job["links"]["source"]).content == content


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"scale": "0"}, ["body", "options", "scale"]),
        ({"scale": "many"}, ["body", "options", "scale"]),
        ({"codec": "vp8"}, ["body", "options", "codec"]),
        ({"priority": "urgent"}, ["body", "priority"]),
        ({"labels": '{"bad name": "x"}'}, ["body", "labels", "bad name", "[key]"]),
        ({"model": "nothing"}, ["options", "model"]),
        ({"start_seconds": "99"}, ["options", "start_seconds"]),
        ({"scale": "16", "model": "bicubic", "width": "64"}, ["body", "options"]),
    ],
)
def test_wrong_value_is_named_and_nothing_is_kept(
    api: Api, clip: Path, fields: dict[str, str], where: list[str]
) -> None:
    response = submit(api, clip, **fields)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "invalid_request"
    assert problem["errors"][0]["loc"] == where
    assert api.http.get("/v1/jobs").json()["data"] == []
    assert list(api.context.storage.list("jobs/")) == []


def test_what_is_no_video_is_refused_with_the_probes_code(api: Api, not_a_video: Path) -> None:
    response = submit(api, not_a_video)
    assert response.status_code == 415
    assert response.json()["code"] == "unreadable_input"
    assert "notes.txt" in response.json()["detail"]
    assert str(api.context.settings.data_dir) not in response.text


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"{}", 422),
        ("text/plain", b"hello", 415),
        ("multipart/form-data", b"hello", 400),
        ("multipart/form-data; boundary=x", CUT_OFF, 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
    ],
)
def test_body_that_cannot_be_read_is_refused(api: Api, content_type: str, body: bytes, status: int) -> None:
    response = api.http.post("/v1/jobs", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_upload_above_the_keys_limit_is_too_large(api_with_keys: Api, clip: Path) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_upload_bytes=1000))
    response = submit(api_with_keys, clip, headers)
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert list(api_with_keys.context.incoming_dir.iterdir()) == []


def test_result_above_the_keys_limit_exceeds_the_quota(api_with_keys: Api, clip: Path) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_output_pixels=12 * 64 * 48))
    assert submit(api_with_keys, clip, headers, scale="1").status_code == 202
    response = submit(api_with_keys, clip, headers, scale="2")
    assert response.status_code == 429
    assert response.json()["code"] == "quota_exceeded"


def test_key_with_as_many_jobs_as_it_may_have_has_to_wait(api_with_keys: Api, clip: Path) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_unfinished_jobs=1))
    first = job_of(submit(api_with_keys, clip, headers))
    response = submit(api_with_keys, clip, headers)
    assert response.status_code == 429
    assert response.json()["code"] == "quota_exceeded"
    assert int(response.headers["retry-after"]) > 0
    api_with_keys.http.post(first["links"]["cancel"], headers=headers)
    assert submit(api_with_keys, clip, headers).status_code == 202


def test_full_queue_refuses_with_retry_after(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        job = job_of(submit(api, clip))
        response = submit(api, clip)
        assert response.status_code == 503
        assert response.json()["code"] == "queue_full"
        assert int(response.headers["retry-after"]) > 0
        assert {stored.key.split("/")[1] for stored in api.context.storage.list("jobs/")} == {job["id"]}


# Idempotency


def test_request_that_is_sent_twice_makes_one_job(api: Api, clip: Path) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first, second = (job_of(submit(api, clip, headers, scale="2")) for _ in range(2))
    assert first["id"] == second["id"]
    assert len(ids_of(api.http.get("/v1/jobs"))) == 1
    other = submit(api, clip, headers, scale="3")
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_conflict"


def test_refused_request_may_be_mended_under_its_key(api: Api, clip: Path, not_a_video: Path) -> None:
    headers = {"Idempotency-Key": "order-8"}
    assert submit(api, not_a_video, headers).status_code == 415
    assert submit(api, clip, headers).status_code == 202


def test_simultaneous_requests_with_one_key_make_one_job(api: Api, clip: Path) -> None:
    headers = {"Idempotency-Key": "order-9"}
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: submit(api, clip, headers), range(8)))
    assert {response.status_code for response in responses} <= {202, 409}
    assert len(ids_of(api.http.get("/v1/jobs"))) == 1
    for response in responses:
        if response.status_code == 409:
            assert response.json()["code"] == "idempotency_in_progress"
            assert "retry-after" in response.headers


def test_keys_of_two_owners_do_not_meet(api_with_keys: Api, clip: Path) -> None:
    made = []
    for _ in range(2):
        _, headers = api_with_keys.make_key()
        made.append(job_of(submit(api_with_keys, clip, {**headers, "Idempotency-Key": "same"}))["id"])
    assert len(set(made)) == 2


# Finding


def test_pages_list_every_job_once_in_both_orders(api: Api) -> None:
    made = [make_job(api.context).id for _ in range(7)]
    for order, expected in (("desc", made[::-1]), ("asc", made)):
        found: list[str] = []
        after = None
        while True:
            params = {"limit": 3, "order": order, **({"after": after} if after else {})}
            page = api.http.get("/v1/jobs", params=params)
            found += ids_of(page)
            after = page.json()["next"]
            assert page.json()["has_more"] == (after is not None)
            if after is None:
                break
        assert found == expected


def test_new_jobs_do_not_shift_the_pages(api: Api) -> None:
    made = [make_job(api.context).id for _ in range(4)]
    page = api.http.get("/v1/jobs", params={"limit": 2})
    make_job(api.context)
    rest = api.http.get("/v1/jobs", params={"limit": 2, "after": page.json()["next"]})
    assert ids_of(page) + ids_of(rest) == made[::-1]


def test_jobs_are_found_by_status_label_and_batch(api: Api) -> None:
    context = api.context
    batch_id, _ = make_batch(context.store, num_files=1)
    red = make_job(context, labels={"colour": "red", "size": "s"})
    blue = make_job(context, labels={"colour": "blue", "size": "s"}, batch_id=batch_id)
    failed = make_job(context, labels={"colour": "red"})
    fail(context, failed.id)

    def found(*params: tuple[str, str]) -> set[str]:
        return set(ids_of(api.http.get("/v1/jobs", params=list(params))))

    assert found(("status", "queued")) == {red.id, blue.id}
    assert found(("status", "queued"), ("status", "failed")) == {red.id, blue.id, failed.id}
    assert found(("label", "colour:red")) == {red.id, failed.id}
    assert found(("label", "colour:red"), ("label", "size:s")) == {red.id}
    assert found(("label", "colour:red"), ("status", "failed")) == {failed.id}
    assert found(("batch_id", batch_id)) == {blue.id}
    assert found(("label", "colour:green")) == set()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "order=up", "status=done", "label=nocolon", "colour=red"]
)
def test_wrong_question_is_refused(api: Api, query: str) -> None:
    response = api.http.get(f"/v1/jobs?{query}")
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_request"


def test_position_in_the_queue_counts_higher_priorities_first(api: Api) -> None:
    low = make_job(api.context, priority=Priority.LOW)
    normal = make_job(api.context)
    high = make_job(api.context, priority=Priority.HIGH)
    expected = {high.id: 1, normal.id: 2, low.id: 3}
    listed = {job["id"]: job["queue_position"] for job in api.http.get("/v1/jobs").json()["data"]}
    assert listed == expected
    single = {i: api.http.get(f"/v1/jobs/{i}").json()["queue_position"] for i in expected}
    assert single == expected
    begin(api.context, high.id)
    assert api.http.get(f"/v1/jobs/{high.id}").json()["queue_position"] is None
    assert api.http.get(f"/v1/jobs/{low.id}").json()["queue_position"] == 2


def test_unchanged_job_is_answered_with_304(api: Api) -> None:
    ahead, job = make_job(api.context), make_job(api.context)
    path = f"/v1/jobs/{job.id}"
    first = api.http.get(path)
    assert first.headers["retry-after"] == "2"
    known = {"If-None-Match": first.headers["etag"]}
    unchanged = api.http.get(path, headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["retry-after"] == "2"
    api.http.post(f"/v1/jobs/{ahead.id}/cancel")
    moved_up = api.http.get(path, headers=known)
    assert (moved_up.status_code, moved_up.json()["queue_position"]) == (200, 1)
    fail(api.context, job.id)
    final = api.http.get(path, headers={"If-None-Match": moved_up.headers["etag"]})
    assert final.status_code == 200
    assert "retry-after" not in final.headers


@pytest.mark.parametrize(
    "job_id", ["job_", "x", "job_01K9ZQ3V5N8W2C7M4T6Y1X0ABC", "job_%00", "job_" + "a" * 99]
)
def test_what_cannot_be_an_id_is_refused(api: Api, job_id: str) -> None:
    response = api.http.get(f"/v1/jobs/{job_id}")
    assert response.status_code == 422


def test_unknown_job_is_not_found(api: Api) -> None:
    for suffix in ("", "/events", "/content"):
        response = api.http.get(f"/v1/jobs/job_01k9zq3v5n8w2c7m4t6y1x0abc{suffix}")
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"
        assert response.json()["instance"].endswith(suffix)


# Cancelling, trying again, deleting


def test_waiting_job_is_cancelled_at_once_and_running_one_when_it_stops(api: Api) -> None:
    waiting, running = make_job(api.context), make_job(api.context)
    begin(api.context, running.id)
    assert job_of(api.http.post(f"/v1/jobs/{waiting.id}/cancel"))["status"] == "cancelled"
    assert job_of(api.http.post(f"/v1/jobs/{running.id}/cancel"))["status"] == "cancelling"
    end(api.context, running.id, "plan")
    assert api.http.get(f"/v1/jobs/{running.id}").json()["status"] == "cancelled"
    # As a client does that has lost the answer.
    assert job_of(api.http.post(f"/v1/jobs/{waiting.id}/cancel"))["status"] == "cancelled"


def test_a_job_that_has_failed_is_not_cancelled(api: Api) -> None:
    job = make_job(api.context)
    fail(api.context, job.id)
    answer = api.http.post(f"/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_failed_job_can_be_tried_again(api: Api) -> None:
    job = make_job(api.context)
    fail(api.context, job.id)
    failed = api.http.get(f"/v1/jobs/{job.id}").json()
    assert failed["error"] == {"code": "no_frames", "message": "there was nothing to see"}
    assert failed["expires_at"] is not None
    again = job_of(api.http.post(f"/v1/jobs/{job.id}/retry"))
    assert (again["status"], again["error"], again["expires_at"]) == ("queued", None, None)
    assert {(task.job_id, task.task) for task in api.context.queue.tasks()} == {(job.id, "plan")}
    # As a client does that has lost the answer, before and after the job has begun.
    assert job_of(api.http.post(f"/v1/jobs/{job.id}/retry"))["status"] == "queued"
    begin(api.context, job.id)
    repeated = job_of(api.http.post(f"/v1/jobs/{job.id}/retry"))
    assert (repeated["status"], repeated["attempts"]) == ("in_progress", 1)


def test_deleted_job_leaves_nothing(api: Api, clip: Path) -> None:
    job = job_of(submit(api, clip))
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 404
    assert list(api.context.storage.list(job_prefix(job["id"]))) == []
    assert ids_of(api.http.get("/v1/jobs")) == []


# Following


def iter_events(api: Api, job_id: str, *, last_event_id: str | None = None) -> Iterator[ServerSentEvent]:
    """Events until the stream ends."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with (
        httpx.Client(base_url=api.url, timeout=30, trust_env=False, verify=False) as client,
        connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source,
    ):
        yield from source.iter_sse()


def follow(
    api: Api, job_id: str, *, last_event_id: str | None = None, until: int = 100
) -> list[ServerSentEvent]:
    """Events until the stream ends, or so many."""
    with contextlib.closing(iter_events(api, job_id, last_event_id=last_event_id)) as events:
        return list(itertools.islice(events, until))


def test_follower_sees_the_state_now_then_news_then_the_end(api: Api) -> None:
    job = make_job(api.context)
    found: list[ServerSentEvent] = []

    def collect() -> None:
        for event in iter_events(api, job.id):
            found.append(event)

    thread = threading.Thread(target=collect)
    thread.start()
    wait_until(lambda: found)
    begin(api.context, job.id)
    fail(api.context, job.id)
    thread.join(30)
    assert not thread.is_alive()
    assert found[0].event == "status"
    assert found[-1].event == "failed"
    last = found[-1].json()
    assert last["job"]["status"] == "failed"
    assert last["type"] == "failed"
    numbers = [tuple(map(int, event.id.split("-"))) for event in found]
    assert numbers == sorted(set(numbers))


def test_follower_who_comes_back_gets_what_was_missed(api: Api) -> None:
    job = make_job(api.context)
    (first,) = follow(api, job.id, until=1)
    begin(api.context, job.id)
    api.context.store.cancel(job.id, ttl=TTL)
    end(api.context, job.id, "plan")
    missed = follow(api, job.id, last_event_id=first.id)
    assert [event.event for event in missed][-1] == "cancelled"
    assert len(missed) >= 2
    # Somebody who has seen all is told that there is no more, at once.
    assert follow(api, job.id, last_event_id=missed[-1].id) == []


def test_follower_of_a_finished_job_gets_its_end(api: Api) -> None:
    job = make_job(api.context)
    fail(api.context, job.id)
    assert [event.event for event in follow(api, job.id)] == ["failed"]


def test_lost_history_is_told_by_a_reset(api: Api) -> None:
    job = make_job(api.context)
    fail(api.context, job.id)
    found = follow(api, job.id, last_event_id="1-0")
    assert found[0].event == "reset"
    assert found[-1].event == "failed"


def test_end_of_a_job_is_told_when_its_events_are_gone(api: Api) -> None:
    job = make_job(api.context)
    (first,) = follow(api, job.id, until=1)
    fail(api.context, job.id)
    (last,) = follow(api, job.id)
    assert 0 < api.context.client.ttl(f"dv:events:{job.id}") <= 60
    api.context.client.delete(f"dv:events:{job.id}")
    assert [event.event for event in follow(api, job.id)] == ["failed"]
    assert [event.event for event in follow(api, job.id, last_event_id=first.id)] == ["failed"]
    assert follow(api, job.id, last_event_id=last.id) == []
    api.context.store.retry(job.id)
    assert api.context.client.ttl(f"dv:events:{job.id}") == -1


def test_process_hears_of_followed_jobs_only_and_forgets_them(api: Api) -> None:
    followed, other = make_job(api.context), make_job(api.context)

    def channels() -> set[bytes]:
        return set(api.context.client.pubsub_channels("dv:events:*"))

    with contextlib.closing(iter_events(api, followed.id)) as events:
        assert next(events).event == "status"
        assert channels() == {f"dv:events:{followed.id}".encode()}
        fail(api.context, other.id)
    wait_until(lambda: not channels())


def test_deleted_job_ends_its_followers(api: Api) -> None:
    job = make_job(api.context)
    found: list[ServerSentEvent] = []
    thread = threading.Thread(target=lambda: found.extend(follow(api, job.id)))
    thread.start()
    wait_until(lambda: f"dv:events:{job.id}".encode() in api.context.client.pubsub_channels())
    api.http.delete(f"/v1/jobs/{job.id}")
    thread.join(30)
    assert not thread.is_alive()
    assert found[-1].event == "deleted"
    assert found[-1].json()["job"] is None


@pytest.mark.parametrize(
    "value",
    ["abc", "1", "1-", "18446744073709551615-18446744073709551615", "99999999999999999999-0", "-1-0"],
)
def test_event_id_that_is_none_is_refused(api: Api, value: str) -> None:
    job = make_job(api.context)
    response = api.http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": value})
    assert response.status_code == 422


def test_event_id_of_the_future_waits_for_nothing_that_was(api: Api) -> None:
    job = make_job(api.context)
    fail(api.context, job.id)
    assert follow(api, job.id, last_event_id=f"{10**19 - 1}-{10**19 - 1}") == []


# Outages


@pytest.fixture
def doomed(settings: ServiceSettings) -> Iterator[Api]:
    """An API whose Redis has gone away."""
    with own_server(settings) as (server, its_settings), running_api(its_settings) as api:
        make_job(api.context)
        assert api.http.get("/v1/jobs").status_code == 200
        server.stop()
        yield api


def test_without_redis_every_request_is_refused_for_now(doomed: Api, clip: Path) -> None:
    path = "/v1/jobs/job_01k9zq3v5n8w2c7m4t6y1x0abc"
    responses = [
        submit(doomed, clip),
        submit(doomed, clip, {"Idempotency-Key": "x"}),
        doomed.http.get("/v1/jobs"),
        doomed.http.get(path),
        doomed.http.get(path, headers={"If-None-Match": '"1-0"'}),
        doomed.http.get(f"{path}/content"),
        doomed.http.get(f"{path}/stream"),
        doomed.http.get(f"{path}/hls/video.m3u8"),
        doomed.http.post(f"{path}/cancel"),
        doomed.http.post(f"{path}/retry"),
        doomed.http.delete(path),
        doomed.http.get("/v1/models"),
        doomed.http.post("/v1/estimate", json={"input": {"width": 1, "height": 1, "num_frames": 1}}),
    ]
    for response in responses:
        assert response.status_code == 503, (response.request.url, response.text)
        assert response.json()["code"] == "unavailable"
        assert int(response.headers["retry-after"]) > 0
    assert len(list(doomed.context.storage.list("jobs/"))) == 1  # that of the fixture's job


def test_with_keys_and_without_redis_requests_are_refused_for_now(settings: ServiceSettings) -> None:
    with own_server(settings) as (server, its_settings), running_api(its_settings, uses_keys=True) as api:
        _, headers = api.make_key()
        assert api.http.get("/v1/jobs", headers=headers).status_code == 200
        server.stop()
        for sent in (headers, {"Authorization": "Bearer dv_other"}):
            response = api.http.get("/v1/jobs", headers=sent)
            assert response.status_code == 503, response.text


def test_state_names_are_those_of_the_contract() -> None:
    assert {state.value for state in JobState} == {
        "queued",
        "in_progress",
        "completed",
        "failed",
        "cancelling",
        "cancelled",
    }
