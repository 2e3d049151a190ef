"""Seconds per stage of a run, over all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

TimedStage = Literal["read", "encode", "transformer", "decode", "model", "write", "join"]


class StageClock:
    """Adds up the time that stages take.

    Stages run at the same time in several threads, so their sum may exceed the time that passed.

    Args:
        synchronize: A GPU to wait for at both ends of each stage, which makes the whole slower. Without it,
            parts of a model there cannot be timed: what passes between them is the launching of work. (The
            model as a whole can: its frames are copied to the host.) A CPU needs none.
    """

    def __init__(self, *, synchronize: torch.device | None = None) -> None:
        self._device = synchronize if synchronize is not None and synchronize.type == "cuda" else None
        self._seconds: dict[TimedStage, float] = {}
        self._lock = threading.Lock()

    def can_time_parts_on(self, device: torch.device) -> bool:
        """Whether what it would count for a model's parts there is the time that they take."""
        return device.type == "cpu" or self._device == device

    @property
    def seconds(self) -> dict[TimedStage, float]:
        """What each stage took so far."""
        with self._lock:
            return dict(self._seconds)

    @contextmanager
    def measure(self, stage: TimedStage) -> Iterator[None]:
        """Counts the time of a `with` block."""
        start = self.now()
        try:
            yield
        finally:
            self.add(stage, self.now() - start)

    def iterate(self, stage: TimedStage, items: Iterator[Any]) -> Iterator[Any]:
        """Passes items on, counting only the time that it takes to make them."""
        while True:
            with self.measure(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def add(self, stage: TimedStage, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def now(self) -> float:
        """Seconds of a clock that only runs forward."""
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
