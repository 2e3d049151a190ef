"""How many workers the unfinished jobs could keep busy, for whoever starts and stops workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.records import Job, JobState
from jobs.store import JobStore

# A scrape reads so many records (50 ms); later jobs count for one worker each.
NUM_EXAMINED = 500
_UNFINISHED = (JobState.QUEUED, JobState.IN_PROGRESS)


@dataclass(frozen=True)
class WantedWorkers:
    """How many workers could work at once.

    Attributes:
        total: Of all kinds.
        by_model: That have a model; the sum may differ from `total` where jobs were not looked into.
    """

    total: int
    by_model: dict[str, int]


def count_wanted_workers(
    store: JobStore, models: Sequence[str], *, segment_seconds: float, num_examined: int = NUM_EXAMINED
) -> WantedWorkers:
    """Segments that unfinished jobs still need, planned or not, and one worker at least for each job.

    The queue alone says less: of a long film it holds twice as many messages as there are workers.

    Args:
        store: Of the installation.
        models: That jobs may name; the first is that of jobs which name none. Each is in the answer.
        segment_seconds: Length of segments that nobody has planned yet.
        num_examined: Jobs that are looked into, oldest first.

    Raises:
        StoreUnavailableError: When Redis does not answer.
    """
    ids = store.active_ids(limit=num_examined)
    examined = [job for job in store.get_many(ids) if job.state in _UNFINISHED]
    counts = store.counts()
    num_others = max(0, sum(counts[state] for state in _UNFINISHED) - len(examined))
    by_model = dict.fromkeys(models, 0)
    for job in examined:
        name = _kind_of_model(job.spec.options.model, models)
        by_model[name] = by_model.get(name, 0) + segments_left(job, segment_seconds)
    total = num_others + sum(by_model.values())
    if num_others:
        # Their models are not known: each kind of worker has one that looks.
        by_model = {name: max(1, number) for name, number in by_model.items()}
    return WantedWorkers(total, by_model)


def _kind_of_model(name: str | None, models: Sequence[str]) -> str:
    """As in the queue's lines: what follows a stand-in's colon are parameters."""
    if name is None:
        return models[0] if models else ""
    return next((model for model in models if model.endswith(":") and name.startswith(model)), name)


def segments_left(job: Job, segment_seconds: float) -> int:
    """Of an unfinished job, estimated until it is planned. 1 at least: planning and joining are work too."""
    num_segments, source = job.num_segments, job.spec.input
    if source and not job.is_planned and job.total_frames is not None:
        seconds = job.total_frames / source.frame_rate
        num_segments = max(num_segments, math.ceil(seconds / segment_seconds))
    return max(1, num_segments - job.num_finished_segments)
