"""What a worker holds stays its own as long as it lives, and is free as soon as it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.connections import patient_client
from jobs.messages import Delivery
from jobs.queue import JobQueue, tasks_for
from jobs.store import JobStore
from tests.jobs.made import begin, create
from tests.redis_server import RedisServer
from tests.workers.tasks.farm import ROOT, wait_until

HOLD = 1.5


@dataclass
class Task:
    """A job's plan, which a process holds as workers do."""

    store: JobStore
    queue: JobQueue
    job_id: str
    holder: subprocess.Popen[str]
    keeper_pid: int

    def lease(self) -> object:
        """As it stands in the record, with its end."""
        return self.store.client.hget(f"dv:job:{self.job_id}:leases", "plan")

    def is_others(self) -> bool:
        """Whether another worker gets it: then it has begun it."""
        found = self.queue.messages.take(tasks_for(["bicubic"]), hold=timedelta(minutes=1))
        if not isinstance(found, Delivery):
            return False
        beginning = begin(self.store, self.job_id, "plan", "other")
        assert (beginning.outcome, beginning.number) == ("ok", 2), "a death counts as an attempt"
        return True


@contextmanager
def held(server: RedisServer, *, hold: float = HOLD, stall: float = 60, freeze: int = 0) -> Iterator[Task]:
    with patient_client(server.url) as client, patient_client(server.queue_url) as queue_client:
        store, queue = JobStore(client), JobQueue(queue_client)
        job = create(store)
        queue.enqueue(job.spec, "plan")
        command = [sys.executable, "-m", "tests.workers.tasks.holder", server.url, server.queue_url]
        command += [job.id, str(hold), str(stall), str(freeze)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
            assert holder.stdout is not None
            try:
                yield Task(store, queue, job.id, holder, int(holder.stdout.readline()))
            finally:
                holder.kill()


def test_a_killed_workers_task_is_free_at_once(redis_server: RedisServer) -> None:
    with held(redis_server, hold=60) as task:
        assert not task.is_others()
        task.holder.kill()
        wait_until(task.is_others, seconds=10)
        wait_until(lambda: not Path(f"/proc/{task.keeper_pid}").exists(), seconds=10)


def test_a_worker_whose_interpreter_is_held_up_keeps_its_task(redis_server: RedisServer) -> None:
    with held(redis_server, freeze=4) as task:
        assert task.holder.stdout is not None
        begun = time.monotonic()
        while time.monotonic() < begun + 2 * HOLD:
            assert not task.is_others()
            time.sleep(0.1)
        assert task.holder.stdout.readline() == "thawed\n"
        assert time.monotonic() > begun + 2


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_worker_that_stands_still_loses_its_task(redis_server: RedisServer, how: str) -> None:
    with held(redis_server, stall=1 if how == "silent" else 60, freeze=30 if how == "silent" else 0) as task:
        if how == "stopped":
            task.holder.send_signal(signal.SIGSTOP)
        wait_until(task.is_others, seconds=10)


def test_a_keeper_that_dies_is_replaced_by_one_that_keeps_at_once(redis_server: RedisServer) -> None:
    with held(redis_server, hold=60) as task:
        os.kill(task.keeper_pid, signal.SIGKILL)
        before = task.lease()
        wait_until(lambda: task.lease() != before, seconds=9)  # a quarter of a lease would be 10 s
