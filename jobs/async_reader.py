"""Reading jobs on the event loop: the path that customers poll."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from jobs import keys
from jobs._record_format import job_of
from jobs._scripts.looks import EVERYTHING, LOOK
from jobs.errors import JobNotFoundError
from jobs.records import FinishedSegment, Job, JobState
from jobs.redis_store import RedisStore

# Of one script; Redis does nothing else meanwhile.
_MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Look:
    """A job as it was found.

    Attributes:
        version: Grows with every change of the record.
        state: Where the job is.
        queue_position: 1 is next; None unless it waits. Changes without the record, when others begin.
        job: The whole of it; None if whoever asked has seen it like this.
    """

    version: int
    state: JobState
    queue_position: int | None
    job: Job | None

    @property
    def tag(self) -> str:
        """Another one whenever the job looks different; in quotes, as an entity tag of HTTP."""
        return f'"{self.version}-{self.queue_position or 0}"'


@dataclass(frozen=True)
class _Asked:
    job_id: str
    seen: str
    answer: asyncio.Future[list[Any]]


class AsyncJobReader(RedisStore):
    """Reads jobs without blocking the event loop. Whatever is asked for while Redis works on what was asked
    before goes to it together: a process that answers a thousand polls a second sends a few scripts.

    Args:
        client: For the event loop.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        super().__init__(client)
        self._waiting: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None

    async def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """As `JobStore.get`."""
        found = await self.look(job_id, owner=owner)
        assert found.job is not None
        return found.job

    async def look(self, job_id: str, *, owner: str | None = None, seen: str = "") -> Look:
        """A job and its place in the queue.

        Args:
            job_id: Which.
            owner: Whose it must be; None for anybody's.
            seen: Tags of looks, in any text. If the job still is as in one of them, it is not read again.

        Raises:
            JobNotFoundError: If there is none, or it is not theirs.
        """
        found_owner, version, state, place, *values = await self._found(job_id, seen)
        if version is None or (owner is not None and found_owner.decode() != owner):
            raise JobNotFoundError(job_id)
        job = job_of(job_id, values[0]) if values else None
        return Look(int(version), JobState(state.decode()), place or None, job)

    async def queue_positions(self, jobs: Sequence[Job]) -> list[int | None]:
        """How many jobs begin before each of these, plus 1; None for those that do not wait."""
        queued = [job.id for job in jobs if job.state is JobState.QUEUED]
        answers = await asyncio.gather(*(self._found(job_id, EVERYTHING) for job_id in queued))
        places = {job_id: place or None for job_id, (_, _, _, place, *_) in zip(queued, answers, strict=True)}
        return [places.get(job.id) for job in jobs]

    async def finished_segment(self, job_id: str, index: int) -> FinishedSegment | None:
        """A published segment of an unfinished job; None if there is none of that number yet."""
        item = await self.client.hget(keys.JOB_SEGMENTS(job_id), index)
        return None if item is None else FinishedSegment.model_validate_json(item)

    async def newest_segment(self, job_id: str) -> FinishedSegment | None:
        """The published segment of an unfinished job that comes last in the output."""
        found = await self.client.hkeys(keys.JOB_SEGMENTS(job_id))
        return await self.finished_segment(job_id, max(map(int, found))) if found else None

    async def _found(self, job_id: str, seen: str) -> list[Any]:
        """What the script says of a job, for all who ask now at once."""
        asked = _Asked(job_id, seen, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asked.answer

    async def _ask(self) -> None:
        """Asks for all that wait, until none does."""
        while self._waiting:
            asked, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            try:
                answers = await self._run(LOOK, *(item for one in asked for item in (one.job_id, one.seen)))
            except Exception as error:
                for one in asked:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            else:
                for one, answer in zip(asked, answers, strict=True):
                    if not one.answer.done():  # of clients that went away
                        one.answer.set_result(answer)
