"""Calls of the docker command."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]
# What the compose file and any careful operator demand of a container.
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges:true"),
)


def docker(
    *arguments: str | Path, check: bool = True, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *map(str, arguments)], capture_output=True, text=True, check=check, timeout=timeout
    )


def inspect(name: str) -> dict[str, Any]:
    """What Docker knows of an image or container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name).stdout)
    return found[0]


@contextmanager
def running(*arguments: str | Path) -> Iterator[str]:
    """A container in the background, `docker run ARGUMENTS`; removed after the block with its volumes."""
    # Docker asks about its health only after a first interval, else half a minute.
    soon = ("--health-interval", "1s", "--health-start-period", "5m")
    name = docker("run", "--detach", *soon, *arguments).stdout.strip()
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def wait_until_healthy(name: str, *, seconds: float = 300) -> None:
    """Until Docker's own health check is content.

    Raises:
        AssertionError: With the container's log, if it ends or takes longer.
    """
    deadline = time.monotonic() + seconds
    while (state := inspect(name)["State"])["Health"]["Status"] != "healthy":
        log = docker("logs", name)
        assert state["Running"], log.stdout + log.stderr
        assert time.monotonic() < deadline, log.stdout + log.stderr
        time.sleep(0.5)


def published_address(name: str, port: int = 8000) -> str:
    """Where a container's port is reached from here."""
    return "http://" + docker("port", name, str(port)).stdout.splitlines()[0]


def api(address: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30)
