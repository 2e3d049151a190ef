"""What is known of all jobs together."""

from __future__ import annotations

from jobs import keys
from jobs._scripted_store import ScriptedStore
from jobs.clock import redis_now, unix_ms
from jobs.records import PRIORITIES, JobState, Priority


class OverviewStore(ScriptedStore):
    """The part of `JobStore` that metrics, sweeper and reconciler read."""

    def active_ids(self, *, limit: int | None = None) -> list[str]:
        """Ids of unfinished jobs, oldest first: all, or so many."""
        last = -1 if limit is None else limit - 1
        return [item.decode() for item in self.client.zrange(keys.ACTIVE(), 0, last)]

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of jobs whose time is over."""
        now = unix_ms(redis_now(self.client))
        found = self.client.zrangebyscore(keys.EXPIRING(), 0, now, start=0, num=limit)
        return [item.decode() for item in found]

    def is_input_used(self, key: str) -> bool:
        """Whether a job reads the object with this key, or a batch will make one that does."""
        return bool(self.client.scard(keys.INPUT_USERS(key)))

    def counts(self) -> dict[JobState, int]:
        """Jobs by state."""
        found = self.client.hgetall(keys.COUNTS())
        return {state: int(found.get(state.encode(), 0)) for state in JobState}

    def num_finished(self) -> dict[JobState, int]:
        """Jobs that have reached a final state since the beginning, also those that are deleted since."""
        found = self.client.hgetall(keys.FINISHED())
        return {state: int(found.get(state.encode(), 0)) for state in JobState if state.is_final}

    def num_waiting(self) -> dict[Priority, int]:
        """Jobs that no worker has begun, by priority."""
        with self.client.pipeline(transaction=False) as pipeline:
            for priority in PRIORITIES:
                pipeline.zcard(keys.WAITING(priority))
            return dict(zip(PRIORITIES, pipeline.execute(), strict=True))

    def oldest_waiting_seconds(self) -> dict[Priority, float]:
        """Age of the oldest waiting job, by priority; 0 where none waits."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for priority in PRIORITIES:
                pipeline.zrange(keys.WAITING(priority), 0, 0, withscores=True)
            (seconds, micros), *oldest = pipeline.execute()
        now = seconds + micros / 1e6
        return {
            priority: max(0.0, now - found[0][1] / 1000) if found else 0.0
            for priority, found in zip(PRIORITIES, oldest, strict=True)
        }
