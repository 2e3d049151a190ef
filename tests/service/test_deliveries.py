"""Deliveries: results that are sent to servers and buckets of customers, which are real ones here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.api_keys import Scope
from jobs.embedded_redis import free_port
from jobs.multipart import MultipartBucket
from jobs.settings import ServiceSettings
from jobs.specs import WebhookTarget
from jobs.transfers import DeliveryStatus, ResultDelivery
from service.deliveries import task
from service.deliveries.task import QUEUE, deliver_result
from service.sources.fetching import open_bucket
from tests.s3_server import BUCKET, make_s3_url, s3_server
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import complete, fail, folder_of, make_job
from tests.service.origin import Answer, Asked, running_origin

__all__ = ["s3_server"]

RESULT = bytes(range(256)) * 8192
SECRET = "X-Amz-Signature=5ecre7"


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "_FIRST_DELAY", timedelta(milliseconds=20))
    monkeypatch.setattr(task, "_LONGEST_DELAY", timedelta(milliseconds=100))


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prefix of the test's own in the bucket that results may go to."""
    return make_s3_url(s3_server, tmp_path.name, monkeypatch) + "/"


@pytest.fixture
def bucket_api(settings: ServiceSettings, bucket: str) -> Iterator[Api]:
    with running_api(settings.model_copy(update={"target_buckets": (BUCKET, "absent")})) as api:
        yield api


def completed(api: Api, url: str | None, **values: Any) -> str:
    """A job whose result is there and is to be delivered."""
    job_id = make_job(api.context, deliver_to=url, **values).id
    complete(api.context, job_id, RESULT)
    return job_id


def delivery_of(api: Api, job_id: str) -> Any:
    return api.http.get(f"/v1/jobs/{job_id}").json()["delivery"]


def ended(api: Api, job_id: str) -> Any:
    """A delivery that was told of."""
    wait_until(lambda: not api.context.client.zcard("dv:deliveries"))
    return delivery_of(api, job_id)


def submit(api: Api, clip: Path, deliver_to: str) -> Any:
    return api.http.post(
        "/v1/jobs",
        data={"deliver_to": deliver_to},
        files={"file": ("a.mp4", clip.read_bytes())},
    )


def test_a_result_is_put_to_an_address_with_its_type_length_and_digest(api: Api) -> None:
    with running_origin(lambda _: Answer()) as target:
        job_id = completed(api, f"{target.url}/up/a.mp4?{SECRET}")
        delivery = ended(api, job_id)
    [asked] = target.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", f"/up/a.mp4?{SECRET}", RESULT)
    assert asked.headers["Content-Type"] == "video/mp4"
    assert asked.headers["Content-Length"] == str(len(RESULT))
    digest = base64.b64encode(hashlib.sha256(RESULT).digest()).decode()
    assert asked.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert {"Transfer-Encoding", "X-Ms-Blob-Type", "Authorization"}.isdisjoint(asked.headers)
    assert delivery["url"] == f"{target.url}/up/a.mp4"
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("delivered", 1, None)
    assert delivery["ended_at"] is not None
    assert api.http.get(f"/v1/jobs/{job_id}/content").content == RESULT


def test_azure_is_told_what_kind_of_blob_it_gets(api: Api) -> None:
    with running_origin(lambda _: Answer(201)) as target:
        ended(api, completed(api, f"{target.url}/box/a.mp4?sv=2024-11-04&sr=b&sig=abc%3D"))
    assert target.asked[0].headers["x-ms-blob-type"] == "BlockBlob"


def test_a_result_becomes_an_object_below_a_prefix(bucket_api: Api, bucket: str, clip: Path) -> None:
    answer = submit(bucket_api, clip, bucket)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    where = f"{bucket}{job['id']}.mp4"
    assert job["delivery"] == {
        "url": where,
        "status": "waiting",
        "attempts": 0,
        "error": None,
        "ended_at": None,
    }
    complete(bucket_api.context, job["id"], RESULT)
    assert ended(bucket_api, job["id"])["status"] == "delivered"
    stored = open_bucket(BUCKET).get(where.removeprefix(f"s3://{BUCKET}/"))
    assert bytes(stored.bytes()) == RESULT
    assert stored.attributes["Content-Type"] == "video/mp4"


def test_a_large_result_goes_in_parts_and_is_there_whole(bucket_api: Api, bucket: str) -> None:
    large = RESULT * 9
    job_id = make_job(bucket_api.context, deliver_to=f"{bucket}film.mp4").id
    complete(bucket_api.context, job_id, large)
    assert ended(bucket_api, job_id)["status"] == "delivered"
    key = f"{bucket}film.mp4".removeprefix(f"s3://{BUCKET}/")
    stored = open_bucket(BUCKET).get(key)
    assert str(stored.meta["e_tag"]).endswith('-3"')
    assert bytes(stored.bytes()) == large
    assert list(MultipartBucket(BUCKET).open_multiparts(key)) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://others/a.mp4", "'others' are not allowed"),
        (f"s3://{BUCKET}", "names no object"),
        (f"s3://{BUCKET}/a/../b.mp4", "no name of an object"),
        (f"s3://{BUCKET}//", "no name of an object"),
        ("ftp://example.com/a.mp4", "is ftp://"),
        ("/etc/passwd", "is no://"),
        ("https://user:pass@example.com/a", "user name or password"),
    ],
)
def test_what_may_not_be_sent_to_is_refused_at_submission(
    bucket_api: Api, clip: Path, url: str, reason: str
) -> None:
    answer = submit(bucket_api, clip, url)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "target_refused")
    assert reason in problem["detail"]
    assert problem["errors"][0]["loc"] == ["body", "deliver_to"]


def test_private_networks_are_refused_at_submission_and_at_delivery(
    settings: ServiceSettings, clip: Path
) -> None:
    with running_api(settings.model_copy(update={"allow_private_targets": False})) as api:
        for url in ("https://127.0.0.1/a", "https://169.254.169.254/a", "http://example.com/a"):
            assert submit(api, clip, url).json()["code"] == "target_refused"
        # As if it had been allowed when it was submitted.
        delivery = ended(api, completed(api, f"http://127.0.0.1/a?{SECRET}"))
    assert (delivery["status"], delivery["error"]["code"]) == ("failed", "target_refused")
    assert "accepted is https" in delivery["error"]["message"]
    assert SECRET not in json.dumps(delivery)


def test_the_services_own_bucket_cannot_be_a_target() -> None:
    with pytest.raises(ValueError, match="target_buckets must not name 'own'"):
        ServiceSettings(storage_url="s3://own/prefix", target_buckets=("others", "own"))


@pytest.mark.parametrize("status", [403, 307, 400])
def test_a_target_that_refuses_is_not_asked_again(api: Api, status: int) -> None:
    headers = {"Location": "http://127.0.0.2/elsewhere"}
    with running_origin(lambda _: Answer(status, headers=headers)) as target, capture_logs() as logs:
        job_id = completed(api, f"{target.url}/a.mp4?{SECRET}")
        delivery = ended(api, job_id)
    assert len(target.asked) == 1
    assert (delivery["status"], delivery["attempts"]) == ("failed", 1)
    assert delivery["error"] == {
        "code": "target_failed",
        "message": f"{target.url}/a.mp4 answers {status}",
    }
    assert SECRET not in str(logs)
    assert any(entry["event"] == "delivery.attempted" for entry in logs)
    # The job is what it was, and its result is here.
    job = api.http.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["error"]) == ("completed", None)
    assert api.http.get(f"/v1/jobs/{job_id}/content").content == RESULT


def test_a_target_that_is_overloaded_is_asked_again(api: Api) -> None:
    answers = iter([503, 429, 200])
    with running_origin(lambda _: Answer(next(answers))) as target:
        delivery = ended(api, completed(api, f"{target.url}/a.mp4"))
    assert [asked.body for asked in target.asked] == [RESULT] * 3
    assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("delivered", 3, None)


def test_a_target_that_stays_away_is_given_up_and_can_be_asked_for_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "MAX_ATTEMPTS", 3)
    job_id = completed(api, f"http://127.0.0.1:{free_port()}/a.mp4?{SECRET}")
    delivery = ended(api, job_id)
    assert (delivery["status"], delivery["attempts"]) == ("failed", 3)
    assert delivery["error"]["code"] == "target_failed"
    assert "ConnectError" in delivery["error"]["message"]

    with running_origin(lambda _: Answer()) as target:
        answer = api.http.post(f"/v1/jobs/{job_id}/deliver", json={"deliver_to": f"{target.url}/b?{SECRET}"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["delivery"]["url"] == f"{target.url}/b"
        assert ended(api, job_id)["status"] == "delivered"
        assert api.http.post(f"/v1/jobs/{job_id}/deliver", json={}).status_code == 202
        wait_until(lambda: len(target.asked) == 2)
        assert ended(api, job_id)["status"] == "delivered"
    assert {asked.path for asked in target.asked} == {f"/b?{SECRET}"}


@contextmanager
def closing_early(num_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """A server that reads so much of each request and closes; its address, and what it has read."""
    taken: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    read = 0
                    while read < num_bytes and (piece := connection.recv(1 << 16)):
                        read += len(piece)
                    taken.append(read)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
        finally:
            server.shutdown(socket.SHUT_RDWR)


def test_a_target_that_dies_in_the_middle_gets_the_whole_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "MAX_ATTEMPTS", 2)
    with closing_early(len(RESULT) // 2) as (url, taken):
        delivery = ended(api, completed(api, f"{url}/a.mp4"))
    assert len(taken) == 2
    assert (delivery["status"], delivery["attempts"]) == ("failed", 2)
    assert delivery["error"]["code"] == "target_failed"


def test_a_bucket_that_is_not_there_is_told_and_keeps_no_parts(bucket_api: Api) -> None:
    delivery = ended(bucket_api, completed(bucket_api, "s3://absent/a.mp4"))
    assert (delivery["status"], delivery["attempts"]) == ("failed", 1)
    assert delivery["error"] == {"code": "target_failed", "message": "there is no bucket 'absent'"}


def test_a_result_that_was_removed_is_not_delivered(api: Api) -> None:
    job_id = make_job(api.context).id
    complete(api.context, job_id, RESULT)
    output = api.context.store.get(job_id).output
    assert output is not None
    (folder_of(api.context) / output.key).unlink()
    with running_origin(lambda _: Answer()) as target:
        answer = api.http.post(f"/v1/jobs/{job_id}/deliver", json={"deliver_to": target.url})
        assert answer.status_code == 202
        delivery = ended(api, job_id)
    assert (delivery["status"], delivery["error"]["code"]) == ("failed", "gone")


def test_a_repeated_message_of_a_delivery_that_is_over_sends_nothing(api: Api) -> None:
    with running_origin(lambda _: Answer()) as target:
        job_id = completed(api, target.url)
        ended(api, job_id)
        asyncio.run(deliver_result(api.context, job_id))
        asyncio.run(deliver_result(api.context, "job_gone"))
    assert len(target.asked) == 1


def test_an_attempt_that_is_late_does_not_undo_how_a_delivery_ended(api: Api) -> None:
    with running_origin(lambda _: Answer()) as target:
        job_id = completed(api, target.url)
        before = ended(api, job_id)
        known = api.context.store.get(job_id).delivery
        assert known is not None
        late = ResultDelivery(url=target.url, status=DeliveryStatus.PENDING, asked_ms=known.asked_ms)
        api.context.store.note_delivery(job_id, late, DeliveryStatus.FAILED, code="x", message="x")
        assert delivery_of(api, job_id) == before


def test_a_delivery_whose_message_was_lost_is_made_all_the_same(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_LOOK_AGAIN", timedelta(milliseconds=200))
    is_up = threading.Event()

    def answer(_: Asked) -> Answer:
        return Answer(200 if is_up.is_set() else 503)

    with running_origin(answer) as target, running_api(settings) as api:
        monkeypatch.setattr(task, "_FIRST_DELAY", timedelta(hours=1))
        monkeypatch.setattr(task, "_LONGEST_DELAY", timedelta(hours=1))
        job_id = completed(api, target.url)
        wait_until(lambda: delivery_of(api, job_id)["attempts"] == 1)
        queue: Any = api.context.queue.messages.client
        wait_until(lambda: queue.zcard(f"dv:queue:{QUEUE}:later") == 1)
        is_up.set()
        queue.delete(f"dv:queue:{QUEUE}:later", f"dv:queue:{QUEUE}:messages")
        assert ended(api, job_id)["attempts"] == 2


def test_customers_hear_how_a_delivery_ended(api: Api) -> None:
    statuses = iter([200, 403])
    with (
        running_origin(lambda _: Answer(204)) as receiver,
        running_origin(lambda _: Answer(next(statuses))) as target,
    ):
        hook = WebhookTarget(url=receiver.url)
        job_id = completed(api, f"{target.url}/a?{SECRET}", webhook=hook)
        assert ended(api, job_id)["status"] == "delivered"
        assert api.http.post(f"/v1/jobs/{job_id}/deliver", json={}).status_code == 202
        assert ended(api, job_id)["status"] == "failed"
        wait_until(lambda: len(receiver.asked) == 4)
    assert SECRET not in str(receiver.asked)
    events = {event["type"]: event["data"] for event in (json.loads(asked.body) for asked in receiver.asked)}
    assert events.keys() == {"job.started", "job.completed", "job.delivered", "job.undelivered"}
    assert events["job.delivered"]["delivery"]["status"] == "delivered"
    assert events["job.undelivered"]["delivery"]["error"]["code"] == "target_failed"
    assert api.context.store.num_deliveries_ended() == {"delivered": 1, "failed": 1}
    wait_until(lambda: api.context.store.num_webhooks_ended() == {"delivered": 4})
    sent = api.http.get(f"/v1/jobs/{job_id}/deliveries").json()["data"]
    assert {item["event"] for item in sent} == events.keys()
    for item in sent:
        assert api.http.get(f"/v1/webhooks/deliveries/{item['id']}").status_code == 200


def test_only_completed_jobs_of_ones_own_are_delivered(api_with_keys: Api) -> None:
    key, header = api_with_keys.make_key(Scope.READ, Scope.WRITE)
    _, reader = api_with_keys.make_key(Scope.READ)
    context, http = api_with_keys.context, api_with_keys.http
    job = make_job(context, owner=key.id)
    path, body = f"/v1/jobs/{job.id}/deliver", {"deliver_to": "https://example.com/a"}
    assert http.post(path, json=body, headers=header).json()["code"] == "not_ready"
    assert http.post(path, json=body, headers=reader).status_code == 403
    others, other = make_job(context, owner="key_other"), make_job(context, owner=key.id)
    assert http.post(f"/v1/jobs/{others.id}/deliver", json=body, headers=header).status_code == 404
    fail(context, other.id)
    assert http.post(f"/v1/jobs/{other.id}/deliver", json=body, headers=header).json()["code"] == "gone"
    complete(context, job.id, RESULT)
    assert http.post(path, json={}, headers=header).json()["code"] == "wrong_state"
    refused = http.post(path, json={"deliver_to": "s3://b/k"}, headers=header)
    assert (refused.status_code, refused.json()["code"]) == (422, "target_refused")


def test_a_deleted_job_is_not_delivered(api: Api) -> None:
    with running_origin(lambda _: Answer(503)) as target:
        job_id = completed(api, target.url)
        wait_until(lambda: target.asked)
        assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204
        assert not api.context.client.zcard("dv:deliveries")
        wait_until(lambda: not api.context.queue.messages.ids(QUEUE))


def test_batches_deliver_below_a_prefix_or_where_each_input_says(
    bucket_api: Api, bucket: str, clip: Path
) -> None:
    http = bucket_api.http
    refused = http.post(
        "/v1/batches",
        json={"deliver_to": f"{bucket}all.mp4", "inputs": [{"source": {"type": "url", "url": "x"}}]},
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "target_refused")
    with running_origin(lambda _: Answer(body=clip.read_bytes())) as origin:
        manifest = (
            "url,deliver_to\n"
            f"{origin.url}/a.mp4,\n"
            f"{origin.url}/b.mp4,{bucket}b.mp4\n"
            f"{origin.url}/c.mp4,s3://others/c.mp4\n"
        )
        batch = http.post(
            "/v1/batches",
            params={"deliver_to": bucket},
            content=manifest,
            headers={"Content-Type": "text/csv"},
        ).json()
        assert [item["error"]["code"] for item in batch["rejected"]] == ["target_refused"]
        path = f"/v1/jobs?batch_id={batch['id']}"
        wait_until(lambda: len(http.get(path).json()["data"]) == 2)
        jobs = http.get(path).json()["data"]
        wait_until(lambda: all(http.get(job["links"]["self"]).json()["stage"] is None for job in jobs))
        jobs = http.get(path).json()["data"]  # what they are, and so what they are called, is known now
    found = {job["input"]["filename"]: job["delivery"]["url"] for job in jobs}
    [first] = [job["id"] for job in jobs if job["input"]["filename"] == "a.mp4"]
    assert found == {"a.mp4": f"{bucket}{first}.mp4", "b.mp4": f"{bucket}b.mp4"}


def test_files_of_a_batch_are_delivered_below_its_prefix(bucket_api: Api, bucket: str, clip: Path) -> None:
    http = bucket_api.http
    batch = http.post(
        "/v1/batches",
        data={"deliver_to": bucket},
        files=[("file", (name, clip.read_bytes())) for name in ("a.mp4", "b.mp4")],
    ).json()
    path = f"/v1/jobs?batch_id={batch['id']}"
    wait_until(lambda: len(http.get(path).json()["data"]) == 2)
    for job in http.get(path).json()["data"]:
        assert job["delivery"]["url"] == f"{bucket}{job['id']}.mp4"
