"""What attempts at tasks do to job records: take and keep leases, say what they found, complete, fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from jobs import keys
from jobs._outcomes import require_lease, require_stored
from jobs._record_format import input_to_json, output_to_json, spec_to_json
from jobs._scripts import attempts, lifecycle
from jobs.clock import milliseconds
from jobs.records import JobError, OutputInfo
from jobs.redis_store import RedisStore
from jobs.specs import JobSpec

BeginOutcome = Literal["ok", "gone", "stopped", "done", "busy", "elsewhere", "exhausted"]
EndReason = Literal["finished", "failed", "drained"]
PLANNED_ANEW = (
    "no worker could go on with what another one had planned, as happens when the service is updated; the "
    "job was begun anew"
)
"""A warning."""


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


class AttemptStore(RedisStore):
    """The part of `JobStore` of attempts, whatever they make."""

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
        """Takes the lease of a task: "fetch", "plan", "segment:7" or "join"."""
        outcome, number = self._run(
            attempts.BEGIN, job_id, task, token, milliseconds(ttl), max_attempts, worker, num_workers
        )
        return Beginning(outcome.decode(), int(number))

    def renew(
        self,
        job_id: str,
        task: str,
        token: str,
        *,
        ttl: timedelta,
        num_frames: int | None = None,
        is_stopping: bool = False,
    ) -> None:
        """Keeps the lease, and counts the frames of this attempt so far.

        Args:
            job_id: Of the job.
            task: Of the lease.
            token: Under which it was taken.
            ttl: For how long from now.
            num_frames: Done by this attempt; None if nothing is new.
            is_stopping: Whether its worker has been told to stop. The attempt does not count then, even if
                nothing more is heard of it.

        Raises:
            LostLeaseError: If another attempt has it, or the job is final, being cancelled or gone.
        """
        frames = -1 if num_frames is None else num_frames
        outcome = self._run(attempts.RENEW, job_id, task, token, milliseconds(ttl), frames, int(is_stopping))
        require_lease(job_id, task, outcome)

    def end(
        self, job_id: str, task: str, token: str, reason: EndReason, *, worker: str, cancelled_ttl: timedelta
    ) -> None:
        """Gives the lease back, if it is still held."""
        self._run(attempts.END, job_id, task, token, reason, worker, milliseconds(cancelled_ttl))

    def set_input(self, spec: JobSpec, token: str) -> None:
        """Says that a job's source was fetched and what it is; the job can be planned.

        Args:
            spec: The job's with its `input`, and with what it had left to that decided.
            token: Of the fetch's lease.

        Raises:
            LostLeaseError: If the attempt does not hold the fetch's lease.
            QuotaExceededError: If the job's owner may not store so much.
        """
        found = spec.input
        assert found is not None
        outcome = self._run(
            attempts.FETCHED,
            spec.id,
            token,
            input_to_json(found),
            found.num_frames or "",
            json.dumps(found.warnings),
            spec.max_stored_bytes,
            spec_to_json(spec.model_copy(update={"input": None})),
        )
        require_stored(outcome, "the source", found.size_bytes, spec.max_stored_bytes)
        require_lease(spec.id, "fetch", outcome)

    def set_fields(self, job_id: str, task: str, token: str, **fields: Any) -> None:
        """Sets `run` (`Job.plan`), `stream` (`Job.streaming`), `total_frames`, or adds `warnings`.

        Args:
            job_id: Of the job.
            task: Of the lease.
            token: Under which it was taken.
            fields: JSON values by name.

        Raises:
            LostLeaseError: If the attempt does not hold its lease.
        """
        pairs = [item for name, value in fields.items() for item in (name, json.dumps(value))]
        require_lease(job_id, task, self._run(attempts.SET_FIELDS, job_id, task, token, *pairs))

    def complete(
        self, job_id: str, token: str, output: OutputInfo, *, ttl: timedelta, warnings: Sequence[str] = ()
    ) -> None:
        """Ends a job with its file.

        Raises:
            LostLeaseError: If the attempt does not hold the join's lease.
        """
        kept, texts = output_to_json(output), json.dumps(list(warnings))
        outcome = self._run(lifecycle.COMPLETE, job_id, token, kept, milliseconds(ttl), texts)
        require_lease(job_id, "join", outcome)

    def fail(self, job_id: str, error: JobError, *, ttl: timedelta, task: str = "", token: str = "") -> bool:
        """Ends a job with an error, unless it has ended already. Finished segments stay.

        Args:
            job_id: Which.
            error: Why.
            ttl: How long it is kept.
            task: Of the attempt that failed, if it was one: nothing happens where it has lost its lease.
            token: Of that attempt.

        Returns:
            Whether it is to be planned anew instead, because another version has planned it; once only.
        """
        values = (job_id, error.model_dump_json(), milliseconds(ttl), json.dumps([PLANNED_ANEW]), task, token)
        return bool(self._run_once(lifecycle.FAIL, *values) == b"anew")

    def leased_tasks(self, job_id: str) -> set[str]:
        """Tasks that an attempt holds now."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.JOB_LEASES(job_id))
            pipeline.time()
            leases, (seconds, micros) = pipeline.execute()
        now = seconds * 1000 + micros // 1000
        return {task.decode() for task, lease in leases.items() if int(lease.split()[1]) > now}

    def awaited_tasks(self, job_id: str) -> set[str]:
        """Tasks of an unfinished job that must have a message or a lease, or it stands still. "plan" also
        stands for finding out what is next."""
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(
                keys.JOB(job_id),
                "state",
                "stage",
                "is_planned",
                "num_segments",
                "num_finished",
                "planning_asked",
            )
            pipeline.smembers(keys.JOB_ENQUEUED(job_id))
            (state, stage, is_planned, num_segments, num_finished, is_asked), enqueued = pipeline.execute()
        if state not in (b"queued", b"in_progress"):
            return set()
        if stage == b"fetching":
            return {"fetch"}
        if is_planned == b"1" and int(num_segments) == int(num_finished) > 0:
            return {"join"}
        awaited = {f"segment:{int(index)}" for index in enqueued}
        if is_asked == b"1" or not awaited:
            awaited.add("plan")
        return awaited
