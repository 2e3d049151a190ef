"""Small models on a device, and what they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from pipelines.clips import restore_clip
from pipelines.dove.model import DoveModel, load_dove
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano

BACKENDS: tuple[str, ...] = get_args(get_type_hints(DovePipeline.set_attention_backend)["backend"])
WHOLE = DiffusionPlan()
# bfloat16 has 8 bits: on tiny networks it is 0.006 to 0.01 off float32, single pixels by 0.16; one kernel is
# 0.005 off another. A wrong kernel is off by more than 0.1.
MAX_HALF_RMS = 0.03


def save(folder: Path, pattern: str) -> Path:
    """A tiny checkpoint with full or window attention."""
    return save_nano(folder) if pattern == "window" else save_checkpoint(folder)


def load(
    folder: Path, device: torch.device, *, dtype: torch.dtype = torch.float32, **loading: Any
) -> DoveModel:
    return load_dove(folder, device=device, dtype=dtype, **loading)


def frames_of(model: DoveModel, *, num_frames: int = 9, side: int = 16) -> torch.Tensor:
    """(F, 3, 4 * side, 4 * side) of a clip that is always the same, untiled."""
    return restore_clip(model, make_clip(num_frames, side, side), (4 * side, 4 * side), plan=WHOLE)


def assert_close_in_half(frames: torch.Tensor, expected: torch.Tensor) -> None:
    """Whether frames differ by no more than half precision explains."""
    assert frames.isfinite().all()
    assert float((frames - expected).square().mean().sqrt()) < MAX_HALF_RMS


def roomy_plan(
    model: DoveModel, *, num_frames: int, side: int, chunk: int, tile: int | None = None
) -> DiffusionPlan:
    """The plan of a machine with more memory than there is."""
    request = ChunkRequest(
        num_frames=num_frames,
        height=side,
        width=side,
        out_height=4 * side,
        out_width=4 * side,
        memory_bytes=2**50,
        chunk=chunk,
        tile=tile,
        overlap=32,
    )
    return plan_diffusion(model.pipeline.model_shape, request)
