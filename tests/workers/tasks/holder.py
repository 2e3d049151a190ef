"""Holds a task as a worker does, and then its interpreter's lock for so many seconds, or waits.

python -m tests.workers.tasks.holder REDIS QUEUE JOB HOLD STALL FREEZE
"""

from __future__ import annotations

import ctypes
import sys
import time
from datetime import timedelta

from jobs.connections import patient_client
from jobs.messages import Delivery, MessageQueue
from jobs.queue import tasks_for
from jobs.store import JobStore
from workers.held import HeldLease, HeldMessage
from workers.keeper import Keeper


def main(redis_url: str, queue_url: str, job_id: str, hold: float, stall: float, freeze: int) -> None:
    length, lease = timedelta(seconds=hold), hold * 2 / 3
    begin = {"ttl": timedelta(seconds=lease), "max_attempts": 4, "worker": "a", "num_workers": 1}
    queue, store = MessageQueue(patient_client(queue_url)), JobStore(patient_client(redis_url))
    with Keeper(timedelta(seconds=stall)) as keeper:
        found = queue.take(tasks_for(["bicubic"]), hold=length)
        assert isinstance(found, Delivery)
        with (
            keeper.keeping(HeldMessage.of(found, url=queue_url, hold=length)),
            keeper.keeping(HeldLease(redis_url, lease, job_id, "plan", "token")),
        ):
            store.begin(job_id, "plan", "token", **begin)
            print(keeper.pid, flush=True)
            if freeze:
                time.sleep(0.2)  # until the keeper has been told
                ctypes.PyDLL(None).sleep(freeze)
            print("thawed", flush=True)
            time.sleep(60)


if __name__ == "__main__":
    redis_url, queue_url, job_id, hold, stall, freeze = sys.argv[1:]
    main(redis_url, queue_url, job_id, float(hold), float(stall), int(freeze))
