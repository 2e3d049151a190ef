"""Records of batches: what was submitted, which inputs have been decided, and how their jobs stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.api_keys import KeyLimits
from jobs.errors import JobsError
from jobs.outages import reported_outage
from jobs.records import JobState, WebhookTarget

_ACTIVE, _EXPIRING = "dv:batches:active", "dv:batches:expiring"
_SUFFIXES = ("", ":inputs", ":decided", ":rejected", ":counts", ":jobs", ":intake")

# KEYS: record, decided, rejected. ARGV: index, rejection or empty. A deleted batch is not brought back.
_DECIDE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[2]) end
return 1
"""
# KEYS: record. ARGV: name, value.
_SET_ONCE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
"""
# KEYS: record, active, expiring. ARGV: id, expires_at in ms.
_SETTLE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'expires_at', ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
return 1
"""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchInput(_Record):
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


class RejectedInput(_Record):
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


class BatchSpec(_Record):
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


class Batch(_Record):
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


class BatchNotFoundError(JobsError):
    """Raised when there is no batch of that id, or none that the asker may see."""

    code = "not_found"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id!r}; it was deleted, has expired, or never existed")


class BatchStore:
    """The records of batches. Thread-safe.

    Args:
        client: Of the store's database, without `decode_responses`.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._decide = client.register_script(_DECIDE)
        self._set_once = client.register_script(_SET_ONCE)
        self._settle = client.register_script(_SETTLE)

    def create(
        self,
        spec: BatchSpec,
        inputs: list[BatchInput],
        rejected: list[RejectedInput],
        *,
        active_until: datetime,
    ) -> None:
        """Adds a batch with all its inputs, at once or not at all.

        Args:
            spec: What was submitted.
            inputs: To become jobs.
            rejected: Those that cannot.
            active_until: After which it is forgotten even if it never ends.
        """
        key = _key(spec.id)
        with reported_outage(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(key, "spec", spec.model_dump_json())
            for start in range(0, len(inputs), 1000):
                page = inputs[start : start + 1000]
                pipeline.rpush(f"{key}:inputs", *(item.model_dump_json() for item in page))
            if rejected:
                pipeline.sadd(f"{key}:decided", *(item.index for item in rejected))
                mapping = {str(item.index): item.model_dump_json() for item in rejected}
                pipeline.hset(f"{key}:rejected", mapping=mapping)
            pipeline.zadd(f"dv:batches:{spec.owner}", {spec.id: 0})
            pipeline.zadd(_ACTIVE, {spec.id: 0})
            pipeline.zadd(_EXPIRING, {spec.id: _ms(active_until)})
            pipeline.execute()

    def get(self, batch_id: str, *, owner: str | None = None) -> Batch:
        """Reads a batch.

        Raises:
            BatchNotFoundError: If there is none, or it is not theirs.
        """
        found = self.get_many([batch_id])
        if not found or (owner is not None and found[0].spec.owner != owner):
            raise BatchNotFoundError(batch_id)
        return found[0]

    def get_many(self, batch_ids: list[str]) -> list[Batch]:
        """Reads batches; those that are gone are left out."""
        with reported_outage(), self._client.pipeline(transaction=True) as pipeline:
            for batch_id in batch_ids:
                key = _key(batch_id)
                pipeline.hgetall(key)
                pipeline.hlen(f"{key}:rejected")
                pipeline.hgetall(f"{key}:counts")
            answers = pipeline.execute()
        groups = zip(*(iter(answers),) * 3, strict=True)
        return [_from_answers(*group) for group in groups if b"spec" in group[0]]

    def list_ids(self, owner: str, *, limit: int, after: str | None) -> tuple[list[str], bool]:
        """One page of an owner's batches, newest first; and whether there are more."""
        with reported_outage():
            found = self._client.zrevrangebylex(
                f"dv:batches:{owner}", f"({after}" if after else "+", "-", start=0, num=limit + 1
            )
        return [item.decode() for item in found[:limit]], len(found) > limit

    def rejected(self, batch_id: str) -> list[RejectedInput]:
        """Inputs that became no job, in order."""
        with reported_outage():
            found = self._client.hvals(f"{_key(batch_id)}:rejected")
        items = [RejectedInput.model_validate_json(content) for content in found]
        return sorted(items, key=lambda item: item.index)

    def undecided(self, batch_id: str, *, limit: int) -> list[BatchInput]:
        """The next inputs that nobody has decided, in order."""
        key = _key(batch_id)
        with reported_outage():
            cursor = int(self._client.hget(key, "cursor") or 0)
            while True:
                page = self._client.lrange(f"{key}:inputs", cursor, cursor + limit - 1)
                inputs = [BatchInput.model_validate_json(content) for content in page]
                if not inputs:
                    return []
                decided = self._client.smismember(f"{key}:decided", [item.index for item in inputs])
                left = [item for item, is_decided in zip(inputs, decided, strict=True) if not is_decided]
                if left:
                    return left
                cursor += len(inputs)
                # A hint only: where it is lost, decided inputs are passed over again.
                if self._client.hexists(key, "spec"):
                    self._client.hset(key, "cursor", cursor)

    def decide(self, batch_id: str, index: int, rejected: RejectedInput | None = None) -> None:
        """Notes that an input has become a job, or why not."""
        key = _key(batch_id)
        content = "" if rejected is None else rejected.model_dump_json()
        with reported_outage():
            self._decide(keys=[key, f"{key}:decided", f"{key}:rejected"], args=[index, content])

    def cancel(self, batch_id: str) -> None:
        """Stops inputs from becoming jobs. The jobs that there are the caller cancels."""
        with reported_outage():
            self._set_once(keys=[_key(batch_id)], args=["is_cancelled", "1"])

    def complete_once(self, batch_id: str) -> datetime | None:
        """When the batch was done: now, unless that was noted before; None if it is gone."""
        now = str(_ms(datetime.now(UTC)))
        with reported_outage():
            at = self._set_once(keys=[_key(batch_id)], args=["completed_at", now])
        return None if at is None else _time(at)

    def settle(self, batch_id: str, *, ttl: timedelta) -> None:
        """Ends the batch: nothing needs to be looked after any more until it expires."""
        expires_at = _ms(datetime.now(UTC) + ttl)
        with reported_outage():
            self._settle(keys=[_key(batch_id), _ACTIVE, _EXPIRING], args=[batch_id, expires_at])

    def active_ids(self) -> list[str]:
        """Ids of batches that are not settled."""
        with reported_outage():
            return [item.decode() for item in self._client.zrange(_ACTIVE, 0, -1)]

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of batches whose time is over."""
        now = _ms(datetime.now(UTC))
        with reported_outage():
            found = self._client.zrangebyscore(_EXPIRING, 0, now, start=0, num=limit)
        return [item.decode() for item in found]

    def job_ids(self, batch_id: str) -> list[str]:
        """Ids of all its jobs, the oldest first."""
        with reported_outage():
            return [item.decode() for item in self._client.zrange(f"{_key(batch_id)}:jobs", 0, -1)]

    def input_job_ids(self, batch_id: str) -> list[str]:
        """Ids that its inputs have, or would have had, as jobs."""
        with reported_outage():
            found = self._client.lrange(f"{_key(batch_id)}:inputs", 0, -1)
        return [json.loads(content)["job_id"] for content in found]

    def delete(self, batch_id: str, *, owner: str) -> None:
        """Forgets a batch. Its jobs are the caller's to delete."""
        with reported_outage(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(*(f"{_key(batch_id)}{suffix}" for suffix in _SUFFIXES))
            pipeline.zrem(f"dv:batches:{owner}", batch_id)
            pipeline.zrem(_ACTIVE, batch_id)
            pipeline.zrem(_EXPIRING, batch_id)
            pipeline.execute()


def intake_lock(batch_id: str) -> str:
    """Name of the lock of the process that makes jobs of a batch's inputs."""
    return f"{_key(batch_id)}:intake"


def _key(batch_id: str) -> str:
    return f"dv:batch:{batch_id}"


def _from_answers(values: dict[bytes, bytes], num_rejected: int, counts: dict[bytes, bytes]) -> Batch:
    completed, expires = values.get(b"completed_at"), values.get(b"expires_at")
    return Batch(
        spec=BatchSpec.model_validate_json(values[b"spec"]),
        is_cancelled=b"is_cancelled" in values,
        num_rejected=num_rejected,
        jobs={state: max(0, int(counts.get(state.encode(), 0))) for state in JobState},
        num_deleted=int(counts.get(b"deleted", 0)),
        completed_at=None if completed is None else _time(completed),
        expires_at=None if expires is None else _time(expires),
    )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _time(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
