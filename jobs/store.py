"""Job records in Redis: every change is one script, so whatever is killed, a record is never half changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from jobs._attempt_store import AttemptStore, Beginning, EndReason, NextSteps
from jobs._decoding import JOB_KEY, job_from_hash
from jobs._overview_store import OverviewStore
from jobs._scripted_store import milliseconds, require_changed, require_job
from jobs.errors import JobExistsError, ObjectNotFoundError, OwnerLimitError, QueueFullError
from jobs.objects import upload_id_of
from jobs.outages import reported_outage
from jobs.records import PRIORITIES, Job, JobSpec, JobState

__all__ = ["Beginning", "EndReason", "JobStore", "NextSteps"]


class JobStore(AttemptStore, OverviewStore):
    """The job records. Thread-safe.

    Args:
        client: A Redis client without `decode_responses`. A worker's retries for ever, the API's gives up
            soon (`jobs.connections`).

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def create(self, spec: JobSpec, *, max_waiting: int, max_of_owner: int = 0) -> Job:
        """Adds a queued job. The caller enqueues its first task; if it dies before, the reconciler does.
        Harmless to repeat with the same `spec`. It survives a power loss, and where Redis has a replica a
        fail-over; jobs of a batch are made again by it instead.

        Args:
            spec: What was submitted.
            max_waiting: How many jobs may wait in all.
            max_of_owner: How many unfinished jobs its owner may have; 0 for any number.

        Raises:
            QueueFullError: If there are so many already.
            JobExistsError: If there is another job of that id.
            ObjectNotFoundError: If it was to read an upload that has been removed.
            StoreUnavailableError: If Redis does not answer; the job may be there then.
        """
        labels = [f"{name}:{value}" for name, value in spec.labels.items()]
        run = self._run_durably if spec.batch_id is None else self._run
        outcome, number = run(
            "CREATE",
            spec.id,
            spec.owner,
            spec.priority,
            spec.batch_id or "",
            max_waiting,
            max_of_owner,
            int(spec.webhook is not None),
            "" if spec.input is None else spec.input.num_frames or "",
            spec.model_dump_json(),
            json.dumps([] if spec.input is None else spec.input.warnings),
            json.dumps(labels),
        )
        if outcome == b"queue_full":
            raise QueueFullError(number, max_waiting)
        if outcome == b"owner_full":
            raise OwnerLimitError(number, max_of_owner)
        if outcome == b"exists":
            raise JobExistsError(spec.id)
        if outcome == b"input_gone":
            raise ObjectNotFoundError(f"the upload {upload_id_of(spec.input_key)} was deleted or has expired")
        return self.get(spec.id)

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """Reads a job.

        Args:
            job_id: Which.
            owner: Whose it must be; None for anybody's.

        Raises:
            JobNotFoundError: If there is none, or it is not theirs.
        """
        with reported_outage():
            values = self.client.hgetall(JOB_KEY.format(job_id))
        return require_job(job_id, values, owner)

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Reads jobs; those that are gone are left out."""
        with reported_outage(), self.client.pipeline(transaction=False) as pipeline:
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
        with reported_outage(), self.client.pipeline(transaction=False) as pipeline:
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
        outcome = self._run_once("CANCEL", job_id, milliseconds(ttl)).decode()
        require_changed(job_id, outcome, "cancelled")
        return self.get(job_id)

    def retry(self, job_id: str) -> Job:
        """Queues a failed or cancelled job again. Its finished segments are kept.

        Raises:
            JobNotFoundError: If there is none.
            JobStateError: If it has neither failed nor been cancelled.
        """
        outcome = self._run_once("RETRY", job_id).decode()
        require_changed(job_id, outcome, "tried again")
        return self.get(job_id)

    def delete(self, job_id: str, *, only_expired: bool = False) -> bool:
        """Forgets a job. Its attempts stop when they notice; its files are the caller's to remove.

        Args:
            job_id: Which.
            only_expired: Whether to leave it alone unless its time is over at this moment.

        Returns:
            Whether it was there and is gone.
        """
        return bool(self._run_once("DELETE", job_id, int(only_expired)))

    def _page(self, key: str, limit: int, after: str | None, is_descending: bool) -> list[str]:
        with reported_outage():
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
