"""Webhooks: a real receiver that checks signatures with the Standard Webhooks library."""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from jobs import keys
from jobs.connections import async_client
from jobs.embedded_redis import free_port
from jobs.messages import retry_delay
from jobs.records import JobError, OutputInfo
from jobs.settings import ServiceSettings
from jobs.specs import new_id
from jobs.store import JobStore
from jobs.webhook_secrets import INSTALLATION
from service.webhooks import outbox
from service.webhooks.outbox import Delivery, DeliveryState
from service.webhooks.secrets import signers
from tests.service.api_process import api_process
from tests.service.conftest import Api, running_api, wait_until
from tests.service.origin import Answer, Asked, running_origin

TTL = timedelta(minutes=5)


def secret(character: str) -> SecretStr:
    return SecretStr("whsec_" + base64.b64encode(character.encode() * 32).decode())


def submit(http: httpx.Client, clip: Path, url: str, *events: str) -> str:
    request = {"webhook": {"url": url, "events": list(events)}, "labels": {"shelf": "7"}}
    answer = http.post(
        "/v1/jobs", data={"request": json.dumps(request)}, files={"file": ("a.mp4", clip.read_bytes())}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def begin(store: JobStore, job_id: str, task: str = "plan") -> str:
    token = uuid4().hex
    beginning = store.begin(job_id, task, token, ttl=TTL, max_attempts=4, worker="test", num_workers=1)
    assert beginning.outcome == "ok"
    return token


def complete(store: JobStore, job_id: str) -> None:
    output = OutputInfo(
        width=256, height=192, num_frames=12, duration_seconds=0.48, size_bytes=1, sha256="0" * 64,
        job_id=job_id, container="mp4", num_segments=1, token="none",
    )  # fmt: skip
    store.complete(job_id, begin(store, job_id, "join"), output, ttl=TTL)


def fail(store: JobStore, job_id: str) -> None:
    store.fail(job_id, JobError(code="no_frames", message="there are no frames"), ttl=TTL)


def verified(api: Api, asked: Asked) -> Any:
    """The event of a request, if its signature holds."""
    [current, *_] = signers(api.context, INSTALLATION)
    return current.verify(asked.body, asked.headers)


@pytest.mark.parametrize(
    ("act", "kind", "status"),
    [(complete, "job.completed", "completed"), (fail, "job.failed", "failed")],
)
def test_customers_hear_that_a_job_began_and_how_it_ended(
    api: Api, clip: Path, act: Callable[[JobStore, str], None], kind: str, status: str
) -> None:
    with running_origin(lambda _: Answer(204)) as receiver:
        job_id = submit(api.http, clip, f"{receiver.url}/hook")
        begin(api.context.store, job_id)
        wait_until(lambda: len(receiver.asked) == 1)
        act(api.context.store, job_id)
        wait_until(lambda: len(receiver.asked) == 2)
        wait_until(lambda: not api.context.client.exists(keys.WEBHOOKS_PENDING()))

    started, ended = (verified(api, asked) for asked in receiver.asked)
    assert started["type"] == "job.started"
    assert ended["type"] == kind
    assert ended["data"]["id"] == job_id
    assert ended["data"]["status"] == status
    assert ended["data"]["labels"] == {"shelf": "7"}
    assert ended["data"]["links"]["content"] == f"/v1/jobs/{job_id}/content"
    assert datetime.fromisoformat(ended["timestamp"]) <= datetime.now(UTC)
    assert {asked.path for asked in receiver.asked} == {"/hook"}
    assert receiver.asked[0].headers["Content-Type"] == "application/json"


def test_links_are_absolute_where_the_servers_address_is_known(settings: ServiceSettings, clip: Path) -> None:
    public = settings.model_copy(update={"public_url": "https://vsr.example.com/"})
    with running_origin(lambda _: Answer()) as receiver, running_api(public) as api:
        job_id = submit(api.http, clip, receiver.url)
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: receiver.asked)
        event = verified(api, receiver.asked[0])
    assert event["type"] == "job.cancelled"
    assert event["data"]["links"]["self"] == f"https://vsr.example.com/v1/jobs/{job_id}"


def test_only_wanted_events_are_sent(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer()) as receiver:
        job_id = submit(api.http, clip, receiver.url, "job.failed")
        begin(api.context.store, job_id)
        wait_until(lambda: not api.context.client.exists(keys.WEBHOOKS_PENDING()))
        fail(api.context.store, job_id)
        wait_until(lambda: receiver.asked)
    assert [verified(api, asked)["type"] for asked in receiver.asked] == ["job.failed"]


def test_a_receiver_that_fails_twice_gets_the_same_event_a_third_time(api: Api, clip: Path) -> None:
    answers = [Answer(500), Answer(302, headers={"Location": "/elsewhere"}), Answer(200)]
    with running_origin(lambda _: answers.pop(0)) as receiver:
        job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: len(receiver.asked) == 3)
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == 1
    assert len({asked.body for asked in receiver.asked}) == 1
    assert {asked.path for asked in receiver.asked} == {"/"}
    for asked in receiver.asked:
        verified(api, asked)


def outcome_of(api: Api) -> bytes | None:
    [key] = list(api.context.client.scan_iter("dv:webhook:msg_*"))
    return api.context.client.hget(key, "outcome")


def test_an_event_is_given_up_after_its_last_attempt(settings: ServiceSettings, clip: Path) -> None:
    with (
        running_origin(lambda _: Answer(500)) as receiver,
        running_api(settings.model_copy(update={"webhook_max_attempts": 2})) as api,
    ):
        job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: list(api.context.client.scan_iter("dv:webhook:msg_*")))
        wait_until(lambda: outcome_of(api) == b"failed")
        assert len(receiver.asked) == 2


def deliveries(api: Api, path: str) -> list[Any]:
    answer = api.http.get(f"{path}/deliveries")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_what_was_given_up_is_seen_and_sent_again_with_the_same_bytes(
    settings: ServiceSettings, clip: Path
) -> None:
    status = 500
    with (
        running_origin(lambda _: Answer(status)) as receiver,
        running_api(settings.model_copy(update={"webhook_max_attempts": 1})) as api,
    ):
        job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        path = f"/v1/jobs/{job_id}"
        assert deliveries(api, path) == []
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: [one["status"] for one in deliveries(api, path)] == ["failed"])
        [given_up] = deliveries(api, path)
        assert (given_up["event"], given_up["url"]) == ("job.cancelled", receiver.url)
        assert (given_up["attempts"], given_up["last_outcome"]) == (1, "500")

        status = 204
        again = api.http.post(given_up["links"]["redeliver"])
        assert (again.status_code, again.json()["status"], again.json()["attempts"]) == (202, "pending", 0)
        wait_until(lambda: deliveries(api, path)[0]["status"] == "delivered")
        [delivered] = deliveries(api, path)
        assert (delivered["attempts"], delivered["last_outcome"]) == (1, "204")
        assert delivered == api.http.get(f"/v1/webhooks/deliveries/{given_up['id']}").json()
        first, second = receiver.asked
        assert first.body == second.body
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == given_up["id"]
        verified(api, second)

        # One that has arrived may be wanted again too.
        api.http.post(delivered["links"]["redeliver"])
        wait_until(lambda: len(receiver.asked) == 3)


def test_nobody_sees_or_sends_another_ones_webhooks(api_with_keys: Api) -> None:
    (owner, own), (_, other) = api_with_keys.make_key(), api_with_keys.make_key()
    event = f"msg_{new_id('job')}_completed_1"
    content = Delivery(id=event, owner=owner.id, url="http://localhost:1/", event="job.completed", body="{}")
    api_with_keys.context.client.hset(f"dv:webhook:{event}", "content", content.model_dump_json())
    path = f"/v1/webhooks/deliveries/{event}"
    assert api_with_keys.http.get(path, headers=own).status_code == 200
    assert api_with_keys.http.get(path, headers=other).status_code == 404
    assert api_with_keys.http.post(f"{path}/redeliver", headers=other).status_code == 404


def test_a_batch_says_what_was_sent_of_it(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer(204)) as receiver:
        request = json.dumps({"webhook": {"url": receiver.url, "events": ["batch.completed"]}})
        files = {"file": ("a.mp4", clip.read_bytes())}
        batch = api.http.post("/v1/batches", data={"request": request}, files=files).json()
        assert api.http.post(batch["links"]["cancel"]).status_code == 202
        path = f"/v1/batches/{batch['id']}"
        wait_until(lambda: [one["status"] for one in deliveries(api, path)] == ["delivered"])
        assert deliveries(api, path)[0]["event"] == "batch.completed"


def test_an_address_that_wanted_no_more_gets_what_is_sent_again(api: Api, clip: Path) -> None:
    status = 410
    with running_origin(lambda _: Answer(status)) as receiver:
        job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: [one["status"] for one in deliveries(api, f"/v1/jobs/{job_id}")] == ["disabled"])
        status = 200
        [disabled] = deliveries(api, f"/v1/jobs/{job_id}")
        api.http.post(disabled["links"]["redeliver"])
        wait_until(lambda: deliveries(api, f"/v1/jobs/{job_id}")[0]["status"] == "delivered")


def test_a_receiver_that_is_gone_hears_nothing_more(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer(410)) as receiver:
        first = submit(api.http, clip, receiver.url)
        second = submit(api.http, clip, receiver.url)
        api.context.store.cancel(first, ttl=TTL)
        wait_until(lambda: list(api.context.client.scan_iter("dv:webhooks:disabled:*")))
        api.context.store.cancel(second, ttl=TTL)
        wait_until(
            lambda: (
                [
                    api.context.client.hget(key, "outcome")
                    for key in api.context.client.scan_iter("dv:webhook:msg_*")
                ]
                == [b"disabled", b"disabled"]
            )
        )
        assert len(receiver.asked) == 1


def test_old_secrets_sign_too_until_receivers_have_changed(settings: ServiceSettings, clip: Path) -> None:
    rotated = settings.model_copy(
        update={"webhook_secret": secret("n"), "webhook_old_secrets": (secret("o"), secret("p"))}
    )
    with running_origin(lambda _: Answer()) as receiver, running_api(rotated) as api:
        job_id = submit(api.http, clip, receiver.url)
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: receiver.asked)
    [asked] = receiver.asked
    for character in "nop":
        assert Webhook(secret(character).get_secret_value()).verify(asked.body, asked.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret("x").get_secret_value()).verify(asked.body, asked.headers)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "http://example.com/", "https://[::1]/", "https://localhost/", "x", ""]
)
def test_private_receivers_are_refused_at_submission(settings: ServiceSettings, clip: Path, url: str) -> None:
    with running_api(settings.model_copy(update={"allow_private_targets": False})) as api:
        request = {"webhook": {"url": url}}
        answer = api.http.post(
            "/v1/jobs", data={"request": json.dumps(request)}, files={"file": ("a.mp4", clip.read_bytes())}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "source_refused")
        assert api.http.get("/v1/jobs").json()["data"] == []


def test_receivers_that_became_private_are_refused_at_delivery(
    settings: ServiceSettings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def rebound(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "hooks.example.com" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    strict = settings.model_copy(update={"allow_private_targets": False, "webhook_max_attempts": 1})
    with running_api(strict) as api:
        job_id = submit(api.http, clip, "https://hooks.example.com/")
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: list(api.context.client.scan_iter("dv:webhook:msg_*")))
        wait_until(lambda: outcome_of(api) == b"failed")


def test_an_event_survives_that_the_api_is_killed_before_and_while_it_is_delivered(
    settings: ServiceSettings, clip: Path
) -> None:
    """The transition happens without any API; the first one is killed while the receiver keeps it waiting."""
    port, processes = free_port(), queue.SimpleQueue[subprocess.Popen[bytes]]()

    def answer(_: Asked) -> Answer:
        if len(receiver.asked) == 1:
            process = processes.get()
            process.kill()
            process.wait()
        return Answer(200)

    with running_origin(answer) as receiver:
        with running_api(settings) as api:
            store, client = api.context.store, api.context.client
            job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        store.cancel(job_id, ttl=TTL)
        assert client.zcard(keys.WEBHOOKS_PENDING()) == 1
        with api_process(settings, port) as process:
            processes.put(process)
            process.wait(timeout=60)
        with running_api(settings) as api:
            wait_until(lambda: len(receiver.asked) == 2)
            first, second = receiver.asked
            assert verified(api, first)["type"] == verified(api, second)["type"] == "job.cancelled"
        client.close()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_a_note_that_cannot_be_read_holds_up_no_other(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer()) as receiver:
        job_id = submit(api.http, clip, receiver.url, "job.cancelled")
        api.context.client.zadd(
            keys.WEBHOOKS_PENDING(), {f"{job_id} exploded": 1, "job_unknown completed": 2}
        )
        api.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: receiver.asked)
        wait_until(lambda: not api.context.client.exists(keys.WEBHOOKS_PENDING()))


def test_transitions_are_noted_once_by_any_number_of_api_processes(
    settings: ServiceSettings, clip: Path
) -> None:
    with (
        running_origin(lambda _: Answer()) as receiver,
        running_api(settings) as first,
        running_api(settings),
    ):
        for _ in range(5):
            job_id = submit(first.http, clip, receiver.url, "job.cancelled")
            first.context.store.cancel(job_id, ttl=TTL)
        wait_until(lambda: len(receiver.asked) >= 5)
        wait_until(lambda: not first.context.client.exists(keys.WEBHOOKS_PENDING()))
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == len(receiver.asked) == 5


def test_waits_between_attempts_grow_up_to_a_limit() -> None:
    waits = [
        retry_delay(n, first=timedelta(seconds=1), factor=4, longest=timedelta(hours=6)).total_seconds()
        for n in (1, 2, 3, 8, 200)
    ]
    assert waits == [1, 4, 16, 16384, 21600]


@pytest.mark.parametrize("name", ["attempts", "outcome"])
def test_a_delivery_whose_record_has_expired_leaves_nothing_for_ever(redis_url: str, name: str) -> None:
    """Its message may come back from a worker that hung for days."""

    async def note() -> int:
        async with async_client(redis_url) as client:
            context: Any = SimpleNamespace(async_client=client)
            if name == "attempts":
                await outbox.count_attempt(context, "msg_1", "500")
            else:
                await outbox.close(context, "msg_1", DeliveryState.DELIVERED)
            return int(await client.ttl("dv:webhook:msg_1"))

    assert asyncio.run(note()) > 0
