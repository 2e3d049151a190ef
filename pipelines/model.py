"""The seam between models and those who use them.

Whatever restores frames (a diffusion pipeline, a per-frame network, interpolation) is a `Model`: the
runner, the worker, the command line, the estimate and the catalogue know nothing else of it. Options of a
kind are bound when a model is loaded (`pipelines.loaders`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from pipelines.chunks import Chunk, clip_chunks
from pipelines.devices import available_memory
from pipelines.planning.kinds import ModelShape, plan_chunks
from pipelines.planning.plan import ChunkPlan, ChunkRequest, NetworkPart
from pipelines.tiling import Blend

ModelKind = Literal["diffusion", "per_frame", "propagation", "interpolation", "standin"]
TimedPart = Literal["encode", "transformer", "decode"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is said of a model.

    Attributes:
        name: What the user called it.
        kind: What it is.
        scale: Factor when the user gives none.
        native_scales: Factors it reaches without resampling; () for any.
        licence: SPDX identifier, a sentence, or "" where nobody says.
        source: Where it comes from.
        fingerprint: Changes when weights, description or bound options change; "" for models without any.
        notes: What its user should know of frames in tiles, as sentences.
    """

    name: str
    kind: ModelKind
    scale: int
    native_scales: tuple[int, ...] = ()
    licence: str = ""
    source: str = ""
    fingerprint: str = ""
    notes: tuple[str, ...] = ()


class PartClock(Protocol):
    """Adds up the time that parts of a model take."""

    def now(self) -> float:
        """Seconds of a clock that only runs forward."""
        ...

    def add(self, stage: TimedPart, seconds: float) -> None:
        """Counts time of a part."""
        ...

    def measure(self, stage: TimedPart) -> AbstractContextManager[None]:
        """Counts the time of a `with` block."""
        ...

    def iterate(self, stage: TimedPart, items: Iterator[Tensor]) -> Iterator[Tensor]:
        """Passes items on, counting only the time that it takes to make them."""
        ...


@dataclass(eq=False)
class Model(ABC):
    """A model that is ready to run.

    Attributes:
        card: What is said of it.
        shape: For the planner.
        device: Where it runs.
        dtype: Dtype of weights and activations.
        replaced_plans: Plans that ran out of memory, and what ran instead: the next chunk begins with that.
        findings: What the model found in the chunk it began last, for reports: numbers by name; {} for models
            that look for nothing.
    """

    card: ModelCard
    shape: ModelShape
    device: torch.device
    dtype: torch.dtype
    replaced_plans: dict[ChunkPlan, ChunkPlan] = field(default_factory=dict, init=False, repr=False)
    findings: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def part(self) -> NetworkPart:
        """What is running, or was when an error rose; tells a retry what to make smaller."""
        return "network"

    def identity(self) -> dict[str, str]:
        """What must be the same for two runs to give the same frames."""
        return {
            "model": self.card.fingerprint or self.name,
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def plan(
        self,
        *,
        num_frames: int,
        size: tuple[int, int],
        out_size: tuple[int, int],
        reserved_bytes: int = 0,
        tile: int | None = None,
        overlap: int | None = None,
        chunk: int | None = None,
        chunk_overlap: int | None = None,
    ) -> ChunkPlan:
        """Chooses chunks and tiles for the memory that is free now.

        Args:
            num_frames: Frames to come.
            size: (height, width) of the source.
            out_size: (height, width) of the output.
            reserved_bytes: Host memory that others will take.
            tile: As in `ChunkRequest`, like the others.
            overlap: Of tiles, in pixels.
            chunk: In frames.
            chunk_overlap: In frames.

        Raises:
            InvalidOptionError: If sizes contradict one another.
            OutOfMemoryError: If the smallest plan does not fit.
        """
        memory = self.free_memory()
        if self.device.type == "cpu":
            memory = max(memory - reserved_bytes, 0)
        request = ChunkRequest(
            num_frames=num_frames,
            height=size[0],
            width=size[1],
            out_height=out_size[0],
            out_width=out_size[1],
            memory_bytes=memory,
            tile=tile,
            overlap=overlap,
            chunk=chunk,
            chunk_overlap=chunk_overlap,
        )
        return plan_chunks(self.shape, request)

    @property
    def blend(self) -> Blend:
        """How frames that chunks of a whole clip share are joined."""
        return "fade"

    def chunks(self, num_frames: int, plan: ChunkPlan) -> list[Chunk]:
        """The chunks of a clip that is known as a whole; frames past its end stand for its last one."""
        return clip_chunks(num_frames, plan.chunk_len, plan.chunk_overlap)

    def check_size(self, size: tuple[int, int], out_size: tuple[int, int]) -> None:  # noqa: B027 (most can do any size)
        """Finds out before any work whether a size can be done.

        Args:
            size: (height, width) of the source.
            out_size: (height, width) of the output.

        Raises:
            UnsupportedSizeError: If it cannot.
        """

    def free_memory(self) -> int:
        """Bytes that activations may take on the device now."""
        return available_memory(self.device)

    @abstractmethod
    def restore(
        self,
        clip: Tensor,
        size: tuple[int, int],
        plan: ChunkPlan,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Restores one chunk. Use `pipelines.execution.restore_chunk`, which goes on where memory ends.

        Args:
            clip: (F, 3, h, w), R'G'B' code values, float with [0, 1] or uint8, on any device.
            size: (H, W) of the result.
            plan: From `plan`, or a smaller one.
            generator: Source of noise on the model's device; None is torch's global one.

        Yields:
            (f, 3, H, W), float32, [0, 1], F frames in all, in order, as soon as they are final.

        Raises:
            UnsupportedSizeError: If a size cannot be processed.
            InvalidOptionError: If the clip is not as described, or the plan is another kind of model's.
            RuntimeError: If memory ends (`pipelines.errors.is_out_of_memory`), with `part` telling where.
        """

    def timed(self, clock: PartClock) -> AbstractContextManager[None]:
        """Tells a clock the time of the model's parts in a `with` block; models of one part tell nothing."""
        return nullcontext()
