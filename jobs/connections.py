"""Redis clients: one that waits for Redis for ever, for workers, and ones that give up soon, for the API."""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

CONNECT_SECONDS = 5
# A customer's request should rather get a 503 with Retry-After than hang.
API_SECONDS = 3


def patient_client(url: str) -> redis.Redis:
    """A client whose commands wait until Redis is back: what a worker has made is not thrown away because
    Redis restarts. (With the usual settings messages were lost that were enqueued while Redis was away.)"""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=5, base=0.2), -1),
        health_check_interval=30,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
    )


def impatient_client(url: str) -> redis.Redis:
    """A client that gives up after a few seconds."""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        health_check_interval=30,
        socket_connect_timeout=API_SECONDS,
        socket_timeout=API_SECONDS,
    )


def async_client(url: str) -> redis.asyncio.Redis:
    """The same for the event loop."""
    return redis.asyncio.Redis.from_url(
        url,
        retry=AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        health_check_interval=30,
        socket_connect_timeout=API_SECONDS,
        socket_timeout=API_SECONDS,
    )
