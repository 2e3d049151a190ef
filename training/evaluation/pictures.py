"""Pictures of methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from training.degradation import to_uint8


def save_side_by_side(panels: Mapping[str, torch.Tensor], path: Path, *, crop: int = 320) -> None:
    """Central crops beside each other, labelled: one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = next(iter(panels.values())).shape[-2:]
    side_y, side_x = min(crop, height), min(crop, width)
    y, x = (height - side_y) // 2, (width - side_x) // 2
    canvas = Image.new("RGB", (side_x * len(panels), side_y + 18), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (name, panel) in enumerate(panels.items()):
        window = panel[:, y : y + side_y, x : x + side_x]
        canvas.paste(Image.fromarray(to_uint8(window[None])[0]), (index * side_x, 18))
        draw.text((index * side_x + 4, 3), name, fill="black")
    canvas.save(path)
