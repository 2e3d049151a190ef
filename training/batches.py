"""Batches of a block: crops of its samples, and beside them, for the view of tiles, the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F

from training.config import StageConfig
from training.data import Block


@dataclass(frozen=True)
class WholeSamples:
    """What crops are of, as a frame is of tiles.

    Attributes:
        lq: (B, 3, F, s, s), float32, [-1, 1].
        origins: (B, 2), row and column of each crop, LR pixels.
    """

    lq: torch.Tensor
    origins: torch.Tensor


@dataclass(frozen=True)
class CropBatch:
    """Crops to train on.

    Attributes:
        hr: (B, 3, F, H, W), float32, [-1, 1].
        lq: (B, 3, F, h, w), the same.
        whole: What they are crops of; None where they are to be taken for whole frames.
    """

    hr: torch.Tensor
    lq: torch.Tensor
    whole: WholeSamples | None = None

    def to(self, device: torch.device) -> CropBatch:
        """The same on a device."""
        whole = self.whole and replace(self.whole, lq=self.whole.lq.to(device))
        return CropBatch(self.hr.to(device), self.lq.to(device), whole)


@dataclass(frozen=True)
class _Crop:
    """A crop of a block's sample.

    Attributes:
        index: Of the sample.
        first: First frame.
        origin: Row and column, LR pixels.
        is_clean: Whether the bicubic LR of the HR takes the degraded one's place.
        flips: Whether it is mirrored left to right, then upside down, then turned.
    """

    index: int
    first: int
    origin: tuple[int, int]
    is_clean: bool
    flips: tuple[bool, bool, bool]

    @classmethod
    def draw(cls, block: Block, stage: StageConfig, rng: np.random.Generator) -> Self:
        index = int(rng.integers(len(block.hr)))
        first = int(rng.integers(block.hr.shape[1] - stage.num_frames + 1))
        y, x = (int(rng.integers(side - stage.lq_size + 1)) for side in block.lq.shape[-2:])
        is_clean = bool(rng.random() < stage.clean_probability)
        mirrored, upside_down, turned = (bool(rng.random() < 0.5) for _ in range(3))
        return cls(index, first, (y, x), is_clean, (mirrored, upside_down, turned))

    def cut(self, block: Block, stage: StageConfig, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
        """HR (F, 3, H, W) and LR (F, 3, h, w), [0, 255]."""
        return self._window(block, stage, scale, self.origin, stage.lq_size)

    def whole(self, block: Block, stage: StageConfig, scale: int) -> tuple[torch.Tensor, tuple[int, int]]:
        """LR (F, 3, s, s), [0, 255], of the sample that it is cut from, and its place there."""
        side = block.lq.shape[-1]
        _, lq = self._window(block, stage, scale, (0, 0), side)
        mirrored, upside_down, turned = self.flips
        y, x = self.origin
        y = side - stage.lq_size - y if upside_down else y
        x = side - stage.lq_size - x if mirrored else x
        return lq, (x, y) if turned else (y, x)

    def _window(
        self, block: Block, stage: StageConfig, scale: int, origin: tuple[int, int], side: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames = slice(self.first, self.first + stage.num_frames)
        rows, cols = (slice(start, start + side) for start in origin)
        hr_rows, hr_cols = (slice(part.start * scale, part.stop * scale) for part in (rows, cols))
        hr = torch.from_numpy(block.hr[self.index, frames, :, hr_rows, hr_cols]).float()
        if self.is_clean:
            lq = F.interpolate(
                hr, scale_factor=1 / scale, mode="bicubic", align_corners=False, antialias=True
            )
            lq = lq.round().clamp(0, 255)
        else:
            lq = torch.from_numpy(block.lq[self.index, frames, :, rows, cols]).float()
        mirrored, upside_down, turned = self.flips
        if mirrored:
            hr, lq = hr.flip(-1), lq.flip(-1)
        if upside_down:
            hr, lq = hr.flip(-2), lq.flip(-2)
        if turned:
            hr, lq = hr.transpose(-1, -2), lq.transpose(-1, -2)
        return hr, lq


def draw_batch(block: Block, stage: StageConfig, scale: int, rng: np.random.Generator) -> CropBatch:
    """Fresh crops, frame ranges and flips of random samples of a block.

    A share of `stage.clean_probability` gets the bicubic LR of its HR crop in place of the degraded one. A
    share `stage.view_probability` of batches has the whole samples beside the crops.
    """
    crops = [_Crop.draw(block, stage, rng) for _ in range(stage.batch_size)]
    hr, lq = zip(*(crop.cut(block, stage, scale) for crop in crops), strict=True)
    batch = CropBatch(_stacked(hr), _stacked(lq))
    if rng.random() >= stage.view_probability:
        return batch
    samples, origins = zip(*(crop.whole(block, stage, scale) for crop in crops), strict=True)
    return replace(batch, whole=WholeSamples(_stacked(samples), torch.tensor(origins)))


def _stacked(clips: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Clips (F, 3, h, w), [0, 255], to (B, 3, F, h, w), [-1, 1]."""
    return (torch.stack(clips) / 127.5 - 1).transpose(1, 2).contiguous()
