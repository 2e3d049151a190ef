"""Redis clients: one that waits for Redis for ever, for workers, and ones that give up soon, for the API."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

CONNECT_SECONDS = 5
# A customer's request should rather get a 503 with Retry-After than hang.
API_SECONDS = 3
# Of one client. redis-py's usual pool raises when its 100 connections are taken, which would be a 503 for
# every further request; these wait for one to come free. Commands take less than a millisecond, so a few
# dozen connections are busy all the time before anybody waits long.
MAX_CONNECTIONS = 64
WAIT_SECONDS = 10


def patient_client(url: str) -> redis.Redis:
    """A client whose commands wait until Redis is back: what a worker has made is not thrown away because
    Redis restarts. (With the usual settings messages were lost that were enqueued while Redis was away.)"""
    return _waiting_client(
        url,
        retry=Retry(ExponentialBackoff(cap=5, base=0.2), -1),
        health_check_interval=30,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
    )


def impatient_client(url: str) -> redis.Redis:
    """A client that gives up after a few seconds."""
    return _waiting_client(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        health_check_interval=30,
        socket_connect_timeout=API_SECONDS,
        socket_timeout=API_SECONDS,
    )


def async_client(url: str) -> redis.asyncio.Redis:
    """The same for the event loop."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=WAIT_SECONDS,
        retry=AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        health_check_interval=30,
        socket_connect_timeout=API_SECONDS,
        socket_timeout=API_SECONDS,
    )
    return redis.asyncio.Redis.from_pool(pool)


def _waiting_client(url: str, **options: Any) -> redis.Redis:
    """A client whose threads wait for a connection while all are taken."""
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=MAX_CONNECTIONS, timeout=WAIT_SECONDS, **options
    )
    return redis.Redis.from_pool(pool)
