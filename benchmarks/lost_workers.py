"""How long a segment stands still when its worker is lost, and that one which is only busy keeps it.

python -m benchmarks.lost_workers --rounds 3

Two workers with the usual settings; the one that makes a segment is killed, killed together with its keeper
(as when a machine vanishes), or stopped, and the time is taken until the other has begun the segment. Then a
model holds the interpreter's lock for a while, and nobody may take over.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.results_file import write_results
from dovetail_client import Dovetail
from jobs.fleet import WorkerInfo
from jobs.settings import WorkerSettings

_USUAL = {
    name: str(getattr(WorkerSettings(), name).total_seconds()) for name in ("heartbeat_timeout", "lease_ttl")
}


def _work(freeze_seconds: int) -> None:
    """A worker, whose model holds the interpreter's lock once where it is told to sleep for so long."""
    import pipelines.standin
    from workers.process import run_worker

    usual = time.sleep

    class Clock:
        @staticmethod
        def sleep(seconds: float) -> None:
            if seconds == freeze_seconds:
                ctypes.PyDLL(None).sleep(freeze_seconds)
            else:
                usual(seconds)

    vars(pipelines.standin)["time"] = Clock  # in this process only
    run_worker(WorkerSettings())


@contextmanager
def _workers(service: Installation, number: int, freeze_seconds: int) -> Iterator[None]:
    settings = service.settings
    environment = {
        **os.environ,
        "DOVETAIL_REDIS_URL": settings.redis_url,
        "DOVETAIL_DATA_DIR": str(settings.data_dir),
        "DOVETAIL_MODELS": "bicubic",
        "DOVETAIL_ALLOW_STANDINS": "true",
        **{f"DOVETAIL_{name.upper()}": value for name, value in _USUAL.items()},
    }
    command = [sys.executable, "-m", "benchmarks.lost_workers", "--worker", str(freeze_seconds)]
    started = [subprocess.Popen(command, env=environment) for _ in range(number)]
    try:
        _wait(lambda: len(service.fleet().workers()) >= number)
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def _wait(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
    return found


def _holder(service: Installation) -> WorkerInfo | None:
    return next((found for found in service.fleet().workers() if ":segment:" in found.task), None)


def _lease(service: Installation, worker: WorkerInfo) -> bytes | None:
    job_id, _, task = worker.task.partition(":")
    value: Any = service.redis_client().hget(f"dv:job:{job_id}:leases", task)
    return value.split()[0] if value else None


def _lose(pid: int, how: str) -> None:
    process = psutil.Process(pid)
    if how == "stopped":
        process.send_signal(signal.SIGSTOP)
        return
    if how == "vanished":
        for child in process.children():
            if "workers.keeper" in child.cmdline():
                child.kill()
    process.kill()


def _measure(folder: Path, how: str) -> float:
    """Seconds until another worker has begun the segment."""
    with (
        Installation(folder, num_workers=0, environment=_settings()) as service,
        _workers(service, 2, 0),
        Dovetail(service.url) as client,
    ):
        client.submit(make_clip(folder / "clip.mp4", seconds=4), model="standin:sleep=0.5,scale=2")
        worker = _wait(lambda: _holder(service))
        token = _wait(lambda: _lease(service, worker))
        _lose(worker.pid, how)
        begun = time.monotonic()
        _wait(lambda: _lease(service, worker) not in (None, token))
        return time.monotonic() - begun


def _freeze(folder: Path, seconds: int) -> dict[str, Any]:
    """A job whose only segment takes as long as its model holds the interpreter's lock."""
    with (
        Installation(folder, num_workers=0, environment=_settings()) as service,
        _workers(service, 2, seconds),
        Dovetail(service.url) as client,
    ):
        clip = make_clip(folder / "clip.mp4", seconds=0.04)
        job = client.submit(clip, model=f"standin:sleep={seconds},scale=2")
        worker = _wait(lambda: _holder(service))
        token, tokens = _lease(service, worker), set()
        begun = time.monotonic()
        while time.monotonic() < begun + seconds - 2:
            tokens.add(_lease(service, worker))
            time.sleep(0.2)
        done = client.wait(job.id, timeout=120)
        attempts: Any = service.redis_client().hget(f"dv:job:{job.id}", "attempts")
        return {
            "seconds": seconds,
            "is_kept": tokens == {token},
            "status": done.status,
            "attempts": int(attempts),
        }


def _settings() -> dict[str, str]:
    usual = {f"DOVETAIL_{name.upper()}": value for name, value in _USUAL.items()}
    return {**usual, "DOVETAIL_ALLOW_STANDINS": "true", "DOVETAIL_MODELS": "bicubic"}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--freeze", type=int, default=30)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        _work(arguments.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        seconds = {
            how: [round(_measure(Path(name) / f"{how}-{n}", how), 2) for n in range(arguments.rounds)]
            for how in ("killed", "vanished", "stopped")
        }
        frozen = _freeze(Path(name) / "frozen", arguments.freeze)
    settings = {**_USUAL, "stall_timeout": WorkerSettings().stall_timeout.total_seconds()}
    write_results("lost_workers", {"settings": settings, "seconds_until_begun": seconds, "held_lock": frozen})


if __name__ == "__main__":
    main()
