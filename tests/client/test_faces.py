"""The client that blocks does so in the thread of its caller, wherever that is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dovetail_client import AsyncDovetail, Dovetail, DovetailError, Job
from tests.client.conftest import Time
from tests.client.fake_service import KEY, FakeService


def test_it_works_where_an_event_loop_runs(url: str, service: FakeService, time: Time) -> None:
    """As in a notebook."""

    async def use() -> Job:
        with Dovetail(url, api_key=KEY, sleep=time.sleep, clock=time.clock) as client:
            job = client.submit("https://example.org/a")
            assert [event.type for event in client.events(job)][-1] == "completed"
            assert next(client.list()).id == job.id  # a list that is left early
            return client.wait(job)

    assert asyncio.run(use()).status == "completed"


def test_threads_share_a_client_and_are_told_in_their_own(
    url: str, service: FakeService, video: Path
) -> None:
    with Dovetail(url, api_key=KEY) as client, ThreadPoolExecutor(4) as threads:

        def submit(number: int) -> bool:
            told: list[int] = []
            job = client.submit(
                video, labels={"n": str(number)}, on_progress=lambda *_: told.append(threading.get_ident())
            )
            # Whoever is told something may use the client.
            client.wait(
                job, on_update=lambda news: told.append(threading.get_ident() * bool(client.get(news)))
            )
            return set(told) == {threading.get_ident()}

        assert all(threads.map(submit, range(4)))


def test_an_interrupt_ends_what_is_under_way_and_leaves_the_client_usable(
    url: str, service: FakeService, video: Path
) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with Dovetail(url, api_key=KEY, sleep=interrupt) as client:
        service.is_held = True
        job = client.submit("https://example.org/a")
        with pytest.raises(KeyboardInterrupt):
            client.wait(job, use_events=False)
        with pytest.raises(KeyboardInterrupt):
            client.wait(job, on_update=interrupt)
        assert client.get(job).id == job.id


def test_a_wait_that_is_cancelled_leaves_the_client_usable(url: str, service: FakeService) -> None:
    async def use() -> None:
        service.is_held = True
        async with AsyncDovetail(url, api_key=KEY) as client:
            job = await client.submit("https://example.org/a")
            listening = asyncio.Event()
            waiting = asyncio.create_task(client.wait(job, on_update=lambda _: listening.set()))
            await listening.wait()
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.get(job)).id == job.id
        assert service.num_requests("GET", f"/v1/jobs/{job.id}/events") == 1

    asyncio.run(use())


def test_webhooks_are_looked_at_and_sent_again(client: Any, service: FakeService) -> None:
    job = client.submit("https://example.org/a", webhook="https://example.org/hook")
    [delivery] = client.deliveries(job)
    assert (delivery.event, delivery.status, delivery.last_outcome) == ("job.completed", "failed", "503")
    assert client.redeliver(delivery).status == "pending"
    batch = client.create_batch(["https://example.org/a"])
    assert [one.event for one in client.deliveries(batch)] == ["batch.completed"]


def test_the_secret_of_webhooks_is_shown_and_changed(client: Any, service: FakeService) -> None:
    secret = client.webhook_secret().secret
    assert secret.startswith("whsec_")
    made = client.rotate_webhook_secret(overlap_seconds=60)
    assert (made.secret == secret, made.num_previous) == (False, 1)
    assert client.webhook_secret() == made
    with pytest.raises(DovetailError, match="overlap_seconds"):
        client.rotate_webhook_secret(overlap_seconds=-1)


def test_importing_the_client_brings_nothing_heavy() -> None:
    heavy = ("torch", "fastapi", "redis", "numpy", "av", "service", "jobs")
    code = f"import sys, dovetail_client; print([name for name in {heavy!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert resources.files("dovetail_client").joinpath("py.typed").is_file()
