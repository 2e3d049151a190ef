"""Plan and segments of a job: what workers exchange while it is unfinished."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from jobs import keys
from jobs._outcomes import require_lease, require_stored
from jobs._scripts import segments as scripts
from jobs.records import FinishedSegment
from jobs.redis_store import RedisStore


@dataclass(frozen=True)
class NextSteps:
    """What to enqueue for a job.

    Attributes:
        segments: Indices of segments to enqueue.
        is_join_due: Whether all segments are there.
        is_planning_due: Whether the planner should go on.
    """

    segments: tuple[int, ...] = ()
    is_join_due: bool = False
    is_planning_due: bool = False


class SegmentStore(RedisStore):
    """The part of `JobStore` of plans and segments."""

    def append_plan(
        self,
        job_id: str,
        token: str,
        *,
        first_index: int,
        segments: Iterable[str],
        is_complete: bool,
        total_frames: int | None,
    ) -> None:
        """Adds planned segments.

        Args:
            job_id: Of the job.
            token: Of the lease.
            first_index: Of the first of these.
            segments: What workers need to make them, as JSON.
            is_complete: Whether these are the last.
            total_frames: Of the whole; None where that is not known better than before.

        Raises:
            LostLeaseError: If another attempt plans, or has planned these.
        """
        frames = "" if total_frames is None else total_frames
        outcome = self._run(
            scripts.APPEND_PLAN, job_id, token, first_index, int(is_complete), frames, *segments
        )
        require_lease(job_id, "plan", outcome)

    def publish(
        self, job_id: str, segment: FinishedSegment, token: str, *, max_stored_bytes: int = 0
    ) -> bool:
        """Makes a segment part of the result: once, and only by the attempt that holds its lease.

        Args:
            job_id: Of the job.
            segment: What was made.
            token: Of the lease.
            max_stored_bytes: That its owner's objects may take together; 0 for any number.

        Returns:
            Whether this call did it; False if the segment was there already.

        Raises:
            LostLeaseError: If the attempt may not publish any more.
            QuotaExceededError: If the owner has no room for it.
        """
        outcome = self._run(
            scripts.PUBLISH,
            job_id,
            segment.index,
            token,
            segment.model_dump_json(),
            segment.num_frames,
            json.dumps(segment.warnings),
            segment.size_bytes,
            max_stored_bytes,
        )
        require_stored(outcome, f"segment {segment.index}", segment.size_bytes, max_stored_bytes)
        if outcome == b"done":
            return False
        require_lease(job_id, f"segment:{segment.index}", outcome)
        return True

    def advance(self, job_id: str, *, window: int) -> NextSteps:
        """Takes what is to be enqueued next, so that at most `window` segments of the job are under way."""
        is_join_due, is_planning_due, *indices = self._run_once(scripts.ADVANCE, job_id, window)
        return NextSteps(tuple(int(index) for index in indices), bool(is_join_due), bool(is_planning_due))

    def planned_segment(self, job_id: str, index: int) -> bytes | None:
        """One of them, -1 for the last so far; None if it is not planned, or the job is gone."""
        found: bytes | None = self.client.lindex(keys.JOB_PLAN(job_id), index)
        return found

    def finished_segments(self, job_id: str) -> list[FinishedSegment]:
        """All that are published, in order; with gaps while the job is unfinished."""
        found = self.client.hvals(keys.JOB_SEGMENTS(job_id))
        segments = [FinishedSegment.model_validate_json(item) for item in found]
        return sorted(segments, key=lambda segment: segment.index)
