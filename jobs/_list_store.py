"""Pages of a customer's jobs. A page looks at a bounded number of jobs, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from jobs import keys
from jobs._record_format import FIELDS, job_of
from jobs._scripted_store import ScriptedStore
from jobs.records import Job, JobState

# Only ids are looked at, by asking the other indices for them: 2,000 take about ten milliseconds.
_SCANNED_AT_MOST = 2000
_STEP = 500


class ListStore(ScriptedStore):
    """The part of `JobStore` that lists."""

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
            pages = [self._page(key, limit + 1, after, is_descending) for key in of_states]
            ids = sorted({job_id for page in pages for job_id in page}, reverse=is_descending)
            following = ids[limit - 1] if len(ids) > limit else None
        else:
            required.append(keys.JOBS_OF(owner))
            ids, following = self._search(required, of_states, limit, after, is_descending)
        # A job may have gone on to another state meanwhile.
        jobs = [job for job in self.get_many(ids[:limit]) if not states or job.state in states]
        return jobs, following

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
            ids = self._page(walked, step, after, is_descending)
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

    def _page(self, key: str, limit: int, after: str | None, is_descending: bool) -> list[str]:
        if is_descending:
            found = self.client.zrevrangebylex(key, f"({after}" if after else "+", "-", start=0, num=limit)
        else:
            found = self.client.zrangebylex(key, f"({after}" if after else "-", "+", start=0, num=limit)
        return [item.decode() for item in found]
