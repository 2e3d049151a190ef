"""Batches as values: what was submitted, its inputs, and how the whole stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from jobs.api_keys import KeyLimits
from jobs.records import JobState
from jobs.specs import WebhookTarget
from jobs.values import Value


class BatchInput(Value):
    """One input that is to become a job.

    Attributes:
        index: Position in what was submitted, from 0.
        job_id: The job it becomes; fixed from the start, so that it becomes one only once.
        source: Where it comes from, as JSON; None if its file is in the storage under the job's key.
        form: The job's settings, as JSON.
        filename: What the customer calls it.
    """

    index: int
    job_id: str
    source: dict[str, Any] | None
    form: dict[str, Any]
    filename: str | None = None


class RejectedInput(Value):
    """One input that becomes no job.

    Attributes:
        index: Position in what was submitted, from 0.
        line: In the manifest, from 1; None where there was none.
        filename: What the customer calls it, if they do.
        code: Why.
        message: Why, for people.
    """

    index: int
    line: int | None = None
    filename: str | None = None
    code: str
    message: str


class BatchSpec(Value):
    """What was submitted. Never changes.

    Attributes:
        id: "batch_" and a ULID.
        owner: Whose.
        limits: Of their key.
        created_at: UTC.
        num_inputs: With those that were rejected at once.
        labels: Of all its jobs.
        metadata: The customer's.
        webhook: Whom to tell when all is done.
    """

    id: str
    owner: str
    limits: KeyLimits = KeyLimits()
    created_at: datetime
    num_inputs: int
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    webhook: WebhookTarget | None = None


class Batch(Value):
    """A batch as it is now.

    Attributes:
        spec: What was submitted.
        is_cancelled: Whether it was cancelled, whatever still runs.
        num_rejected: Inputs that become no job.
        jobs: Number of jobs by state.
        num_deleted: Jobs that are gone.
        completed_at: When all was done for the first time.
        expires_at: When the record goes; None before.
    """

    spec: BatchSpec
    is_cancelled: bool = False
    num_rejected: int = 0
    jobs: dict[JobState, int] = Field(default_factory=dict)
    num_deleted: int = 0
    completed_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def num_waiting(self) -> int:
        """Inputs that nobody has looked at yet; after a cancellation nobody will."""
        return self.spec.num_inputs - self.num_rejected - sum(self.jobs.values()) - self.num_deleted

    @property
    def num_unfinished(self) -> int:
        """Jobs that are in no final state."""
        return sum(count for state, count in self.jobs.items() if not state.is_final)

    @property
    def is_done(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.num_unfinished == 0 and (self.is_cancelled or self.num_waiting == 0)

    @property
    def status(self) -> JobState:
        """In a job's words; "failed" only if nothing of it was completed."""
        if not self.is_done:
            return JobState.CANCELLING if self.is_cancelled else JobState.IN_PROGRESS
        if self.is_cancelled:
            return JobState.CANCELLED
        if self.jobs.get(JobState.COMPLETED, 0) or self.num_deleted:
            return JobState.COMPLETED
        return JobState.CANCELLED if self.jobs.get(JobState.CANCELLED, 0) else JobState.FAILED

    @property
    def progress(self) -> int:
        """Inputs of which nothing more is to come, 0-100."""
        if self.is_done:
            return 100
        finished = self.spec.num_inputs - self.num_waiting - self.num_unfinished
        return min(99, 100 * finished // max(1, self.spec.num_inputs))
