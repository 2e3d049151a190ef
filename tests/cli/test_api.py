"""`dovetail api` with several processes at one port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from cli._supervisor import python_command
from jobs.embedded_redis import free_port
from tests.forked_python import real_programs
from tests.redis_server import RedisServer, own_redis

__all__ = ["own_redis"]


def until(condition: Callable[[], bool], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)


def servers(process: subprocess.Popen[bytes]) -> list[int]:
    """Ids of the processes that answer requests."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # just ended
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child.pid)
    return found


def num_requests(url: str) -> float:
    """Of `/healthz`, as any of the processes tells."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.search(r'^dovetail_http_requests_total\{.*"/healthz".*\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_processes_share_a_port_and_their_metrics_and_are_started_again(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "DOVETAIL_REDIS_URL": own_redis.url, "DOVETAIL_SANDBOX": "prefer"}
    command = python_command("api", "--workers", "2", "--port", str(port), "--data-dir", str(tmp_path))
    with (tmp_path / "api.log").open("wb") as log, real_programs():
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: answers(url))
        # New connections each, so that both processes answer some.
        assert all(answers(url) for _ in range(20))
        before = num_requests(url)
        assert before >= 20
        assert num_requests(url) == before
        killed = servers(process)[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in servers(process) and len(servers(process)) == 2)
        until(lambda: answers(url))
        assert num_requests(url) > before
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert not answers(url)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()
