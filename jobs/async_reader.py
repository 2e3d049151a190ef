"""Reading jobs on the event loop: the path that customers poll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from jobs._decoding import JOB_KEY
from jobs._scripted_store import require_job
from jobs.errors import JobNotFoundError
from jobs.outages import reported_outage
from jobs.records import PRIORITIES, FinishedSegment, Job, JobState


@dataclass(frozen=True)
class Glance:
    """The little that decides whether a job looks different from before.

    Attributes:
        version: Grows with every change of the record.
        state: Where the job is.
        queue_position: Changes without the record, when others before it begin.
    """

    version: int
    state: JobState
    queue_position: int | None


class AsyncJobReader:
    """Reads jobs without blocking the event loop: the path that customers poll.

    Args:
        client: An asyncio Redis client without `decode_responses`.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client: Any = client

    async def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """As `JobStore.get`."""
        with reported_outage():
            values = await self._client.hgetall(JOB_KEY.format(job_id))
        return require_job(job_id, values, owner)

    async def get_placed(self, job_id: str, *, owner: str) -> tuple[Job, int | None]:
        """A job and its place in the queue, in one round trip."""
        with reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hgetall(JOB_KEY.format(job_id))
                _ask_places(pipeline, job_id)
                values, *places = await pipeline.execute()
        return require_job(job_id, values, owner), _place(places)

    async def glance(self, job_id: str, *, owner: str) -> Glance:
        """What tells a client that it has the newest of a job already. Reads no more than that."""
        with reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hmget(JOB_KEY.format(job_id), "owner", "version", "state")
                _ask_places(pipeline, job_id)
                (found_owner, version, state), *places = await pipeline.execute()
        if version is None or found_owner.decode() != owner:
            raise JobNotFoundError(job_id)
        return Glance(int(version), JobState(state.decode()), _place(places))

    async def queue_position(self, job: Job) -> int | None:
        """As `JobStore.queue_position`."""
        if job.state is not JobState.QUEUED:
            return None
        with reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                _ask_places(pipeline, job.id)
                return _place(await pipeline.execute())

    async def queue_positions(self, jobs: Sequence[Job]) -> list[int | None]:
        """`queue_position` of many, in one round trip."""
        queued = [job for job in jobs if job.state is JobState.QUEUED]
        if not queued:
            return [None] * len(jobs)
        with reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                for job in queued:
                    pipeline.zrank(f"dv:waiting:{job.spec.priority}", job.id)
                for priority in PRIORITIES:
                    pipeline.zcard(f"dv:waiting:{priority}")
                *ranks, high, normal, _ = await pipeline.execute()
        before = dict(zip(PRIORITIES, (0, high, high + normal), strict=True))
        found = {
            job.id: 1 + before[job.spec.priority] + rank
            for job, rank in zip(queued, ranks, strict=True)
            if rank is not None
        }
        return [found.get(job.id) for job in jobs]

    async def finished_segment(self, job_id: str, index: int) -> FinishedSegment | None:
        """A published segment; None if there is none of that number yet."""
        with reported_outage():
            item = await self._client.hget(f"dv:job:{job_id}:segments", index)
        return None if item is None else FinishedSegment.model_validate_json(item)

    async def newest_segment(self, job_id: str) -> FinishedSegment | None:
        """The published segment that comes last in the output."""
        with reported_outage():
            found = await self._client.hkeys(f"dv:job:{job_id}:segments")
        return await self.finished_segment(job_id, max(map(int, found))) if found else None

    async def version(self, job_id: str) -> int | None:
        """Version of a job; None if there is none."""
        with reported_outage():
            value = await self._client.hget(JOB_KEY.format(job_id), "version")
        return None if value is None else int(value)


def _ask_places(pipeline: Any, job_id: str) -> None:
    """Asks for a job's place in each of the queues, of which it is in one at most, and for their lengths."""
    for priority in PRIORITIES:
        pipeline.zrank(f"dv:waiting:{priority}", job_id)
        pipeline.zcard(f"dv:waiting:{priority}")


def _place(answers: Sequence[int | None]) -> int | None:
    """How many jobs begin before the one that was asked for, plus 1; None if it does not wait."""
    before = 0
    for rank, length in zip(answers[::2], answers[1::2], strict=True):
        if rank is not None:
            return 1 + before + rank
        before += length or 0
    return None
