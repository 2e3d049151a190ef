"""Job records in Redis: every change is one script, so whatever is killed, a record is never half changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import redis
import redis.asyncio

from jobs import _scripts
from jobs._decoding import JOB_KEY, job_from_hash
from jobs.errors import JobNotFoundError, JobStateError, LostLeaseError, QueueFullError, StoreUnavailableError
from jobs.records import (
    PRIORITIES,
    FinishedSegment,
    Job,
    JobError,
    JobSpec,
    JobState,
    OutputInfo,
    PlannedSegment,
    Priority,
)

BeginOutcome = Literal["ok", "gone", "stopped", "done", "busy", "elsewhere", "exhausted"]
EndReason = Literal["finished", "failed", "drained"]


@dataclass(frozen=True)
class Beginning:
    """Whether an attempt may run.

    Attributes:
        outcome: "ok"; or "gone" (deleted), "stopped" (final or being cancelled), "done" (another attempt
            finished the task), "busy" (another attempt holds it), "elsewhere" (it failed here, another worker
            should try), "exhausted" (no attempts are left).
        number: Attempts so far including this one for "ok", attempts that were made for "exhausted",
            milliseconds until it is worth asking again for "busy" and "elsewhere".
    """

    outcome: BeginOutcome
    number: int


@dataclass(frozen=True)
class NextSteps:
    """What to enqueue for a job.

    Attributes:
        priority: Of the job; None if there is nothing more to do.
        segments: Indices of segments to enqueue.
        is_join_due: Whether all segments are there.
        is_planning_due: Whether the planner should go on.
    """

    priority: Priority | None
    segments: tuple[int, ...] = ()
    is_join_due: bool = False
    is_planning_due: bool = False


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


class JobStore:
    """The job records. Thread-safe.

    Args:
        client: A Redis client without `decode_responses`. A worker's retries for ever, the API's gives up
            soon (`jobs.connections`).

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        # redis-py types its answers as the union of what any setting gives; ours are always bytes.
        self.client: Any = client
        self._scripts = {
            name: client.register_script(getattr(_scripts, name))
            for name in (
                "CREATE", "BEGIN", "RENEW", "END", "APPEND_PLAN", "SET_FIELDS", "PUBLISH", "ADVANCE",
                "COMPLETE", "FAIL", "CANCEL", "RETRY", "DELETE",
            )
        }  # fmt: skip

    # Customers

    def create(self, spec: JobSpec, *, max_waiting: int, max_of_owner: int = 0) -> Job:
        """Adds a queued job. The caller enqueues its plan; if it dies before, the reconciler does.

        Args:
            spec: What was submitted.
            max_waiting: How many jobs may wait in all.
            max_of_owner: How many unfinished jobs its owner may have; 0 for any number.

        Raises:
            QueueFullError: If there are so many already.
            JobStateError: If there is a job of that id.
        """
        labels = [f"{name}:{value}" for name, value in spec.labels.items()]
        outcome, number = self._run(
            "CREATE",
            spec.id,
            spec.owner,
            spec.priority,
            spec.batch_id or "",
            max_waiting,
            max_of_owner,
            int(spec.webhook is not None),
            spec.input.num_frames or "",
            spec.model_dump_json(),
            json.dumps(spec.input.warnings),
            json.dumps(labels),
        )
        if outcome == b"queue_full":
            raise QueueFullError(number, max_waiting)
        if outcome == b"owner_full":
            raise OwnerLimitError(number, max_of_owner)
        if outcome == b"exists":
            raise JobStateError(f"there is a job {spec.id} already")
        return self.get(spec.id)

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """Reads a job.

        Args:
            job_id: Which.
            owner: Whose it must be; None for anybody's.

        Raises:
            JobNotFoundError: If there is none, or it is not theirs.
        """
        with _reported_outage():
            values = self.client.hgetall(JOB_KEY.format(job_id))
        return _require(job_id, values, owner)

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Reads jobs; those that are gone are left out."""
        with _reported_outage(), self.client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hgetall(JOB_KEY.format(job_id))
            found = pipeline.execute()
        return [job_from_hash(values) for values in found if values]

    def list_jobs(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        is_descending: bool = True,
        states: Sequence[JobState] = (),
        labels: Sequence[tuple[str, str]] = (),
        batch_id: str | None = None,
    ) -> tuple[list[Job], bool]:
        """One page of an owner's jobs in the order of their creation.

        Args:
            owner: Whose.
            limit: Jobs on the page.
            after: Id of the last job of the page before.
            is_descending: Newest first.
            states: Only jobs in one of these; empty for all.
            labels: Only jobs with all of these (name, value).
            batch_id: Only jobs of this batch.

        Returns:
            The jobs, and whether there are more.
        """
        sets = [f"dv:jobs:{owner}:label:{name}:{value}" for name, value in labels]
        if batch_id is not None:
            sets.append(f"dv:batch:{batch_id}:jobs")
        if states and not sets:
            # A page may have to come from several states; each gives at most a page.
            keys = [f"dv:jobs:{owner}:state:{state}" for state in dict.fromkeys(states)]
            found = sorted(
                {i for key in keys for i in self._page(key, limit + 1, after, is_descending)},
                reverse=is_descending,
            )
            jobs = self.get_many(found[: limit + 1])
            return jobs[:limit], len(found) > limit
        return self._filtered(
            sets[0] if sets else f"dv:jobs:{owner}",
            owner,
            limit,
            after,
            is_descending,
            states,
            labels,
            batch_id,
        )

    def queue_position(self, job: Job) -> int | None:
        """How many jobs begin before this one, plus 1; None unless it waits."""
        if job.state is not JobState.QUEUED:
            return None
        priority = job.spec.priority
        higher = PRIORITIES[: PRIORITIES.index(priority)]
        with _reported_outage(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.zrank(f"dv:waiting:{priority}", job.id)
            for name in higher:
                pipeline.zcard(f"dv:waiting:{name}")
            rank, *before = pipeline.execute()
        return None if rank is None else 1 + rank + sum(before)

    def cancel(self, job_id: str, *, ttl: timedelta) -> Job:
        """Cancels a job at once if nothing of it runs, else as soon as its attempts have stopped.

        Raises:
            JobNotFoundError: If there is none.
            JobStateError: If it is in a final state.
        """
        outcome = self._run("CANCEL", job_id, _ms(ttl)).decode()
        _require_changed(job_id, outcome, "cancelled")
        return self.get(job_id)

    def retry(self, job_id: str) -> Job:
        """Queues a failed or cancelled job again. Its finished segments are kept.

        Raises:
            JobNotFoundError: If there is none.
            JobStateError: If it has neither failed nor been cancelled.
        """
        outcome = self._run("RETRY", job_id).decode()
        _require_changed(job_id, outcome, "tried again")
        return self.get(job_id)

    def delete(self, job_id: str) -> bool:
        """Forgets a job. Its attempts stop when they notice; its files are the caller's to remove.

        Returns:
            Whether there was one.
        """
        return bool(self._run("DELETE", job_id))

    # Attempts

    def begin(
        self,
        job_id: str,
        task: str,
        token: str,
        *,
        ttl: timedelta,
        max_attempts: int,
        worker: str,
        num_workers: int,
    ) -> Beginning:
        """Takes the lease of a task: "plan", "segment:7" or "join"."""
        outcome, number = self._run("BEGIN", job_id, task, token, _ms(ttl), max_attempts, worker, num_workers)
        return Beginning(outcome.decode(), int(number))

    def renew(
        self, job_id: str, task: str, token: str, *, ttl: timedelta, num_frames: int | None = None
    ) -> None:
        """Keeps the lease, and counts the frames of this attempt so far.

        Raises:
            LostLeaseError: If another attempt has it, or the job is final, being cancelled or gone.
        """
        frames = -1 if num_frames is None else num_frames
        outcome = self._run("RENEW", job_id, task, token, _ms(ttl), frames).decode()
        _require_lease(job_id, task, outcome)

    def end(
        self,
        job_id: str,
        task: str,
        token: str,
        reason: EndReason,
        *,
        worker: str,
        cancelled_ttl: timedelta,
    ) -> None:
        """Gives the lease back, if it is still held."""
        self._run("END", job_id, task, token, reason, worker, _ms(cancelled_ttl))

    def append_plan(
        self,
        job_id: str,
        token: str,
        *,
        first_index: int,
        segments: Iterable[PlannedSegment],
        state: dict[str, Any],
        is_complete: bool,
        total_frames: int | None,
    ) -> None:
        """Adds planned segments, and where the planner goes on.

        Raises:
            LostLeaseError: If another attempt plans, or has planned these.
        """
        outcome = self._run(
            "APPEND_PLAN",
            job_id,
            token,
            first_index,
            json.dumps(state),
            int(is_complete),
            "" if total_frames is None else total_frames,
            *(segment.model_dump_json() for segment in segments),
        ).decode()
        _require_lease(job_id, "plan", outcome)

    def set_fields(self, job_id: str, task: str, token: str, **fields: Any) -> None:
        """Sets `plan`, `streaming`, `total_frames` or adds `warnings`, as JSON values.

        Raises:
            LostLeaseError: If the attempt does not hold its lease.
        """
        pairs = [item for name, value in fields.items() for item in (name, json.dumps(value))]
        _require_lease(job_id, task, self._run("SET_FIELDS", job_id, task, token, *pairs).decode())

    def publish(self, job_id: str, segment: FinishedSegment, token: str) -> bool:
        """Makes a segment part of the result: once, and only by the attempt that holds its lease.

        Returns:
            Whether this call did it; False if the segment was there already.

        Raises:
            LostLeaseError: If the attempt may not publish any more.
        """
        outcome = self._run(
            "PUBLISH",
            job_id,
            segment.index,
            token,
            segment.model_dump_json(),
            segment.num_frames,
            json.dumps(segment.warnings),
        ).decode()
        if outcome == "done":
            return False
        _require_lease(job_id, f"segment:{segment.index}", outcome)
        return True

    def advance(self, job_id: str, *, window: int) -> NextSteps:
        """Takes what is to be enqueued next, so that at most `window` segments of the job are under way."""
        priority, is_join_due, is_planning_due, *indices = self._run("ADVANCE", job_id, window)
        return NextSteps(
            Priority(priority.decode()) if priority else None,
            tuple(int(index) for index in indices),
            bool(is_join_due),
            bool(is_planning_due),
        )

    def complete(
        self, job_id: str, token: str, output: OutputInfo, *, ttl: timedelta, warnings: Sequence[str] = ()
    ) -> None:
        """Ends a job with its file.

        Raises:
            LostLeaseError: If the attempt does not hold the join's lease.
        """
        outcome = self._run(
            "COMPLETE", job_id, token, output.model_dump_json(), _ms(ttl), json.dumps(list(warnings))
        ).decode()
        _require_lease(job_id, "join", outcome)

    def fail(self, job_id: str, error: JobError, *, ttl: timedelta) -> None:
        """Ends a job with an error, unless it has ended already. Finished segments stay."""
        self._run("FAIL", job_id, error.model_dump_json(), _ms(ttl))

    def planned_segments(self, job_id: str) -> list[PlannedSegment]:
        """All planned so far."""
        with _reported_outage():
            found = self.client.lrange(f"dv:job:{job_id}:plan", 0, -1)
        return [PlannedSegment.model_validate_json(item) for item in found]

    def planned_segment(self, job_id: str, index: int) -> PlannedSegment | None:
        """One of them; None if it is not planned, or the job is gone."""
        with _reported_outage():
            item = self.client.lindex(f"dv:job:{job_id}:plan", index)
        return None if item is None else PlannedSegment.model_validate_json(item)

    def planner_state(self, job_id: str) -> dict[str, Any] | None:
        """Where the planner goes on; None at the start."""
        with _reported_outage():
            text = self.client.hget(JOB_KEY.format(job_id), "plan_state")
        return None if text is None else json.loads(text)

    def finished_segments(self, job_id: str) -> list[FinishedSegment]:
        """All that are published, in order; with gaps while the job is unfinished."""
        with _reported_outage():
            found = self.client.hvals(f"dv:job:{job_id}:segments")
        segments = [FinishedSegment.model_validate_json(item) for item in found]
        return sorted(segments, key=lambda segment: segment.index)

    def num_smaller(self, job_id: str, task: str) -> int:
        """How often a task ran out of memory."""
        with _reported_outage():
            return int(self.client.hget(f"dv:job:{job_id}:smaller", task) or 0)

    def use_smaller(self, job_id: str, task: str) -> None:
        """Counts that a task ran out of memory: its next attempt takes a smaller plan."""
        with _reported_outage():
            self.client.hincrby(f"dv:job:{job_id}:smaller", task, 1)

    def active_ids(self) -> list[str]:
        """Ids of all unfinished jobs."""
        with _reported_outage():
            return [item.decode() for item in self.client.zrange("dv:active", 0, -1)]

    def leased_tasks(self, job_id: str) -> set[str]:
        """Tasks that an attempt holds now."""
        with _reported_outage(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(f"dv:job:{job_id}:leases")
            pipeline.time()
            leases, (seconds, micros) = pipeline.execute()
        now = seconds * 1000 + micros // 1000
        return {task.decode() for task, lease in leases.items() if int(lease.split()[1]) > now}

    def awaited_tasks(self, job_id: str) -> set[str]:
        """Tasks of an unfinished job that must have a message or a lease, or it stands still. "plan" also
        stands for finding out what is next."""
        key = JOB_KEY.format(job_id)
        with _reported_outage(), self.client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(key, "state", "is_planned", "num_segments", "num_finished", "planning_asked")
            pipeline.smembers(f"{key}:enqueued")
            (state, is_planned, num_segments, num_finished, is_asked), enqueued = pipeline.execute()
        if state not in (b"queued", b"in_progress"):
            return set()
        if is_planned == b"1" and int(num_segments) == int(num_finished) > 0:
            return {"join"}
        awaited = {f"segment:{int(index)}" for index in enqueued}
        if is_asked == b"1" or not awaited:
            awaited.add("plan")
        return awaited

    def enqueued_segments(self, job_id: str) -> set[int]:
        """Segments that were given to the queue and are not published."""
        with _reported_outage():
            return {int(item) for item in self.client.smembers(f"dv:job:{job_id}:enqueued")}

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of jobs whose time is over."""
        with _reported_outage():
            seconds, micros = self.client.time()
            now = seconds * 1000 + micros // 1000
            return [i.decode() for i in self.client.zrangebyscore("dv:expiring", 0, now, start=0, num=limit)]

    def is_input_used(self, key: str) -> bool:
        """Whether a job reads the object with this key; several may read one upload."""
        with _reported_outage():
            return bool(self.client.scard(f"dv:input:{key}"))

    def counts(self) -> dict[JobState, int]:
        """Jobs by state."""
        with _reported_outage():
            found = self.client.hgetall("dv:counts")
        return {state: int(found.get(state.encode(), 0)) for state in JobState}

    def num_finished(self) -> dict[JobState, int]:
        """Jobs that have reached a final state since the beginning, also those that are deleted since."""
        with _reported_outage():
            found = self.client.hgetall("dv:finished")
        return {state: int(found.get(state.encode(), 0)) for state in JobState if state.is_final}

    def num_waiting(self) -> dict[Priority, int]:
        """Jobs that no worker has begun, by priority."""
        with _reported_outage(), self.client.pipeline(transaction=False) as pipeline:
            for priority in PRIORITIES:
                pipeline.zcard(f"dv:waiting:{priority}")
            return dict(zip(PRIORITIES, pipeline.execute(), strict=True))

    def oldest_waiting_seconds(self) -> dict[Priority, float]:
        """Age of the oldest waiting job, by priority; 0 where none waits."""
        with _reported_outage(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for priority in PRIORITIES:
                pipeline.zrange(f"dv:waiting:{priority}", 0, 0, withscores=True)
            (seconds, micros), *oldest = pipeline.execute()
        now = seconds + micros / 1e6
        return {
            priority: max(0.0, now - found[0][1] / 1000) if found else 0.0
            for priority, found in zip(PRIORITIES, oldest, strict=True)
        }

    def _run(self, name: str, *arguments: Any) -> Any:
        with _reported_outage():
            return self._scripts[name](args=arguments)

    def _page(self, key: str, limit: int, after: str | None, is_descending: bool) -> list[str]:
        with _reported_outage():
            if is_descending:
                found = self.client.zrevrangebylex(
                    key, f"({after}" if after else "+", "-", start=0, num=limit
                )
            else:
                found = self.client.zrangebylex(key, f"({after}" if after else "-", "+", start=0, num=limit)
        return [item.decode() for item in found]

    def _filtered(
        self,
        key: str,
        owner: str,
        limit: int,
        after: str | None,
        is_descending: bool,
        states: Sequence[JobState],
        labels: Sequence[tuple[str, str]],
        batch_id: str | None,
    ) -> tuple[list[Job], bool]:
        """Walks one index and keeps the jobs that fit the other conditions."""
        kept: list[Job] = []
        step = max(100, limit + 1)
        while len(kept) <= limit:
            ids = self._page(key, step, after, is_descending)
            kept += [
                job
                for job in self.get_many(ids)
                if job.spec.owner == owner
                and (not states or job.state in states)
                and all(job.spec.labels.get(name) == value for name, value in labels)
                and (batch_id is None or job.spec.batch_id == batch_id)
            ]
            if len(ids) < step:
                break
            after = ids[-1]
        return kept[:limit], len(kept) > limit


class AsyncJobReader:
    """Reads jobs without blocking the event loop: the path that customers poll.

    Args:
        client: An asyncio Redis client without `decode_responses`.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client: Any = client

    async def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """As `JobStore.get`."""
        with _reported_outage():
            values = await self._client.hgetall(JOB_KEY.format(job_id))
        return _require(job_id, values, owner)

    async def get_placed(self, job_id: str, *, owner: str) -> tuple[Job, int | None]:
        """A job and its place in the queue, in one round trip."""
        with _reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hgetall(JOB_KEY.format(job_id))
                _ask_places(pipeline, job_id)
                values, *places = await pipeline.execute()
        return _require(job_id, values, owner), _place(places)

    async def glance(self, job_id: str, *, owner: str) -> Glance:
        """What tells a client that it has the newest of a job already. Reads no more than that."""
        with _reported_outage():
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
        with _reported_outage():
            async with self._client.pipeline(transaction=False) as pipeline:
                _ask_places(pipeline, job.id)
                return _place(await pipeline.execute())

    async def queue_positions(self, jobs: Sequence[Job]) -> list[int | None]:
        """`queue_position` of many, in one round trip."""
        queued = [job for job in jobs if job.state is JobState.QUEUED]
        if not queued:
            return [None] * len(jobs)
        with _reported_outage():
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
        with _reported_outage():
            item = await self._client.hget(f"dv:job:{job_id}:segments", index)
        return None if item is None else FinishedSegment.model_validate_json(item)

    async def newest_segment(self, job_id: str) -> FinishedSegment | None:
        """The published segment that comes last in the output."""
        with _reported_outage():
            found = await self._client.hkeys(f"dv:job:{job_id}:segments")
        return await self.finished_segment(job_id, max(map(int, found))) if found else None

    async def version(self, job_id: str) -> int | None:
        """Version of a job; None if there is none."""
        with _reported_outage():
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


class OwnerLimitError(QueueFullError):
    """Raised when one owner has as many unfinished jobs as their key allows."""

    code = "quota_exceeded"

    def __init__(self, num_unfinished: int, limit: int) -> None:
        Exception.__init__(
            self,
            f"{num_unfinished} of your jobs are unfinished, your key allows {limit}; wait for one to finish",
        )
        self.limit = limit


@contextmanager
def _reported_outage() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
        raise StoreUnavailableError("the job store does not answer; try again in a moment") from error


def _require(job_id: str, values: dict[bytes, bytes], owner: str | None) -> Job:
    if not values:
        raise JobNotFoundError(job_id)
    job = job_from_hash(values)
    if owner is not None and job.spec.owner != owner:
        raise JobNotFoundError(job_id)
    return job


def _require_lease(job_id: str, task: str, outcome: str) -> None:
    if outcome != "ok":
        reason = {
            "gone": "the job was deleted",
            "stopped": "the job has ended or is being cancelled",
            "lost": "another attempt has taken over",
        }[outcome]
        raise LostLeaseError(f"{task} of {job_id} is not to be continued: {reason}")


def _require_changed(job_id: str, outcome: str, verb: str) -> None:
    if outcome == "gone":
        raise JobNotFoundError(job_id)
    if outcome != "ok":
        raise JobStateError(f"job {job_id} is {outcome} and cannot be {verb}")


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
