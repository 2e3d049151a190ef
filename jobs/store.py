"""Job records in Redis: every change is one script, so whatever is killed, a record is never half changed."""

from __future__ import annotations

import json
from datetime import timedelta

from jobs import keys
from jobs._attempt_store import PLANNED_ANEW, AttemptStore, Beginning, EndReason
from jobs._delivery_store import DeliveryStore
from jobs._listing_store import ListingStore
from jobs._outcomes import require_changed, require_room
from jobs._record_format import FIELDS, job_of, spec_to_json
from jobs._scripts import lifecycle
from jobs._segment_store import NextSteps, SegmentStore
from jobs.clock import milliseconds
from jobs.errors import JobExistsError, JobNotFoundError, ObjectNotFoundError
from jobs.objects import upload_id_of
from jobs.records import Job
from jobs.specs import JobSpec

__all__ = ["PLANNED_ANEW", "Beginning", "EndReason", "JobStore", "NextSteps"]


class JobStore(AttemptStore, SegmentStore, DeliveryStore, ListingStore):
    """The job records."""

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
            QuotaExceededError: If its owner has, or stores, as much as they may.
            JobExistsError: If there is another job of that id.
            ObjectNotFoundError: If it was to read an upload that has been removed.
            StoreUnavailableError: If Redis does not answer; the job may be there then.
        """
        labels = [f"{name}:{value}" for name, value in spec.labels.items()]
        run = self._run_durably if spec.batch_id is None else self._run
        outcome, number = run(
            lifecycle.CREATE,
            spec.id,
            spec.owner,
            spec.priority,
            spec.batch_id or "",
            max_waiting,
            max_of_owner,
            int(spec.webhook is not None),
            "" if spec.input is None else spec.input.num_frames or "",
            spec_to_json(spec),
            json.dumps([] if spec.input is None else spec.input.warnings),
            json.dumps(labels),
            spec.max_stored_bytes,
        )
        require_room(
            outcome,
            number,
            max_waiting=max_waiting,
            max_of_owner=max_of_owner,
            max_stored_bytes=spec.max_stored_bytes,
            more_bytes=0 if spec.input is None else spec.input.size_bytes,
        )
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
        values = self.client.hmget(keys.JOB(job_id), FIELDS)
        job = job_of(job_id, values)
        if job is None or (owner is not None and job.spec.owner != owner):
            raise JobNotFoundError(job_id)
        return job

    def cancel(self, job_id: str, *, ttl: timedelta) -> Job:
        """Cancels a job at once if nothing of it runs, else as soon as its attempts have stopped. Harmless to
        repeat.

        Raises:
            JobNotFoundError: If there is none.
            JobStateError: If it is completed or has failed.
        """
        outcome = self._run_once(lifecycle.CANCEL, job_id, milliseconds(ttl))
        require_changed(job_id, outcome, "cancelled")
        return self.get(job_id)

    def retry(
        self, job_id: str, *, max_waiting: int = 0, max_of_owner: int = 0, max_stored_bytes: int = 0
    ) -> Job:
        """Queues a failed or cancelled job again. Its finished segments are kept. One that is queued or in
        progress stays as it is, so that this is harmless to repeat.

        Args:
            job_id: Which.
            max_waiting: How many jobs may wait in all; 0 for any number.
            max_of_owner: How many unfinished jobs its owner may have; 0 for any number.
            max_stored_bytes: That its owner's objects may take together; 0 for any number.

        Raises:
            QueueFullError: As by `create`.
            QuotaExceededError: As by `create`.
            JobNotFoundError: If there is none.
            JobStateError: If it is completed, or about to be cancelled.
        """
        outcome, number = self._run_once(lifecycle.RETRY, job_id, max_waiting, max_of_owner, max_stored_bytes)
        require_room(
            outcome,
            number,
            max_waiting=max_waiting,
            max_of_owner=max_of_owner,
            max_stored_bytes=max_stored_bytes,
        )
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
        return bool(self._run_once(lifecycle.DELETE, job_id, int(only_expired)))
