"""Which workers are alive and what they can do, in Redis: written by workers, read by the API."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs import keys
from jobs.clock import LUA_NOW_MS
from jobs.queue import TASK_KINDS, TaskKind
from jobs.redis_store import RedisStore

_ALIVE = timedelta(seconds=20)
"""A worker reports every few seconds, also while it works."""
_SPEED_FADING = 0.9
# ARGV: id, what it says of itself as a JSON object, to which the time is added.
_REPORT = keys.with_keys(
    LUA_NOW_MS
    + """
local open = string.sub(ARGV[2], 1, -2)
redis.call('HSET', key_workers(), ARGV[1], string.format('%s,"reported_at":%.3f}', open, now_ms() / 1000))
"""
)
# ARGV: id, what was read of it. It may have reported meanwhile.
_FORGET = keys.with_keys("""
if redis.call('HGET', key_workers(), ARGV[1]) == ARGV[2] then redis.call('HDEL', key_workers(), ARGV[1]) end
""")


class ModelInfo(BaseModel):
    """A model that jobs may name.

    Attributes:
        name: What jobs call it.
        kind: "diffusion", "per_frame", "propagation", "interpolation" or "standin"; "unknown" where no worker
            has loaded it yet and it has no description here.
        scale: Factor when a job gives none.
        licence: SPDX identifier or a sentence.
        source: Where it comes from.
        is_default: Taken by jobs that name none.
        is_listed: Whether customers are told of it.
        is_measured: Whether a worker has loaded it, and `shape` and `memory_bytes` are known.
        shape: What the planner needs to know of it, as JSON; by default that of a model without a network.
        device: "cuda" or "cpu".
        memory_bytes: Free memory of the device when the worker started.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    name: str
    kind: Literal["diffusion", "per_frame", "propagation", "interpolation", "standin", "unknown"]
    scale: int
    licence: str = ""
    source: str = ""
    is_default: bool = False
    is_listed: bool = True
    is_measured: bool = True
    shape: dict[str, Any] = {"kind": "frames"}
    device: str = "cpu"
    memory_bytes: int = 0


class WorkerInfo(BaseModel):
    """A worker as it reported last.

    Attributes:
        id: Host name, process and a random part.
        host: Host name.
        pid: Process.
        device: "cuda:0 NVIDIA H200" or "cpu".
        only: Kinds of tasks that it takes.
        models: Names of those that it has.
        task: "job_...:segment:7" while it works, else "".
        is_draining: Whether it will take no more.
        gpu_memory_used_bytes: Of its device.
        gpu_memory_total_bytes: Of its device; 0 without one.
        host_memory_bytes: Resident memory of the process.
        reported_at: Unix time in seconds, by the clock of Redis; `Fleet.report` sets it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    host: str
    pid: int
    device: str = "cpu"
    only: tuple[TaskKind, ...] = TASK_KINDS
    models: tuple[str, ...] = ()
    task: str = ""
    is_draining: bool = False
    gpu_memory_used_bytes: int = 0
    gpu_memory_total_bytes: int = 0
    host_memory_bytes: int = 0
    reported_at: float = 0.0


def count_takers(workers: Iterable[WorkerInfo]) -> Counter[TaskKind]:
    """How many of these workers take each kind of tasks, and will take more."""
    return Counter(kind for worker in workers if not worker.is_draining for kind in set(worker.only))


class Fleet(RedisStore):
    """Reads and writes the register of workers and models."""

    def report(self, worker: WorkerInfo) -> None:
        """Says that a worker is alive."""
        self._run(_REPORT, worker.id, worker.model_dump_json(exclude={"reported_at"}))

    def sign_off(self, worker_id: str) -> None:
        """Says that a worker stops."""
        self.client.hdel(keys.WORKERS(), worker_id)

    def workers(self) -> list[WorkerInfo]:
        """All that are alive; forgets the others."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.WORKERS())
            pipeline.time()
            found, (seconds, micros) = pipeline.execute()
        oldest = seconds + micros / 1e6 - _ALIVE.total_seconds()
        alive = []
        for key, content in found.items():
            worker = WorkerInfo.model_validate_json(content)
            if worker.reported_at >= oldest:
                alive.append(worker)
            else:
                self._run(_FORGET, key, content)
        return alive

    def offer(self, models: list[ModelInfo]) -> None:
        """Adds or renews models in the catalogue. They stay in it while no worker is there."""
        if models:
            self.client.hset(keys.MODELS(), mapping={model.name: model.model_dump_json() for model in models})

    def models(self) -> list[ModelInfo]:
        """The catalogue, the default first. Entries of workers of another version are not understood; theirs
        come again with the next worker's start."""
        found = []
        for content in self.client.hvals(keys.MODELS()):
            with contextlib.suppress(ValidationError):
                found.append(ModelInfo.model_validate_json(content))
        return sorted(found, key=lambda model: (not model.is_default, model.name))

    def count_segment(
        self,
        model: str,
        *,
        output_pixels: int,
        num_frames: int,
        seconds: float,
        stages: dict[str, float],
    ) -> None:
        """Adds a finished segment to what estimates and metrics are made of."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.SPEED_MEGAPIXELS(), model)
            pipeline.hmget(keys.SPEED_SECONDS(), model)
            (megapixels,), (took,) = pipeline.execute()
        with self.client.pipeline(transaction=False) as pipeline:
            # Sums that fade: a small segment, which is mostly overhead, counts little beside a large one.
            pipeline.hset(
                keys.SPEED_MEGAPIXELS(), model, _SPEED_FADING * float(megapixels or 0) + output_pixels / 1e6
            )
            pipeline.hset(keys.SPEED_SECONDS(), model, _SPEED_FADING * float(took or 0) + seconds)
            pipeline.hincrbyfloat(keys.TOTALS(), "output_megapixels", output_pixels / 1e6)
            pipeline.hincrby(keys.TOTALS(), "frames", num_frames)
            pipeline.hincrby(keys.TOTALS(), "segments", 1)
            for stage, value in stages.items():
                pipeline.hincrbyfloat(keys.STAGE_SECONDS(), stage, value)
                pipeline.hincrby(keys.STAGE_COUNTS(), stage, 1)
            pipeline.execute()

    def speeds(self) -> dict[str, float]:
        """Output megapixels per second of one worker, by model, as measured lately."""
        seconds = self.client.hgetall(keys.SPEED_SECONDS())
        return {
            name.decode(): float(megapixels) / max(float(seconds.get(name, 0)), 1e-6)
            for name, megapixels in self.client.hgetall(keys.SPEED_MEGAPIXELS()).items()
        }

    def totals(self) -> dict[str, float]:
        """Sums since the beginning: output_megapixels, frames, segments."""
        return {name.decode(): float(value) for name, value in self.client.hgetall(keys.TOTALS()).items()}

    def stage_seconds(self) -> dict[str, tuple[float, int]]:
        """Seconds and segments by stage since the beginning."""
        seconds = self.client.hgetall(keys.STAGE_SECONDS())
        counts = self.client.hgetall(keys.STAGE_COUNTS())
        return {name.decode(): (float(value), int(counts.get(name, 0))) for name, value in seconds.items()}
