"""Keeps the records of batches in Redis: their inputs, which of these have been decided, and their states."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from jobs import keys
from jobs._scripts import batches, fields
from jobs.batch_records import Batch, BatchInput, BatchSpec, RejectedInput
from jobs.clock import from_unix_ms, milliseconds, unix_ms
from jobs.errors import BatchNotFoundError
from jobs.objects import input_key, upload_key
from jobs.records import JobState
from jobs.redis_store import RedisStore

_PARTS = (
    keys.BATCH, keys.BATCH_INPUTS, keys.BATCH_DECIDED, keys.BATCH_REJECTED, keys.BATCH_COUNTS,
    keys.BATCH_JOBS, keys.BATCH_INTAKE,
)  # fmt: skip


class BatchStore(RedisStore):
    """The records of batches."""

    def create(
        self,
        spec: BatchSpec,
        inputs: list[BatchInput],
        rejected: list[RejectedInput],
        *,
        active_until: datetime,
    ) -> bool:
        """Adds a batch with all its inputs, at once or not at all. Harmless to repeat.

        Args:
            spec: What was submitted.
            inputs: To become jobs.
            rejected: Those that cannot.
            active_until: After which it is forgotten even if it never ends.

        Returns:
            Whether this is the batch; False if another of its id is there.
        """
        arguments: list[Any] = [item.model_dump_json() for item in inputs]
        for item in rejected:
            arguments += [item.index, item.model_dump_json()]
        until, content = unix_ms(active_until), spec.model_dump_json()
        return bool(
            self._run_durably(batches.CREATE, spec.id, spec.owner, content, until, len(inputs), *arguments)
        )

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
        with self.client.pipeline(transaction=True) as pipeline:
            for batch_id in batch_ids:
                pipeline.hgetall(keys.BATCH(batch_id))
                pipeline.hlen(keys.BATCH_REJECTED(batch_id))
                pipeline.hgetall(keys.BATCH_COUNTS(batch_id))
            answers = pipeline.execute()
        groups = zip(*(iter(answers),) * 3, strict=True)
        return [_from_answers(*group) for group in groups if b"spec" in group[0]]

    def list_ids(self, owner: str, *, limit: int, after: str | None) -> tuple[list[str], bool]:
        """One page of an owner's batches, newest first; and whether there are more."""
        found = self._page(keys.BATCHES_OF(owner), limit=limit + 1, after=after)
        return found[:limit], len(found) > limit

    def rejected(self, batch_id: str) -> list[RejectedInput]:
        """Inputs that became no job, in order."""
        found = self.client.hvals(keys.BATCH_REJECTED(batch_id))
        items = [RejectedInput.model_validate_json(content) for content in found]
        return sorted(items, key=lambda item: item.index)

    def undecided(self, batch_id: str, *, limit: int) -> list[BatchInput]:
        """The next inputs that nobody has decided, in order."""
        key = keys.BATCH(batch_id)
        cursor = int(self.client.hget(key, "cursor") or 0)
        while True:
            page = self.client.lrange(keys.BATCH_INPUTS(batch_id), cursor, cursor + limit - 1)
            inputs = [BatchInput.model_validate_json(content) for content in page]
            if not inputs:
                return []
            decided = self.client.smismember(keys.BATCH_DECIDED(batch_id), [item.index for item in inputs])
            left = [item for item, is_decided in zip(inputs, decided, strict=True) if not is_decided]
            if left:
                return left
            cursor += len(inputs)
            # A hint only: where it is lost, decided inputs are passed over again.
            self._run(fields.SET, key, "cursor", cursor)

    def decide(self, batch_id: str, item: BatchInput, rejected: RejectedInput | None = None) -> None:
        """Notes that an input has become a job, or why not."""
        content = "" if rejected is None else rejected.model_dump_json()
        self._run(batches.DECIDE, batch_id, item.index, content, _object_of(item), item.job_id)

    def cancel(self, batch_id: str) -> None:
        """Stops inputs from becoming jobs. The jobs that there are the caller cancels."""
        self._run(fields.SET, keys.BATCH(batch_id), "is_cancelled", "1")

    def complete_once(self, batch_id: str) -> datetime | None:
        """When the batch was done: now, unless that was noted before; None if it is gone."""
        at = self._run(fields.STAMP, keys.BATCH(batch_id), "completed_at")
        return None if at is None else from_unix_ms(at)

    def settle(self, batch_id: str, *, ttl: timedelta) -> None:
        """Ends the batch: nothing needs to be looked after any more until it expires."""
        expiring = keys.BATCHES_EXPIRING()
        self._run(fields.EXPIRE, keys.BATCH(batch_id), expiring, batch_id, milliseconds(ttl))
        self.client.zrem(keys.BATCHES_ACTIVE(), batch_id)

    def active_ids(self) -> list[str]:
        """Ids of batches that are not settled."""
        return [item.decode() for item in self.client.zrange(keys.BATCHES_ACTIVE(), 0, -1)]

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of batches whose time is over."""
        return self._expired(keys.BATCHES_EXPIRING(), limit)

    def job_ids(self, batch_id: str, *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Ids of its jobs, the oldest first: all, or so many after one."""
        begin, bounds = f"({after}" if after else "-", {} if limit is None else {"start": 0, "num": limit}
        found = self.client.zrangebylex(keys.BATCH_JOBS(batch_id), begin, "+", **bounds)
        return [item.decode() for item in found]

    def input_job_ids(self, batch_id: str) -> list[str]:
        """Ids that its inputs have, or would have had, as jobs."""
        found = self.client.lrange(keys.BATCH_INPUTS(batch_id), 0, -1)
        return [json.loads(content)["job_id"] for content in found]

    def delete(self, batch_id: str, *, owner: str) -> None:
        """Forgets a batch. Its jobs are the caller's to delete."""
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.lrange(keys.BATCH_INPUTS(batch_id), 0, -1)
            pipeline.smembers(keys.BATCH_DECIDED(batch_id))
            contents, decided = pipeline.execute()
            for item in map(BatchInput.model_validate_json, contents):
                if str(item.index).encode() not in decided:
                    pipeline.srem(keys.INPUT_USERS(_object_of(item)), item.job_id)
            pipeline.delete(*(part(batch_id) for part in _PARTS))
            pipeline.zrem(keys.BATCHES_OF(owner), batch_id)
            pipeline.zrem(keys.BATCHES_ACTIVE(), batch_id)
            pipeline.zrem(keys.BATCHES_EXPIRING(), batch_id)
            pipeline.execute()


def _object_of(item: BatchInput) -> str:
    """The key of an input's object."""
    upload_id = (item.source or {}).get("upload_id")
    return upload_key(upload_id) if upload_id else input_key(item.job_id)


def _from_answers(values: dict[bytes, bytes], num_rejected: int, counts: dict[bytes, bytes]) -> Batch:
    completed, expires = values.get(b"completed_at"), values.get(b"expires_at")
    return Batch(
        spec=BatchSpec.model_validate_json(values[b"spec"]),
        is_cancelled=b"is_cancelled" in values,
        num_rejected=num_rejected,
        jobs={state: max(0, int(counts.get(state.encode(), 0))) for state in JobState},
        num_deleted=int(counts.get(b"deleted", 0)),
        completed_at=None if completed is None else from_unix_ms(completed),
        expires_at=None if expires is None else from_unix_ms(expires),
    )
