"""What all tasks of a worker process use."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from jobs.fleet import Fleet, count_takers
from jobs.queue import SEGMENT, JobQueue, TaskId, TaskKind
from jobs.settings import WorkerSettings
from jobs.storage import Storage
from jobs.store import JobStore
from media.sandbox import Sandbox
from workers.keeper import Keeper
from workers.model_shelf import ModelShelf
from workers.tasks.inputs import InputShelf
from workers.tasks.outcomes import Outcomes
from workers.tasks.stopping import StopSignal

_FLEET_SECONDS = 1.0


@dataclass
class WorkerContext:
    """The parts of a worker process.

    Attributes:
        settings: Of the process.
        worker_id: In the fleet's register and in leases.
        store: Job records.
        queue: To enqueue what comes next.
        storage: Objects.
        fleet: Register of workers and models.
        models: Loaded ones.
        inputs: Sources as files.
        sandbox: Where inputs are read.
        keeper: Of what is held.
        work_dir: For files of the running task.
        stopping: Whether to stop.
        task: What runs now.
        outcomes: How attempts ended.
    """

    settings: WorkerSettings
    worker_id: str
    store: JobStore
    queue: JobQueue
    storage: Storage
    fleet: Fleet
    models: ModelShelf
    inputs: InputShelf
    sandbox: Sandbox
    keeper: Keeper
    work_dir: Path
    stopping: StopSignal = field(default_factory=StopSignal)
    task: TaskId | None = None
    outcomes: Outcomes = field(default_factory=Outcomes)
    _takers: Counter[TaskKind] = field(default_factory=Counter, init=False)
    _counted_at: float = field(default=float("-inf"), init=False)

    def num_workers(self, kind: TaskKind) -> int:
        """Workers that take this kind of tasks now, at least 1."""
        now = time.monotonic()
        if now - self._counted_at > _FLEET_SECONDS:
            self._takers, self._counted_at = count_takers(self.fleet.workers()), now
        return max(1, self._takers[kind])

    @property
    def window(self) -> int:
        """How many segments of one job may be in the queue: enough for all workers to have one more waiting,
        few enough that jobs take turns."""
        return max(2, 2 * self.num_workers(SEGMENT))
