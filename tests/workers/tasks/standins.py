"""Models that misbehave in a known way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pipelines.errors import OutOfMemoryError
from pipelines.planning.diffusion import UpscalePlan
from pipelines.planning.shapes import DiffusionShape
from workers.models import Model, load_model

SHAPE = DiffusionShape("space_to_depth", 32, 64, spatial_ratio=8, is_windowed=True, bytes_per_element=4)


class Scripted:
    """Enlarges by repetition, and does something before each clip that it is given.

    Args:
        before: Gets the number of the clip, from 1, and the plan.
    """

    def __init__(self, before: Callable[[int, UpscalePlan | None], None]) -> None:
        self.num_clips = 0
        self._before = before

    def stream(
        self, clip: Tensor, *, height: int, width: int, plan: UpscalePlan | None = None, **_: Any
    ) -> Iterator[Tensor]:
        self.num_clips += 1
        self._before(self.num_clips, plan)
        for batch in clip.split(1):
            yield torch.nn.functional.interpolate(batch, size=(height, width))


def scripted(
    before: Callable[[int, UpscalePlan | None], None], *, shape: DiffusionShape | None = None
) -> Callable[..., Model]:
    """Loads "bicubic" and the like as they are, and anything else as this."""
    pipeline = Scripted(before)

    def load(name: str, **options: Any) -> Model:
        if name in ("bicubic", "lanczos", "dovetail-nano") or name.startswith("standin:"):
            return load_model(name, **options)
        return Model(name, pipeline, torch.device("cpu"), torch.float32, 2, fingerprint=name, shape=shape)

    return load


class Door:
    """Holds a model up until it is opened."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, number: int, plan: UpscalePlan | None) -> None:
        self.reached.set()
        assert self._opened.wait(60)

    def open(self) -> None:
        self._opened.set()


class Memory:
    """Lets only plans pass that are so many steps smaller than the first."""

    def __init__(self, num_steps: int) -> None:
        self.plans: list[UpscalePlan] = []
        self._num_steps = num_steps

    def __call__(self, number: int, plan: UpscalePlan | None) -> None:
        assert plan is not None
        if plan not in self.plans:
            self.plans.append(plan)
        if self.plans.index(plan) < self._num_steps:
            raise OutOfMemoryError("stand-in for a full GPU")
