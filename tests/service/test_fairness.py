"""Nobody is starved: many requests at once, long lists, keys that ask for a lot beside ones that do not."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import httpx
import pytest

from jobs.api_keys import KeyLimits
from jobs.records import Job
from jobs.settings import ServiceSettings
from service.context import ServiceContext
from service.tasks import enqueue_task
from service.webhooks import outbox
from service.webhooks.delivery import Sender
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import TTL, make_job


async def statuses(
    api: Api,
    paths: Sequence[str],
    headers: Mapping[str, str] | None = None,
    *,
    found: Counter[str] | None = None,
) -> Counter[str]:
    """Asks for all paths at once, each on a connection of its own; how many answers have which status.
    `found` has them as they come."""
    found = Counter() if found is None else found
    port = int(api.url.rpartition(":")[2])
    all_open = asyncio.Barrier(len(paths))
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())

    async def ask(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await all_open.wait()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        found[answer.split(b" ", 2)[1].decode()] += 1

    await asyncio.gather(*map(ask, paths))
    return found


def test_five_hundred_requests_at_once_are_all_answered(api: Api) -> None:
    job, ended = make_job(api.context), make_job(api.context)
    api.context.store.cancel(ended.id, ttl=TTL)
    paths = [f"/v1/jobs/{job.id}", "/v1/jobs", "/v1/models", f"/v1/jobs/{ended.id}/events", "/readyz"]
    assert asyncio.run(statuses(api, paths * 100)) == {"200": 500}


def test_requests_of_one_key_beyond_its_limit_are_put_off_and_others_are_not(
    api_with_keys: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, greedy = api_with_keys.make_key(limits=KeyLimits(max_requests_at_once=5))
    _, modest = api_with_keys.make_key()
    held = threading.Event()

    def wait_and_list(*_: object, **__: object) -> tuple[list[Job], None]:
        held.wait(30)
        return [], None

    monkeypatch.setattr(api_with_keys.context.store, "list_jobs", wait_and_list)

    async def act() -> tuple[Counter[str], int, httpx.Response]:
        found = Counter[str]()
        lists = asyncio.create_task(statuses(api_with_keys, ["/v1/jobs"] * 45, greedy, found=found))
        async with httpx.AsyncClient(base_url=api_with_keys.url, trust_env=False) as client:
            while found["429"] < 40:
                await asyncio.sleep(0.01)
            refused = await client.get("/v1/me", headers=greedy)
            others = (await client.get("/v1/models", headers=modest)).status_code
        held.set()
        return await lists, others, refused

    found, others, refused = asyncio.run(act())
    assert found == {"200": 5, "429": 40}
    assert others == 200
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "quota_exceeded"
    assert api_with_keys.http.get("/v1/me", headers=greedy).status_code == 200


@pytest.mark.parametrize("path", ["events", "stream"])
def test_open_streams_of_one_key_are_limited(api_with_keys: Api, path: str) -> None:
    key, headers = api_with_keys.make_key(limits=KeyLimits(max_streams_at_once=1))
    url = f"/v1/jobs/{make_job(api_with_keys.context, owner=key.id).id}/{path}"
    http = api_with_keys.http
    with http.stream("GET", url, headers=headers) as following:
        assert following.status_code == 200
        refused = http.get(url, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    wait_until(lambda: _opens(http, url, headers))


def _opens(http: httpx.Client, url: str, headers: Mapping[str, str]) -> bool:
    with http.stream("GET", url, headers=headers) as answer:
        return answer.status_code == 200


def test_webhooks_of_one_key_to_a_slow_receiver_do_not_hold_up_those_of_another(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    async def deliver(sender: Sender, _: ServiceContext, delivery_id: str) -> None:
        taken.append(delivery_id)
        await asyncio.sleep(0.01)

    monkeypatch.setattr(Sender, "deliver", deliver)
    monkeypatch.setattr("service.webhooks.dispatch.NUM_SENDERS", 1)
    with running_api(settings) as api:
        for number in range(100):
            enqueue_task(api.context, outbox.QUEUE, outbox.TASK, f"a {number}", owner="a")
        place = len(taken)
        enqueue_task(api.context, outbox.QUEUE, outbox.TASK, "b", owner="b")
        wait_until(lambda: "b" in taken)
    # Behind what was fetched ahead, and not behind all.
    assert taken.index("b") - place < 10
