"""An installation without an API: store, queue and storage of one test, and its workers."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jobs import objects
from jobs.connections import patient_client
from jobs.fleet import Fleet
from jobs.options import JobOptions, PictureKind
from jobs.queue import JobQueue
from jobs.records import FinishedSegment, Job
from jobs.segment_list import SegmentList
from jobs.settings import WorkerSettings
from jobs.specs import InputInfo, JobSpec, Priority, new_id
from jobs.storage import Storage
from jobs.store import JobStore
from media.sandbox import Sandbox
from pipelines.loaders import load_model
from pipelines.model import Model
from tests.redis_server import RedisServer
from workers.keeper import Keeper
from workers.process import running_worker
from workers.tasks.context import WorkerContext

ROOT = Path(__file__).parents[3]


def wait_until(condition: Callable[[], Any], *, seconds: float = 60) -> Any:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
    return value


@cache
def shared_keeper() -> Keeper:
    """For all workers in this process; it ends with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Keeper(timedelta(minutes=5)))


@dataclass
class Farm:
    """What API and workers of one installation share."""

    redis: RedisServer
    settings: WorkerSettings
    sandbox: Sandbox

    def __post_init__(self) -> None:
        self._client = patient_client(self.settings.redis_url)
        self._queue_client = patient_client(self.settings.effective_queue_redis_url)
        self.store, self.fleet = JobStore(self._client), Fleet(self._client)
        self.queue = JobQueue(self._queue_client)
        self.storage = Storage(self.settings.effective_storage_url)

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()
        self._queue_client.close()

    @classmethod
    def make(cls, redis: RedisServer, folder: Path, sandbox: Sandbox, **settings: Any) -> Farm:
        """Settings are those of a worker; times are short, segments last a second."""
        values: dict[str, Any] = {
            "data_dir": folder,
            "work_dir": folder / "work",
            "redis_url": redis.url,
            "models": ("bicubic",),
            "device": "cpu",
            "segment_seconds": 1,
            "heartbeat_timeout": timedelta(seconds=2),
            "lease_ttl": timedelta(seconds=1),
            "min_free_bytes": 0,
            "allow_standins": True,
        }
        return cls(redis, WorkerSettings(**(values | settings)), sandbox)

    def submit(
        self,
        clip: Path,
        *,
        priority: Priority = Priority.NORMAL,
        owner: str = "local",
        limits: Mapping[str, int] | None = None,
        picture: PictureKind | None = None,
        **options: Any,
    ) -> str:
        """What the API does with an upload; the job's id."""
        job_id = new_id("job")
        key = objects.input_key(job_id)
        self.storage.put_file(key, clip)
        spec = JobSpec(
            id=job_id,
            owner=owner,
            created_at=datetime.now(UTC),
            input_key=key,
            input=InputInfo(
                filename="holiday.mp4",
                size_bytes=clip.stat().st_size,
                format_name="mp4",
                codec="h264",
                width=64,
                height=48,
                frame_rate=25,
                picture=picture,
            ),
            options=JobOptions(preset="ultrafast", **options),
            priority=priority,
            **(limits or {}),
        )
        self.store.create(spec, max_waiting=1000)
        self.queue.enqueue(spec, "plan")
        return job_id

    def wait(
        self,
        job_id: str,
        until: Callable[[Job], bool] = lambda job: job.state.is_final,
        *,
        seconds: float = 60,
    ) -> Job:
        """The job as soon as something is true of it; by default, that it has ended."""

        def look() -> Job | None:
            job = self.store.get(job_id)
            return job if until(job) else None

        found: Job = wait_until(look, seconds=seconds)
        return found

    def publications(self, job_id: str) -> Counter[bytes]:
        """How often each segment was published, by the job's events."""
        events = self.store.client.xrange(f"dv:events:{job_id}")
        return Counter(fields[b"detail"] for _, fields in events if fields[b"type"] == b"segment")

    def finished_segments(self, job: Job) -> tuple[FinishedSegment, ...]:
        """Those of a completed job."""
        return self.played(job).segments

    def played(self, job: Job) -> SegmentList:
        """What plays of a completed job."""
        assert job.output is not None
        return SegmentList.from_json(self.storage.get_bytes(job.output.segments_key))

    def output(self, job: Job, folder: Path) -> Path:
        """The finished file."""
        assert job.output is not None, job.error
        path = folder / f"{job.id}.mp4"
        path.write_bytes(self.storage.get_bytes(job.output.key))
        return path

    def worker(
        self, *, load: Callable[..., Model] = load_model, **settings: Any
    ) -> AbstractContextManager[WorkerContext]:
        """A worker in this process."""
        own = self.settings.model_copy(update=settings)
        return running_worker(own, load=load, sandbox=self.sandbox, keeper=shared_keeper())

    @contextmanager
    def process(
        self, *command: str, settings: Sequence[tuple[str, str]] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a process of its own, ready to work; killed at the end if it still runs."""
        known = {worker.id for worker in self.fleet.workers()}
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ("cli.main", "worker"))],
            env=self._environment() | dict(settings),
            cwd=ROOT,
        )
        try:
            wait_until(
                lambda: {worker.id for worker in self.fleet.workers()} - known or process.poll() is not None
            )
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def _environment(self) -> dict[str, str]:
        values = self.settings.model_dump(mode="json", exclude_none=True)
        texts = {name: value if isinstance(value, str) else _as_json(value) for name, value in values.items()}
        return os.environ | {f"DOVETAIL_{name.upper()}": text for name, text in texts.items()}


def _as_json(value: Any) -> str:
    import json

    return json.dumps(value)
