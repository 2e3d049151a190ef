from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobs.connections import impatient_client
from jobs.queue import JobQueue
from jobs.store import JobStore
from tests.redis_server import RedisServer, own_redis, redis_server, session_redis
from tests.s3_server import s3_server, s3_url

__all__ = ["own_redis", "redis_server", "s3_server", "s3_url", "session_redis"]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with impatient_client(redis_server.url) as client:
        yield client


@pytest.fixture
def store(client: redis.Redis) -> JobStore:
    return JobStore(client)


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[JobQueue]:
    with impatient_client(redis_server.queue_url) as client:
        yield JobQueue(client)
