"""Interpolation as a model: the baseline of comparisons, and a stand-in without weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.clip_checks import check_chunk, to_float
from pipelines.errors import InvalidOptionError
from pipelines.model import Model, ModelCard
from pipelines.planning.frame_plan import FrameShape
from pipelines.planning.plan import ChunkPlan

InterpolationMethod = Literal["bicubic", "lanczos"]
METHODS: tuple[str, ...] = get_args(InterpolationMethod)
DEFAULT_SCALE = 4
LANCZOS_LOBES = 3


class InterpolationModel(Model):
    """Upscales by interpolation, to any size, frame by frame.

    Args:
        method: `bicubic` (antialiased when shrinking) or `lanczos` with three lobes.
        device: Where it runs.

    Raises:
        InvalidOptionError: If there is no such method.
    """

    def __init__(self, method: str = "bicubic", *, device: torch.device | str = "cpu") -> None:
        if method not in METHODS:
            raise InvalidOptionError(f"method must be 'bicubic' or 'lanczos', got {method!r}")
        card = ModelCard(name=method, kind="interpolation", scale=DEFAULT_SCALE, licence="none needed")
        super().__init__(card, FrameShape(), torch.device(device), torch.float32)

    def restore(
        self,
        clip: Tensor,
        size: tuple[int, int],
        plan: ChunkPlan,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """See `Model.restore`; plan and generator change nothing."""
        check_chunk(clip, size)
        for frame in clip:
            yield self._resize(to_float(frame[None], self.device), size).clamp(0, 1)

    def _resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        if self.name == "lanczos":
            return lanczos_resize(frames, *size)
        return F.interpolate(frames, size=size, mode="bicubic", align_corners=False, antialias=True)


def lanczos_resize(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Separable Lanczos-3 resampling of (F, C, h, w), antialiased; borders use the taps inside the frame.

    Not clamped: Lanczos overshoots at edges.
    """
    rows = _lanczos_matrix(frames.shape[-2], height).to(frames)
    cols = _lanczos_matrix(frames.shape[-1], width).to(frames)
    return rows @ frames @ cols.T


def _lanczos_matrix(size: int, target: int) -> torch.Tensor:
    """(target, size) float64 weights; each row sums to one."""
    scale = size / target
    stretch = max(scale, 1.0)
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) * scale - 0.5
    distance = (torch.arange(size, dtype=torch.float64)[None] - centre[:, None]) / stretch
    weights = torch.sinc(distance) * torch.sinc(distance / LANCZOS_LOBES)
    weights = weights.where(distance.abs() < LANCZOS_LOBES, 0.0)
    return weights / weights.sum(dim=1, keepdim=True)
