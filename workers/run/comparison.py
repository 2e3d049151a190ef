"""Before and after, side by side: the source interpolated to the output's size on the left, the result on
the right."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def side_by_side(source: Tensor, result: Tensor, *, rotation: int = 0) -> Tensor:
    """Joins two pictures.

    Args:
        source: (3, h, w), float32, [0, 1].
        result: (3, H, W), float32, [0, 1].
        rotation: Counter-clockwise degrees by which each half is turned, a multiple of 90.

    Returns:
        (3, H, 2 W), or (3, W, 2 H) when turned on its side.
    """
    height, width = result.shape[-2:]
    before = F.interpolate(
        source[None], size=(height, width), mode="bicubic", align_corners=False, antialias=True
    )[0].clamp(0, 1)
    quarter_turns = round(rotation / 90) % 4
    return torch.cat([torch.rot90(half, quarter_turns, dims=(-2, -1)) for half in (before, result)], dim=-1)


def save_png(image: Tensor, path: Path) -> None:
    """Writes (3, H, W) in [0, 1] as an 8-bit PNG, all or nothing.

    Raises:
        OSError: If it cannot be written.
    """
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    part = path.with_name(path.name + ".part")
    try:
        Image.fromarray(levels.numpy()).save(part, format="PNG")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
