"""Tells the fleet's register that this worker lives, what it does and what memory it takes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psutil
import redis
import structlog
import torch

from jobs.errors import StoreUnavailableError
from jobs.fleet import Fleet, WorkerInfo
from jobs.queue import TaskId, TaskKind
from workers.tasks.stopping import StopSignal

_log: Any = structlog.get_logger(__name__)

REPORT_SECONDS = 5.0


class FleetReporter:
    """Reports every few seconds in a `with` block, from a thread of its own, and signs off at its end.

    Args:
        fleet: The register, through a client that gives up soon.
        worker_id: Name in the register.
        device: Of the worker's models.
        only: Kinds of tasks that it takes.
        models: Their names.
        stopping: Whether it drains.
        task: What runs now.
    """

    def __init__(
        self,
        fleet: Fleet,
        worker_id: str,
        device: torch.device,
        *,
        only: tuple[TaskKind, ...],
        models: tuple[str, ...],
        stopping: StopSignal,
        task: Callable[[], TaskId | None],
    ) -> None:
        self._fleet, self._worker_id, self._device = fleet, worker_id, device
        self._only, self._models, self._stopping, self._task = only, models, stopping, task
        self._host, self._process = socket.gethostname(), psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dovetail-fleet", daemon=True)

    def describe(self) -> WorkerInfo:
        """This worker as it is now."""
        task = self._task()
        used = total = 0
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            used = total - free
        return WorkerInfo(
            id=self._worker_id,
            host=self._host,
            pid=os.getpid(),
            device=self._device_name(),
            only=self._only,
            models=self._models,
            task="" if task is None else f"{task.job_id}:{task.task}",
            is_draining=self._stopping.is_draining,
            gpu_memory_used_bytes=used,
            gpu_memory_total_bytes=total,
            host_memory_bytes=self._process.memory_info().rss,
        )

    def __enter__(self) -> Self:
        self._report()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.drain()
        self._ended.set()
        self._thread.join()
        try:
            self._fleet.sign_off(self._worker_id)
        except (StoreUnavailableError, redis.RedisError) as error:
            _log.warning("fleet.not_signed_off", error=str(error))

    def _run(self) -> None:
        while not self._ended.is_set():
            if self._stopping.is_draining:
                self._ended.wait(REPORT_SECONDS)
            else:
                self._stopping.wait(REPORT_SECONDS)  # that it drains is told at once
            self._report()

    def _report(self) -> None:
        try:
            self._fleet.report(self.describe())
        except Exception as error:  # also a driver that does not tell its memory: the next report may work
            _log.warning("fleet.not_reported", error=repr(error))

    def _device_name(self) -> str:
        if self._device.type != "cuda":
            return str(self._device)
        return f"{self._device} {torch.cuda.get_device_name(self._device)}"
