"""Interpolation with the pipeline's call: the baseline of comparisons, and a stand-in without weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F

from pipelines.dove.geometry import check_clip
from pipelines.dove.options import DoveOptions, DoveOutput
from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.planning.diffusion import UpscalePlan

InterpolationMethod = Literal["bicubic", "lanczos"]

FRAMES_PER_BATCH = 8
LANCZOS_LOBES = 3


class InterpolationPipeline:
    """Upscales by interpolation; call and stream like `DovePipeline`.

    Args:
        method: `bicubic` (antialiased when shrinking) or `lanczos` with three lobes.

    Raises:
        InvalidOptionError: If there is no such method.
    """

    def __init__(self, method: InterpolationMethod = "bicubic") -> None:
        if method not in ("bicubic", "lanczos"):
            raise InvalidOptionError(f"method must be 'bicubic' or 'lanczos', got {method!r}")
        self.method = method

    def __call__(
        self,
        clip: torch.Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: UpscalePlan | None = None,
        generator: torch.Generator | None = None,
    ) -> DoveOutput:
        """Upscales (F, 3, h, w); see `DovePipeline.__call__`. Options, plan and generator change nothing."""
        frames = torch.cat(list(self.stream(clip, height=height, width=width)))
        return DoveOutput(frames, quantization=options.quantization if options else "round")

    def stream(
        self,
        clip: torch.Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: UpscalePlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[torch.Tensor]:
        """Hands out (f, 3, H, W), float32, [0, 1], a few frames at a time."""
        check_clip(clip)
        if min(height, width) < 1:
            raise UnsupportedSizeError(f"the target size must be positive, got {width}x{height}")
        return self._batches(clip, height, width)

    def _batches(self, clip: torch.Tensor, height: int, width: int) -> Iterator[torch.Tensor]:
        for start in range(0, clip.shape[0], FRAMES_PER_BATCH):
            batch = clip[start : start + FRAMES_PER_BATCH]
            frames = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
            yield self._resize(frames, height, width).clamp(0, 1)

    def _resize(self, frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if self.method == "lanczos":
            return lanczos_resize(frames, height, width)
        return F.interpolate(
            frames, size=(height, width), mode="bicubic", align_corners=False, antialias=True
        )


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
