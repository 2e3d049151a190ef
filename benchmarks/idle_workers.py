"""What workers cost that have nothing to do, and how soon they begin when something comes.

    python -m benchmarks.idle_workers

First real worker processes: CPU time of Redis, of a worker and of the API while nothing happens, with one
worker and with several. Then what hundreds of workers do with Redis, in threads of one process, beside one
who puts messages now and then. Times are of the processes themselves, so that other work on the machine
matters little.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.installation import Installation, Part
from benchmarks.results_file import write_results
from jobs.settings import CommonSettings

_WANTED_MS_PER_SECOND = 0.2
_HOLD = timedelta(seconds=60)


def real_workers(folder: Path, *, num_workers: int, seconds: float) -> dict[str, Any]:
    """CPU time of an idle installation in ms per second: of Redis, of its API, and of one worker."""
    usual = CommonSettings()
    environment = {
        "DOVETAIL_MODELS": '["bicubic"]',
        # Benchmarks of kills look for the dead more often.
        "DOVETAIL_HEARTBEAT_TIMEOUT": str(usual.heartbeat_timeout.total_seconds()),
        "DOVETAIL_LEASE_TTL": str(usual.lease_ttl.total_seconds()),
    }
    with (
        Installation(folder, num_workers=num_workers, environment=environment) as installation,
        installation.redis_client() as client,
    ):
        time.sleep(5)  # what is done once at the start
        parts: dict[Part, list[psutil.Process]] = {
            part: installation.processes(part) for part in ("api", "worker")
        }

        def spent() -> dict[str, float]:
            own = {str(part): sum(map(_cpu_seconds, processes), 0.0) for part, processes in parts.items()}
            return own | {"redis": _redis_cpu(client)}

        before = spent()
        time.sleep(seconds)
        used = {part: (now - before[part]) / seconds * 1000 for part, now in spent().items()}
    return {
        "num_workers": num_workers,
        "redis_ms_per_second": round(used["redis"], 2),
        "api_ms_per_second": round(used["api"], 2),
        "worker_ms_per_second": round(used["worker"] / num_workers, 2),
    }


def added_by_workers(folder: Path, *, num_workers: int, seconds: float) -> dict[str, Any]:
    """What each further worker costs Redis: an installation of one beside one of `num_workers`."""
    one, many = (
        real_workers(folder / str(number), num_workers=number, seconds=seconds) for number in (1, num_workers)
    )
    added = (many["redis_ms_per_second"] - one["redis_ms_per_second"]) / (num_workers - 1)
    return {"installations": [one, many], "redis_ms_per_second_and_further_worker": round(added, 3)}


def many_workers(folder: Path, *, num_workers: int, seconds: float, num_messages: int) -> dict[str, Any]:
    """What idle workers do with Redis, of many, in threads of this process: Redis's CPU time for taking and
    for all of it, and from putting a message to its being begun."""
    from jobs.connections import patient_client
    from jobs.embedded_redis import EmbeddedRedis
    from jobs.messages import Delivery, Message, MessageQueue
    from jobs.queue import tasks_for
    from workers.consumer import Consumer

    server = EmbeddedRedis(folder)
    server.ensure_running()
    waits: list[float] = []
    begun = threading.Event()

    def work(delivery: Delivery) -> None:
        waits.append(time.perf_counter() - float(delivery.id))
        begun.set()

    wanted = tasks_for(["dovetail-nano-2"])
    with ExitStack() as stack:
        client, *clients = (stack.enter_context(patient_client(server.url)) for _ in range(num_workers + 1))
        consumers = [
            Consumer(MessageQueue(own), wanted, work, hold=_HOLD, keeping=lambda delivery: nullcontext())
            for own in clients
        ]

        def idle_ms() -> float:
            """Redis's CPU time for a worker and second."""
            time.sleep(5)
            before = _redis_cpu(client)
            time.sleep(seconds)
            return 1000 * (_redis_cpu(client) - before) / seconds / num_workers

        for consumer in consumers:
            consumer.start()
        taking = idle_ms()
        for number in range(num_workers):
            _do_the_rest(stack, server.url, folder, number)
        everything = idle_ms()
        messages = MessageQueue(client)
        for _ in range(num_messages):
            begun.clear()
            messages.put(Message("normal", repr(time.perf_counter()), wanted.groups[0][0], "me"))
            begun.wait(10)
            time.sleep(0.05)
        for consumer in consumers:
            consumer.close()
        for consumer in consumers:
            consumer.stop(timeout=10)
    server.stop()
    waits.sort()
    return {
        "num_workers": num_workers,
        "redis_ms_per_second_and_worker": {"taking": round(taking, 4), "all": round(everything, 4)},
        "core_share_of_2000": round(2 * everything, 3),
        "begun_after_ms": {
            "median": round(1000 * statistics.median(waits), 1),
            "p99": round(1000 * waits[int(0.99 * len(waits))], 1),
            "most": round(1000 * waits[-1], 1),
        },
    }


def _do_the_rest(stack: ExitStack, url: str, folder: Path, number: int) -> None:
    """Signs of life and housekeeping of a worker, until the stack ends."""
    import torch

    from jobs.connections import impatient_client, patient_client
    from jobs.fleet import Fleet
    from jobs.housekeeping import housekeeping
    from jobs.queue import TASK_KINDS, JobQueue
    from jobs.storage import Storage
    from jobs.store import JobStore
    from workers.fleet_report import FleetReporter
    from workers.tasks.stopping import StopSignal

    reporter = FleetReporter(
        Fleet(stack.enter_context(impatient_client(url))),
        f"host-{number}-00000000",
        torch.device("cpu"),
        only=TASK_KINDS,
        models=("dovetail-nano-2",),
        stopping=StopSignal(),
        task=lambda: None,
    )
    stack.enter_context(reporter)
    client = stack.enter_context(patient_client(url))
    storage = Storage(str(folder / "storage"))
    stack.enter_context(housekeeping(JobStore(client), JobQueue(client), storage, CommonSettings()))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _redis_cpu(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--threads", type=int, default=300, help="workers in threads; 0 leaves them out")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--messages", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values: dict[str, Any] = {
            **added_by_workers(folder, num_workers=arguments.workers, seconds=arguments.seconds),
            "wanted_redis_ms_per_second_and_worker": _WANTED_MS_PER_SECOND,
        }
        if arguments.threads:
            values["in_threads"] = many_workers(
                folder / "redis",
                num_workers=arguments.threads,
                seconds=arguments.seconds,
                num_messages=arguments.messages,
            )
    write_results("idle_workers", values)


if __name__ == "__main__":
    main()
