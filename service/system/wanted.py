"""How many workers the unfinished jobs could keep busy, for whoever starts and stops workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.queue import JOIN, PLAN, SEGMENT, TaskKind
from jobs.records import Job, JobState
from jobs.store import JobStore

# A scrape reads so many records (50 ms); later jobs count for one worker each.
NUM_EXAMINED = 500
_UNFINISHED = (JobState.QUEUED, JobState.IN_PROGRESS)


@dataclass(frozen=True)
class WantedWorkers:
    """How many workers could work at once.

    Attributes:
        total: That take all kinds of tasks.
        by_model: The same with a model; the sum may differ from `total` where jobs were not looked into.
        by_task: That take one kind of tasks.
        segments_by_model: That take segments of a model.
    """

    total: int
    by_model: dict[str, int]
    by_task: dict[TaskKind, int]
    segments_by_model: dict[str, int]


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
    by_model, segments = Counter(dict.fromkeys(models, 0)), Counter(dict.fromkeys(models, 0))
    by_task: Counter[TaskKind] = Counter({PLAN: 0, SEGMENT: 0, JOIN: 0})
    for job in examined:
        name = _kind_of_model(job.spec.options.model, models)
        number = segments_to_make(job, segment_seconds)
        segments[name] += number
        by_model[name] += max(1, number)  # planning and joining are work too
        by_task.update({PLAN: int(not job.is_planned), SEGMENT: number, JOIN: int(not number)})
    total = num_others + sum(by_model.values())
    by_task[SEGMENT] += num_others
    # What they need is not known: each kind of worker has one that looks.
    least = min(1, num_others)
    return WantedWorkers(
        total,
        by_model={name: max(least, number) for name, number in by_model.items()},
        by_task={kind: max(least, number) for kind, number in by_task.items()},
        segments_by_model={name: max(least, number) for name, number in segments.items()},
    )


def _kind_of_model(name: str | None, models: Sequence[str]) -> str:
    """As in the queue's lines: what follows a stand-in's colon are parameters."""
    if name is None:
        return models[0] if models else ""
    return next((model for model in models if model.endswith(":") and name.startswith(model)), name)


def segments_to_make(job: Job, segment_seconds: float) -> int:
    """Of an unfinished job, estimated until it is planned, and 1 at least until then."""
    num_segments, source = job.num_segments, job.spec.input
    if source and not job.is_planned and job.total_frames is not None:
        seconds = job.total_frames / source.frame_rate
        num_segments = max(num_segments, math.ceil(seconds / segment_seconds))
    return max(0 if job.is_planned else 1, num_segments - job.num_finished_segments)
