"""How many workers the unfinished jobs could keep busy, for whoever starts and stops workers."""

from __future__ import annotations

import math

from jobs.records import Job, JobState
from jobs.store import JobStore

# A scrape reads so many records (50 ms); later jobs count for one worker each.
NUM_EXAMINED = 500
_UNFINISHED = (JobState.QUEUED, JobState.IN_PROGRESS)


def num_wanted_workers(store: JobStore, *, segment_seconds: float, num_examined: int = NUM_EXAMINED) -> int:
    """Segments that unfinished jobs still need, planned or not, and one worker at least for each job.

    The queue alone says less: of a long film it holds twice as many messages as there are workers.

    Args:
        store: Of the installation.
        segment_seconds: Length of segments that nobody has planned yet.
        num_examined: Jobs that are looked into, oldest first.

    Raises:
        StoreUnavailableError: When Redis does not answer.
    """
    ids = store.active_ids(limit=num_examined)
    examined = [job for job in store.get_many(ids) if job.state in _UNFINISHED]
    counts = store.counts()
    num_others = sum(counts[state] for state in _UNFINISHED) - len(examined)
    return max(0, num_others) + sum(segments_left(job, segment_seconds) for job in examined)


def segments_left(job: Job, segment_seconds: float) -> int:
    """Of an unfinished job, estimated until it is planned. 1 at least: planning and joining are work too."""
    num_segments, source = job.num_segments, job.spec.input
    if source and not job.is_planned and job.total_frames is not None:
        seconds = job.total_frames / source.frame_rate
        num_segments = max(num_segments, math.ceil(seconds / segment_seconds))
    return max(1, num_segments - job.num_finished_segments)
