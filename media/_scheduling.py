"""Keeping an encoder library from taking the machine.

SVT-AV1 as root (so in most containers) puts the thread that opens it, and threads it starts, into real-time
scheduling at the highest priority (measured with the library in av 18.1: SCHED_FIFO 99 after one frame, and
it stays). Such a thread starves every ordinary process on its core, the API and other workers among them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Gives threads of this process that become real-time inside the block their ordinary policy back."""
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            # A thread may end between the look and the call.
            with suppress(ProcessLookupError, PermissionError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time_threads() -> set[int]:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return set()  # not Linux: nothing to see, and SVT-AV1 does nothing of the kind there
    threads = set()
    for task in tasks.iterdir():
        with suppress(ProcessLookupError):
            if os.sched_getscheduler(int(task.name)) in (os.SCHED_FIFO, os.SCHED_RR):
                threads.add(int(task.name))
    return threads
