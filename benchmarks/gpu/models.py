"""Models of the real size right on the device, and what one clip through them takes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.kit import Kit, rounded
from benchmarks.real_size.layout import Layout
from benchmarks.real_size.weights import DESCRIPTION, make_checkpoint
from pipelines.dove import components
from pipelines.dove.model import DoveModel
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.execution import MemoryRetry, restore_chunk
from pipelines.memory_tracking import peak_memory
from pipelines.model import ModelCard
from pipelines.planning.plan import ChunkPlan
from workers.run.timing import StageClock

TINY = Layout(num_layers=2, num_heads=2, vae_channels=8, vae_layers=1, text_length=16, text_dim=32)


@dataclass(frozen=True)
class Clip:
    """A clip and the size it is brought to, four times larger.

    Attributes:
        height: Of the result.
        width: Of the result.
        num_frames: Of both.
    """

    height: int
    width: int
    num_frames: int = 33

    @property
    def source(self) -> tuple[int, int]:
        return self.height // 4, self.width // 4

    def frames(self) -> Tensor:
        """(F, 3, h, w), uint8, on the CPU: noise, which costs what any picture costs."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(256, (self.num_frames, 3, *self.source), generator=generator, dtype=torch.uint8)


def load_random(kit: Kit, *, options: DoveOptions | None = None, **loading: Any) -> DoveModel:
    """A model in CogVideoX1.5-5B's layout with random weights, without a folder.

    Args:
        kit: Device and size.
        options: Of every call.
        **loading: As for `DovePipeline.from_checkpoint`.
    """
    layout = TINY if kit.is_tiny else Layout()
    dtype = torch.float32 if kit.device.type == "cpu" else torch.bfloat16

    def load(*_: Any, **__: Any) -> Any:
        return make_checkpoint(layout, kit.device, dtype=dtype)

    with mock.patch.object(components, "load_checkpoint", load):
        pipeline = DovePipeline.from_checkpoint("random", device=kit.device, dtype=dtype, **loading)
    card = ModelCard(name=DESCRIPTION["name"], kind="diffusion", scale=4)
    return DoveModel(pipeline, card, device=kit.device, dtype=dtype, options=options)


def release(device: torch.device) -> None:
    """Gives the memory of models that nobody holds back to the device."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def to_host(frames: Tensor) -> Tensor:
    """Frames in float32, copied when they are finished: what narrower transfers are compared with."""
    return frames.to(device="cpu", dtype=torch.float32)


def measure(
    model: DoveModel,
    clip: Clip,
    plan: ChunkPlan,
    *,
    has_warm_up: bool = True,
    deliver: Callable[[Tensor], Tensor] = to_host,
) -> tuple[dict[str, Any], Tensor]:
    """Runs one chunk from frames on the host to frames on the host.

    Args:
        model: The model.
        clip: One chunk.
        plan: Its tiles.
        has_warm_up: Whether a first run, which also compiles and chooses kernels, is not counted; it is told
            as `first_seconds`.
        deliver: Brings finished frames to the host.

    Returns:
        What it took, and the frames.
    """
    values: dict[str, Any] = {}
    if has_warm_up:
        _, values["first_seconds"], _ = _run(model, clip, plan, deliver, StageClock())
    retries: list[MemoryRetry] = []
    clock = StageClock(synchronize=model.device)
    with peak_memory(model.device) as peak, model.timed(clock):
        frames, seconds, retries = _run(model, clip, plan, deliver, clock)
    parts: dict[str, float] = {name: rounded(value) for name, value in clock.seconds.items()}
    parts["rest"] = rounded(max(seconds - sum(clock.seconds.values()), 0))
    values |= {
        "plan": plan.describe(),
        "seconds": rounded(seconds),
        "part_seconds": parts,
        "frames_per_second": rounded(clip.num_frames / seconds),
        "estimated_bytes": plan.estimated_bytes,
        "peak_bytes": peak.num_bytes,
        "retries": [str(retry) for retry in retries],
        "is_finite": bool(frames.isfinite().all()),
    }
    return values, frames


@torch.no_grad()
def _run(
    model: DoveModel, clip: Clip, plan: ChunkPlan, deliver: Callable[[Tensor], Tensor], clock: StageClock
) -> tuple[Tensor, float, list[MemoryRetry]]:
    frames, retries, size = clip.frames(), list[MemoryRetry](), (clip.height, clip.width)
    generator = torch.Generator(device=model.device).manual_seed(0)
    start = clock.now()
    batches = restore_chunk(
        model, frames.to(model.device), size, plan, generator=generator, on_retry=retries.append
    )
    delivered = [deliver(batch) for batch in batches]
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)  # copies may still be under way
    return torch.cat(delivered), rounded(time.perf_counter() - start), retries
