"""Redis clients: one that waits for Redis for ever, for workers, and ones that give up soon, for the API.

When Redis does not answer in time, whatever is asked of them raises `StoreUnavailableError`, and nothing of
redis-py's.

An address may name Sentinels instead of a server. Each new connection asks them then which server is the
master; connections to one that no longer is break, or are refused when they write, and are made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.sentinel
import redis.client
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.commands.core import Script
from redis.driver_info import DriverInfo
from redis.retry import Retry

from jobs.errors import RedisClusterError, StoreUnavailableError

SENTINEL_SCHEME = "redis+sentinel"
CONNECT_SECONDS = 5
# A worker waits for Redis for ever, but not for a machine that has lost its power, or a server that hangs: it
# connects anew, to whoever is the master then. No command takes as long.
PATIENT_SECONDS = 30
# A customer's request should rather get a 503 with Retry-After than hang.
API_SECONDS = 3
# Of one client. redis-py's usual pool raises when its 100 connections are taken, which would be a 503 for
# every further request; these wait for one to come free. Commands take less than a millisecond, so a few
# dozen connections are busy all the time before anybody waits long.
MAX_CONNECTIONS = 64
WAIT_SECONDS = 10
# Of one script in a row, each by another server.
_MAX_LOADS = 3
# What each connection tells of itself. redis-py would look its version up on the disk for each.
_DRIVER = DriverInfo()
# Of one Sentinel; there are others.
_ASKING: dict[str, Any] = {"socket_connect_timeout": 1, "socket_timeout": 1, "driver_info": _DRIVER}
_OF_ANY: dict[str, Any] = {
    "driver_info": _DRIVER,
    "max_connections": MAX_CONNECTIONS,
    "timeout": WAIT_SECONDS,
    "health_check_interval": 30,
}
_PATIENT: dict[str, Any] = _OF_ANY | {
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_timeout": PATIENT_SECONDS,
    "socket_keepalive": True,
}
_IMPATIENT: dict[str, Any] = _OF_ANY | {"socket_connect_timeout": API_SECONDS, "socket_timeout": API_SECONDS}
# redis-py types only part of itself.
_SENTINEL: Any = redis.sentinel.Sentinel
_ASYNC_SENTINEL: Any = redis.asyncio.sentinel.Sentinel
_DEMOTED = "another server has become the master"


def patient_client(url: str) -> redis.Redis:
    """A client whose commands wait until Redis is back: what a worker has made is not thrown away because
    Redis restarts. (With the usual settings messages were lost that were enqueued while Redis was away.)"""
    retry = Retry(ExponentialBackoff(cap=5, base=0.2), -1)
    return _Client.from_pool(
        _pool(redis.BlockingConnectionPool, _MasterConnection, url, retry=retry, **_PATIENT)
    )


def impatient_client(url: str) -> redis.Redis:
    """A client that gives up after a few seconds."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)
    return _Client.from_pool(
        _pool(redis.BlockingConnectionPool, _MasterConnection, url, retry=retry, **_IMPATIENT)
    )


def async_client(url: str) -> redis.asyncio.Redis:
    """The same for the event loop."""
    retry, kind = AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), 2), redis.asyncio.BlockingConnectionPool
    return _AsyncClient.from_pool(_pool(kind, _AsyncMasterConnection, url, retry=retry, **_IMPATIENT))


def refuse_cluster(url: str) -> None:
    """Makes sure that a server is no part of a Redis Cluster: scripts here find keys by themselves, which may
    lie on other servers there.

    Args:
        url: Of the server, or of its Sentinels.

    Raises:
        RedisClusterError: If it is.
        StoreUnavailableError: If it does not answer.
    """
    with impatient_client(url) as client:
        found: Any = client.info("cluster")
    if found.get("cluster_enabled"):
        raise RedisClusterError(
            "Redis is a Redis Cluster; Dovetail needs one server, or a master with replicas behind Sentinels "
            "(redis+sentinel://...), and spreads no keys over several"
        )


@dataclass(frozen=True)
class SentinelAddress:
    """What `redis+sentinel://[user:password@]host:port,host:port/service/database` says.

    Attributes:
        sentinels: Where they listen.
        service: What they call the servers.
        login: Database, user and password of the servers; the Sentinels are asked without.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    login: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> SentinelAddress:
        """Reads an address.

        Raises:
            ValueError: If it is none.
        """
        netloc, path = _split_sentinels(url)
        credentials, _, hosts = netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        service, _, database = path.strip("/").partition("/")
        try:
            sentinels = tuple(_host_and_port(host) for host in hosts.split(","))
            login = {"db": int(database or 0)}
        except ValueError:
            sentinels, login = (), {}
        if not sentinels or not service:
            shown = url.replace(f"{credentials}@", "...@") if credentials else url
            raise ValueError(
                f"{shown!r} is no address of Sentinels; write {SENTINEL_SCHEME}://host:26379,host:26379/service/0"
            )
        found = {"username": unquote(user) or None, "password": unquote(password) or None}
        return cls(sentinels, service, login | found)

    def with_next_database(self, url: str) -> str:
        """The same address with the next database."""
        netloc, _ = _split_sentinels(url)
        return f"{SENTINEL_SCHEME}://{netloc}/{self.service}/{self.login['db'] + 1}"


class _Client(redis.Redis):
    """A client whose scripts run also where another server takes over between loading and running one."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with _reported_outage():
            parent: Any = super()  # redis-py types only part of itself
            return parent.execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def register_script(self, script: Any) -> Script:
        return _Script(self, script)


class _Pipeline(redis.client.Pipeline):
    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        with _reported_outage():
            parent: Any = super()
            return parent.immediate_execute_command(*args, **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _reported_outage():
            return super().execute(raise_on_error)


class _AsyncClient(redis.asyncio.Redis):
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _reported_outage():
            parent: Any = super()
            return await parent.execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.asyncio.client.Pipeline:
        return _AsyncPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _AsyncPipeline(redis.asyncio.client.Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _reported_outage():
            return await super().execute(raise_on_error)


@contextmanager
def _reported_outage() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StoreUnavailableError("the store does not answer; try again in a moment") from error


class _Script(Script):
    def __call__(self, *args: Any, **options: Any) -> Any:
        for _ in range(_MAX_LOADS):
            try:
                return super().__call__(*args, **options)
            except redis.exceptions.NoScriptError:
                continue
        return super().__call__(*args, **options)


class _MasterConnection(redis.Connection):
    """Asks the Sentinels for each attempt to connect. redis-py's own kind asks when a command begins, and
    then tries a server that is dead for as long as the command is patient.

    Args:
        address: Of the Sentinels.
        options: Of any connection.
    """

    def __init__(self, *, address: SentinelAddress, **options: Any) -> None:
        self._address = address
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py types only part of itself

    def _connect(self) -> Any:
        sentinel = _SENTINEL(list(self._address.sentinels), **_ASKING)
        try:
            self.host, self.port = sentinel.discover_master(self._address.service)
        finally:
            for client in sentinel.sentinels:
                client.close()
        return super()._connect()  # type: ignore[no-untyped-call] # as above

    def read_response(self, *args: Any, **options: Any) -> Any:
        """As in `redis.Connection`."""
        try:
            return super().read_response(*args, **options)
        except redis.exceptions.ReadOnlyError as error:
            self.disconnect()  # type: ignore[no-untyped-call] # as above
            raise redis.ConnectionError(_DEMOTED) from error


class _AsyncMasterConnection(redis.asyncio.Connection):
    def __init__(self, *, address: SentinelAddress, **options: Any) -> None:
        self._address = address
        super().__init__(**options)

    async def _connect(self) -> None:
        sentinel = _ASYNC_SENTINEL(list(self._address.sentinels), **_ASKING)
        try:
            self.host, self.port = await sentinel.discover_master(self._address.service)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        await super()._connect()  # type: ignore[no-untyped-call] # as above

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As in `redis.asyncio.Connection`."""
        try:
            return await super().read_response(*args, **options)
        except redis.exceptions.ReadOnlyError as error:
            await self.disconnect()
            raise redis.ConnectionError(_DEMOTED) from error


def _pool(kind: Any, connection_to_master: Any, url: str, **options: Any) -> Any:
    """Connections; who finds all of them taken waits."""
    if not names_sentinels(url):
        return kind.from_url(url, **options)
    address = SentinelAddress.parse(url)
    return kind(connection_class=connection_to_master, address=address, **address.login, **options)


def names_sentinels(url: str) -> bool:
    """Whether an address is of Sentinels."""
    return url.lower().startswith(f"{SENTINEL_SCHEME}://")


def _split_sentinels(url: str) -> tuple[str, str]:
    """Hosts with credentials, and the path. Newer Pythons' `urlsplit` takes one host in brackets alone."""
    netloc, _, path = url.partition("://")[2].partition("/")
    return netloc, path.partition("?")[0]


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError(text)
    return host.strip("[]"), int(port)
