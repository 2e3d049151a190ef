"""Before and after, side by side: the source interpolated to the output's size on the left, the result on
the right."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from media.derived_names import beside


@dataclass(frozen=True)
class ViewAxes:
    """How players turn a stored picture, by whole quarter turns and mirrors.

    Attributes:
        is_transposed: Whether what is shown from left to right is stored from top to bottom.
        flips_x: Whether it is stored the other way round.
        flips_y: Whether what is shown from top to bottom is.
    """

    is_transposed: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @classmethod
    def of(cls, display_matrix: bytes | None) -> ViewAxes:
        """The nearest ones to a display matrix as FFmpeg stores it: int32 a b u, c d v, x y w, by which
        x' = a x + c y and y' = b x + d y."""
        if display_matrix is None:
            return cls()
        a, b, _, c, d = struct.unpack("=5i", display_matrix[:20])
        is_transposed = abs(c) > abs(a)
        x, y = (c, b) if is_transposed else (a, d)
        return cls(is_transposed, flips_x=x < 0, flips_y=y < 0)

    def show(self, stored: Tensor) -> Tensor:
        """(..., h, w) as viewers see it."""
        shown = stored.transpose(-2, -1) if self.is_transposed else stored
        flipped = [axis for axis, flips in ((-1, self.flips_x), (-2, self.flips_y)) if flips]
        return shown.flip(flipped) if flipped else shown


def side_by_side(source: Tensor, result: Tensor, axes: ViewAxes | None = None) -> Tensor:
    """Joins two pictures so that viewers see the source on the left.

    Args:
        source: (3, h, w), float32, [0, 1].
        result: (3, H, W), float32, [0, 1].
        axes: How players will turn what is returned; None: not at all.

    Returns:
        (3, H, 2 W); (3, 2 H, W) where players turn it on its side.
    """
    axes = axes or ViewAxes()
    height, width = result.shape[-2:]
    before = F.interpolate(
        source[None], size=(height, width), mode="bicubic", align_corners=False, antialias=True
    )[0].clamp(0, 1)
    halves = (result, before) if axes.flips_x else (before, result)
    return torch.cat(halves, dim=-2 if axes.is_transposed else -1)


def save_png(image: Tensor, path: Path) -> None:
    """Writes (3, H, W) in [0, 1] as an 8-bit PNG, all or nothing.

    Raises:
        OSError: If it cannot be written.
    """
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    part = beside(path, ".part")
    try:
        Image.fromarray(levels.numpy()).save(part, format="PNG")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
