"""A frame before and after, small enough for a page that shows how a job goes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workers.run.decisions import DecidedRun
from workers.run.writing import FinishedFrame

# Long side of the preview pictures: as wide as a page shows them.
PREVIEW_SIDE = 1280


@dataclass(frozen=True, eq=False)
class FramePair:
    """A frame before and after, for people to look at: upright, square pixels, both of one size.

    Attributes:
        number: As in `SourceFrame`.
        pts: In ticks of the video format.
        source: (3, h, w), uint8, interpolated to the result's size.
        result: (3, h, w), uint8. The long side has at most `PREVIEW_SIDE` pixels.
    """

    number: int
    pts: int
    source: Tensor
    result: Tensor

    def images(self) -> tuple[Image.Image, Image.Image]:
        """Source and result as pictures that can be saved."""
        source, result = (
            Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
            for image in (self.source, self.result)
        )
        return source, result


def make_pair(frame: FinishedFrame, decided: DecidedRun) -> FramePair:
    """The pair of a finished frame that carries its source."""
    source = frame.shown_source
    assert source is not None
    height, width = frame.image.shape[-2:]
    shown_width = width * decided.video_format.sample_aspect_ratio
    factor = min(Fraction(1), PREVIEW_SIDE / max(Fraction(height), shown_width))
    size = (max(1, round(height * factor)), max(1, round(shown_width * factor)))
    return FramePair(
        frame.number,
        frame.pts,
        _to_preview(source, size, decided.info.video.rotation),
        _to_preview(frame.shown, size, decided.info.video.rotation),
    )


def make_still_pair(source: Tensor, result: Tensor) -> FramePair:
    """The pair of a still: (3, h, w) and (3, H, W), both upright, [0, 1]."""
    height, width = result.shape[-2:]
    factor = min(Fraction(1), Fraction(PREVIEW_SIDE, max(height, width)))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return FramePair(0, 0, _to_preview(source, size, 0), _to_preview(result, size, 0))


def _to_preview(image: Tensor, size: tuple[int, int], rotation: int) -> Tensor:
    resized = F.interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
    levels = (resized.clamp(0, 1) * 255).round().to(torch.uint8)
    return torch.rot90(levels, round(rotation / 90) % 4, dims=(-2, -1)).contiguous()
