"""What workers cost that have nothing to do, and how soon they begin when something comes.

    python -m benchmarks.idle_workers

First real worker processes: CPU time of Redis, of a worker and of the API while nothing happens, with one
worker and with several. Then what takes messages alone, in many threads, beside one that puts messages now
and then. Times are of the processes themselves, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import nullcontext
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


def many_consumers(folder: Path, *, num_consumers: int, seconds: float, num_messages: int) -> dict[str, Any]:
    """Idle takers of messages on one Redis: its CPU time, and from putting a message to its being begun."""
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
    clients = [patient_client(server.url) for _ in range(num_consumers)]
    consumers = [
        Consumer(MessageQueue(client), wanted, work, hold=_HOLD, keeping=lambda delivery: nullcontext())
        for client in clients
    ]
    with patient_client(server.url) as client:
        for consumer in consumers:
            consumer.start()
        time.sleep(5)
        before = _redis_cpu(client)
        time.sleep(seconds)
        idle = (_redis_cpu(client) - before) / seconds
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
    for client in clients:
        client.close()
    server.stop()
    waits.sort()
    return {
        "num_consumers": num_consumers,
        "redis_ms_per_second_and_consumer": round(1000 * idle / num_consumers, 4),
        "core_share_of_2000": round(2000 * idle / num_consumers, 3),
        "begun_after_ms": {
            "median": round(1000 * statistics.median(waits), 1),
            "p99": round(1000 * waits[int(0.99 * len(waits))], 1),
            "most": round(1000 * waits[-1], 1),
        },
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _redis_cpu(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--consumers", type=int, default=500, help="0 leaves them out")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--messages", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values: dict[str, Any] = {
            **added_by_workers(folder, num_workers=arguments.workers, seconds=arguments.seconds),
            "wanted_redis_ms_per_second_and_worker": _WANTED_MS_PER_SECOND,
        }
        if arguments.consumers:
            values["consumers"] = many_consumers(
                folder / "redis",
                num_consumers=arguments.consumers,
                seconds=arguments.seconds,
                num_messages=arguments.messages,
            )
    write_results("idle_workers", values)


if __name__ == "__main__":
    main()
