"""Models that misbehave in a known way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pipelines.loaders import load_model
from pipelines.model import Model
from pipelines.planning.kinds import ModelShape
from pipelines.planning.plan import ChunkPlan
from pipelines.planning.shapes import DiffusionShape
from tests.workers.made import StandIn

SHAPE = DiffusionShape("cogvideox", 32, 64, bytes_per_element=4)


class RedisStore(StandIn):
    """Enlarges by repetition, and does something before each chunk that it is given.

    Args:
        before: Gets the number of the chunk, from 1, and the plan.
        name: Of the model.
        shape: For the planner.
    """

    def __init__(self, before: Callable[[int, ChunkPlan], None], name: str, shape: ModelShape | None) -> None:
        super().__init__(name=name, shape=shape)
        self.num_chunks = 0
        self._before = before

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        self.num_chunks += 1
        self._before(self.num_chunks, plan)
        for batch in clip.split(1):
            yield torch.nn.functional.interpolate(batch, size=size)


def scripted(
    before: Callable[[int, ChunkPlan], None], *, shape: ModelShape | None = None
) -> Callable[..., Model]:
    """Loads "bicubic" and the like as they are, and anything else as this."""
    made: dict[str, RedisStore] = {}

    def load(name: str, **options: Any) -> Model:
        if name in ("bicubic", "lanczos", "dovetail-dit-nano") or name.startswith("standin:"):
            return load_model(name, **options)
        return made.setdefault(name, RedisStore(before, name, shape))

    return load


class Door:
    """Holds a model up until it is opened."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, number: int, plan: ChunkPlan) -> None:
        self.reached.set()
        assert self._opened.wait(60)

    def open(self) -> None:
        self._opened.set()


class Memory:
    """Lets only plans pass that are so many steps smaller than the first."""

    def __init__(self, num_steps: int) -> None:
        self.plans: list[ChunkPlan] = []
        self._num_steps = num_steps

    def __call__(self, number: int, plan: ChunkPlan) -> None:
        if plan not in self.plans:
            self.plans.append(plan)
        if self.plans.index(plan) < self._num_steps:
            raise torch.OutOfMemoryError("stand-in for a full GPU")
