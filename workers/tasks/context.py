"""What all tasks of a worker process use."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from jobs.fleet import Fleet
from jobs.queue import JobQueue, TaskId
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
    _num_workers: int = field(default=1, init=False)
    _counted_at: float = field(default=float("-inf"), init=False)

    @property
    def num_workers(self) -> int:
        """Workers that take tasks now, with this one."""
        now = time.monotonic()
        if now - self._counted_at > _FLEET_SECONDS:
            self._num_workers = max(1, sum(not worker.is_draining for worker in self.fleet.workers()))
            self._counted_at = now
        return self._num_workers

    @property
    def window(self) -> int:
        """How many segments of one job may be in the queue: enough for all workers to have one more waiting,
        few enough that jobs take turns."""
        return max(2, 2 * self.num_workers)
