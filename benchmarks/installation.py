"""A complete installation on this machine, as a user starts it, for benchmarks and kill tests.

It is `dovetail serve` in a process of its own with a folder of its own; its workers, API and Redis are found
as its child processes, so that they can be killed like any other process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import httpx
import psutil
import redis

from jobs.connections import impatient_client
from jobs.embedded_redis import EmbeddedRedis, free_port
from jobs.errors import StoreUnavailableError
from jobs.fleet import Fleet
from jobs.settings import CommonSettings

Part = Literal["worker", "api", "redis"]

# Parts that vanish are missed within seconds.
QUICK = {
    "DOVETAIL_HEARTBEAT_TIMEOUT": "4",
    "DOVETAIL_LEASE_TTL": "1.5",
    "DOVETAIL_MIN_FREE_BYTES": "0",
    "DOVETAIL_LOG_LEVEL": "info",
}


class Installation:
    """Starts `dovetail serve` and stops it at the end of a `with` block.

    Args:
        folder: For its data and its log, `serve.log`.
        num_workers: Worker processes.
        environment: Settings besides `QUICK`.
        redis_url: Of a server that somebody else runs; None brings its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_workers: int,
        environment: Mapping[str, str] | None = None,
        redis_url: str | None = None,
    ) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._num_workers = num_workers
        self._environment = {**os.environ, **QUICK, **(environment or {})}
        self._environment.pop("DOVETAIL_REDIS_URL", None)
        if redis_url is not None:
            self._environment["DOVETAIL_REDIS_URL"] = redis_url
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Starts it and waits until API and workers are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "cli.main", "serve"),
            *("--port", self.url.rpartition(":")[2], "--data-dir", str(self.folder / "data")),
            *("--workers", str(self._num_workers)),
        ]
        with (self.folder / "serve.log").open("ab") as log:
            self._process = psutil.Popen(
                command, env=self._environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self, *, seconds: float = 120) -> None:
        """Waits until the API answers and all workers have reported."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                is_ready = httpx.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200
                if is_ready and len(self.fleet().workers()) >= self._num_workers:
                    return
            except (httpx.HTTPError, StoreUnavailableError):
                pass
            assert self._process is not None
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the installation does not get ready; see {self.folder / 'serve.log'}")
            time.sleep(0.1)

    @property
    def settings(self) -> CommonSettings:
        """Where its records, messages and files are."""
        data_dir = self.folder / "data"
        url = self._environment.get("DOVETAIL_REDIS_URL") or EmbeddedRedis(data_dir / "redis").url
        return CommonSettings(data_dir=data_dir, redis_url=url)

    def redis_client(self) -> redis.Redis:
        """A client of the store."""
        return impatient_client(self.settings.redis_url)

    def fleet(self) -> Fleet:
        """The register of workers."""
        return Fleet(self.redis_client())

    def processes(self, part: Part) -> list[psutil.Process]:
        """Processes of one kind that run now."""
        assert self._process is not None
        mark = {"worker": "worker", "api": "api", "redis": "valkey"}[part]
        found = []
        for child in self._process.children():
            try:
                words = child.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if mark in words[3:4] or (part == "redis" and any("valkey" in word for word in words[:1])):
                found.append(child)
        return found

    def kill(self, process: psutil.Process) -> None:
        """Ends a process at once, as the kernel does when memory is short."""
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return

    def stop(self) -> None:
        """Stops it as Ctrl-C does."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except psutil.TimeoutExpired:
            for child in self._process.children(recursive=True):
                child.kill()
            self._process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
