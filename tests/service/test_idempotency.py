"""Who holds a key, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from jobs.connections import async_client
from service import idempotency
from service.errors import ConflictError
from service.idempotency import IdempotentCall, idempotent


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_HELD_SECONDS", 1)
    monkeypatch.setattr(idempotency, "_RENEW_SECONDS", 0.2)


@asynccontextmanager
async def request(redis_url: str) -> AsyncIterator[IdempotentCall]:
    client = async_client(redis_url)
    try:
        async with idempotent(client, owner="owner", key="order-1", fingerprint="f") as call:
            yield call
    finally:
        await client.aclose()


async def act(redis_url: str) -> str | None:
    async with request(redis_url) as call:
        return call.earlier


def test_a_key_is_held_for_as_long_as_its_request_takes(redis_url: str) -> None:
    async def run() -> None:
        async with request(redis_url) as call:
            await asyncio.sleep(2.5)
            with pytest.raises(ConflictError):
                await act(redis_url)
            call.finish("job_1")
        assert await act(redis_url) == "job_1"

    asyncio.run(run())


def test_a_key_is_free_again_after_its_process_has_died(redis_url: str) -> None:
    # A loop that nobody runs any more is a process that has died.
    with closing(asyncio.new_event_loop()) as dead:
        context = request(redis_url)
        dead.run_until_complete(context.__aenter__())
        with pytest.raises(ConflictError):
            asyncio.run(act(redis_url))
        time.sleep(1.5)
        assert asyncio.run(act(redis_url)) is None
        dead.run_until_complete(context.__aexit__(None, None, None))
