"""Many jobs: pages of a customer's, and what is known of all together. A page looks at a bounded number of
jobs, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from jobs import keys
from jobs._record_format import FIELDS, job_of
from jobs.records import Job, JobState
from jobs.redis_store import RedisStore
from jobs.specs import PRIORITIES, Priority

# Only ids are looked at, by asking the other indices for them: 2,000 take about ten milliseconds.
_SCANNED_AT_MOST = 2000
_STEP = 500


class ListingStore(RedisStore):
    """The part of `JobStore` that lists and counts."""

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Reads jobs; those that are gone are left out."""
        with self.client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(keys.JOB(job_id), FIELDS)
            found = pipeline.execute()
        return [job for job in map(job_of, job_ids, found) if job is not None]

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
    ) -> tuple[list[Job], str | None]:
        """One page of an owner's jobs in the order of their creation.

        A page may be short or empty although there are more: where many jobs do not fit the conditions, it
        ends after a bounded number of them, and the next one goes on there.

        Args:
            owner: Whose.
            limit: Jobs on the page, at most.
            after: What the page before gave as the place to go on.
            is_descending: Newest first.
            states: Only jobs in one of these; empty for all.
            labels: Only jobs with all of these (name, value).
            batch_id: Only jobs of this batch.

        Returns:
            The jobs, and where the next page goes on; None after the last.
        """
        of_states = [keys.JOBS_IN_STATE(owner, state) for state in dict.fromkeys(states)]
        required = [keys.JOBS_LABELLED(owner, f"{name}:{value}") for name, value in labels]
        if batch_id is not None:
            required.append(keys.BATCH_JOBS(batch_id))
        if of_states and not required:
            # Each state gives at most a page; nothing needs to be looked for.
            pages = [
                self._page(key, limit=limit + 1, after=after, is_descending=is_descending)
                for key in of_states
            ]
            ids = sorted({job_id for page in pages for job_id in page}, reverse=is_descending)
            following = ids[limit - 1] if len(ids) > limit else None
        else:
            required.append(keys.JOBS_OF(owner))
            ids, following = self._search(required, of_states, limit, after, is_descending)
        # A job may have gone on to another state meanwhile.
        jobs = [job for job in self.get_many(ids[:limit]) if not states or job.state in states]
        return jobs, following

    def active_ids(self, *, limit: int | None = None) -> list[str]:
        """Ids of unfinished jobs, oldest first: all, or so many."""
        last = -1 if limit is None else limit - 1
        return [item.decode() for item in self.client.zrange(keys.ACTIVE(), 0, last)]

    def expired_ids(self, *, limit: int) -> list[str]:
        """Ids of jobs whose time is over."""
        return self._expired(keys.EXPIRING(), limit)

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

    def num_failed(self) -> dict[str, int]:
        """Jobs that have failed since the beginning, by the code of their error."""
        return self._counts_of(keys.FAILURES())

    def num_deliveries_ended(self) -> dict[str, int]:
        """Deliveries of results since the beginning, by how they ended."""
        return self._counts_of(keys.DELIVERIES_ENDED())

    def num_webhooks_ended(self) -> dict[str, int]:
        """Webhooks since the beginning, by how they ended."""
        return self._counts_of(keys.WEBHOOKS_ENDED())

    def _counts_of(self, key: str) -> dict[str, int]:
        return {name.decode(): int(count) for name, count in self.client.hgetall(key).items()}

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

    def _search(
        self, required: list[str], any_of: list[str], limit: int, after: str | None, is_descending: bool
    ) -> tuple[list[str], str | None]:
        """Walks the smallest of the indices that a job must be in, and asks the others for what it finds.

        Returns:
            At least the ids of the page, and where the next page goes on.
        """
        if len(any_of) == 1:
            required, any_of = [*required, *any_of], []
        walked, others = self._smallest_first(required)
        step = _STEP if others or any_of else limit + 1
        kept: list[str] = []
        for _ in range(0, _SCANNED_AT_MOST, step):
            ids = self._page(walked, limit=step, after=after, is_descending=is_descending)
            kept += self._contained(ids, others, any_of)
            if len(kept) > limit:
                return kept, kept[limit - 1]
            if len(ids) < step:
                return kept, None
            after = ids[-1]
        return kept, after

    def _smallest_first(self, names: list[str]) -> tuple[str, list[str]]:
        if len(names) == 1:
            return names[0], []
        with self.client.pipeline(transaction=False) as pipeline:
            for key in names:
                pipeline.zcard(key)
            sizes = pipeline.execute()
        smallest = names[sizes.index(min(sizes))]
        return smallest, [key for key in names if key != smallest]

    def _contained(self, ids: list[str], all_of: list[str], any_of: list[str]) -> list[str]:
        """Those of the ids that are in all of the one and, where there are any, one of the other indices."""
        if not ids or not (all_of or any_of):
            return ids
        with self.client.pipeline(transaction=False) as pipeline:
            for key in (*all_of, *any_of):
                pipeline.zmscore(key, ids)
            scores = pipeline.execute()
        return [
            job_id
            for job_id, *found in zip(ids, *scores, strict=True)
            if None not in found[: len(all_of)]
            and (not any_of or any(score is not None for score in found[len(all_of) :]))
        ]
