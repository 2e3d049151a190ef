"""Seconds per stage of a run, over all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Stage = Literal["read", "encode", "transformer", "decode", "model", "write", "join"]


class StageClock:
    """Adds up the time that stages take.

    Stages run at the same time in several threads, so their sum may exceed the time that passed.

    Args:
        synchronize: Waits for the GPU at both ends of each stage. Without it, times of a GPU's stages are
            those of launching work; with it, they are true and the whole is slower.
    """

    def __init__(self, *, synchronize: bool = False) -> None:
        self._synchronize = synchronize and torch.cuda.is_available()
        self._seconds: dict[Stage, float] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> dict[Stage, float]:
        """What each stage took so far."""
        with self._lock:
            return dict(self._seconds)

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Counts the time of a `with` block."""
        start = self.now()
        try:
            yield
        finally:
            self.add(stage, self.now() - start)

    def iterate(self, stage: Stage, items: Iterator[Any]) -> Iterator[Any]:
        """Passes items on, counting only the time that it takes to make them."""
        while True:
            with self.measure(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def add(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def now(self) -> float:
        """Seconds of a clock that only runs forward."""
        if self._synchronize:
            torch.cuda.synchronize()
        return time.perf_counter()


class _TimedCodec:
    """A pipeline's codec that tells a clock how long it takes."""

    def __init__(self, codec: Any, clock: StageClock) -> None:
        self._codec, self._clock = codec, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock.measure("encode"):
            return self._codec.encode(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        return self._clock.iterate("decode", iter(self._codec.decode(*args, **kwargs)))


@contextmanager
def watch_pipeline(pipeline: Any, clock: StageClock) -> Iterator[None]:
    """Times encoder, transformer and decoder of a `DovePipeline` in a `with` block; other pipelines pass."""
    restorer = getattr(pipeline, "restorer", None)
    if restorer is None:
        yield
        return
    started: list[float] = []
    handles = [
        restorer.transformer.register_forward_pre_hook(lambda *_: started.append(clock.now())),
        restorer.transformer.register_forward_hook(
            lambda *_: clock.add("transformer", clock.now() - started.pop())
        ),
    ]
    codec = restorer.codec
    restorer.codec = _TimedCodec(codec, clock)
    try:
        yield
    finally:
        restorer.codec = codec
        for handle in handles:
            handle.remove()
