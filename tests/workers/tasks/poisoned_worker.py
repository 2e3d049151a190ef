"""A worker whose model "poison" kills its process, as a driver's crash or the kernel's memory killer does.

python -m tests.workers.tasks.poisoned_worker
"""

from __future__ import annotations

import os
import signal

from jobs.settings import WorkerSettings
from pipelines.planning.plan import ChunkPlan
from tests.workers.tasks.standins import scripted
from workers.process import run_worker


def die(number: int, plan: ChunkPlan) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run_worker(WorkerSettings(), load=scripted(die))
