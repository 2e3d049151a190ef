"""What was done to a clip (noise, blur, compression), estimated from it, and how the body is told."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.errors import InvalidOptionError

LEVEL_NAMES = ("noise", "blur", "compression")
# Units: standard deviation in 8-bit levels; Gaussian sigma in input pixels, below 0 where a camera or an
# editor has sharpened more than was soft; 0 (none) to 1 (JPEG quality 40, or x264 at crf 32). Divided by
# these, the values of ordinary uploads are about 0 to 1, of sharpened ones -1 to 1.
LEVEL_UNITS = (10.0, 0.5, 1.0)
# What the body is told, in these units: outside of what training saw, the nearest that it saw; of the blur
# only what is below 0, sharpening.
_LEAST, _MOST = (0.0, -1.5, 0.0), (1.5, 0.0, 1.5)


class DegradationEstimator(nn.Module):
    """Levels of noise, blur and compression of a clip, from statistics of small features over all frames.

    Args:
        channels: Width of the first convolution; the second has twice as many.
    """

    units: torch.Tensor

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 5, stride=2)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, stride=2)
        self.hidden = nn.Linear(4 * channels, 2 * channels)
        self.out = nn.Linear(2 * channels, len(LEVEL_NAMES))
        self.register_buffer("units", torch.tensor(LEVEL_UNITS), persistent=False)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """(B, F, 3, h, w) in [0, 1], sides at least 16 -> (B, 3) levels in their units."""
        statistics = self.statistics(clip.flatten(0, 1))
        return self.levels(statistics.reshape(*clip.shape[:2], -1).mean(dim=1))

    def statistics(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) in [0, 1] -> (N, S); their mean over a clip's frames is what `levels` needs."""
        # Every statistic sought is in differences to the neighbourhood, none in brightness.
        detail = 10 * (frames - F.avg_pool2d(frames, 5, stride=1, padding=2, count_include_pad=False))
        features = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(detail), 0.1)), 0.1)
        mean = features.mean(dim=(-2, -1))
        deviation = (features.var(dim=(-2, -1), correction=0) + 1e-6).sqrt()
        return torch.cat([mean, deviation], dim=1)

    def levels(self, statistics: torch.Tensor) -> torch.Tensor:
        """(B, S) -> (B, 3) levels in their units."""
        levels = self.out(F.leaky_relu(self.hidden(statistics), 0.1))
        return cast(torch.Tensor, levels * self.units)


class Modulation(nn.Module):
    """A scale and a shift per channel for each part of the body, from noise, sharpening and compression.

    The last layer starts at zero: scale 1 and shift 0, whatever the levels. The body is not told how soft its
    input is: of crisp pictures too little is estimated, which cost up to 0.45 dB, and each place shows its
    own. That input was sharpened it cannot see as well (decision 0018).

    Args:
        channels: Width of the body.
        num_parts: Parts that are modulated.
    """

    units: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor

    def __init__(self, channels: int, num_parts: int) -> None:
        super().__init__()
        self.shape = (num_parts, 2, channels)
        self.hidden = nn.Linear(len(LEVEL_NAMES), 32)
        self.out = nn.Linear(32, num_parts * 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(torch.Tensor, self.out.bias))
        self.register_buffer("units", torch.tensor(LEVEL_UNITS), persistent=False)
        self.register_buffer("least", torch.tensor(_LEAST), persistent=False)
        self.register_buffer("most", torch.tensor(_MOST), persistent=False)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """(B, 3) -> (B, parts, 2, C): scales, then shifts."""
        told = (levels / self.units).clamp(self.least, self.most)
        hidden = F.leaky_relu(self.hidden(told), 0.1)
        values = self.out(hidden).reshape(-1, *self.shape)
        one = values.new_tensor([1.0, 0.0])[:, None]
        return cast(torch.Tensor, values + one)


def check_strength(strength: float | None) -> None:
    """Refuses strengths outside of [0, 1].

    Raises:
        InvalidOptionError: If it is one.
    """
    if strength is not None and not 0 <= strength <= 1:
        raise InvalidOptionError(f"strength must be from 0 to 1, got {strength}")


def with_strength(levels: torch.Tensor, strength: float | None) -> torch.Tensor:
    """Levels with noise and compression set to a share of the worst in training, if a strength is given."""
    if strength is None:
        return levels
    noise, _, compression = (strength * unit for unit in LEVEL_UNITS)
    fixed = levels.clone()
    fixed[:, 0], fixed[:, 2] = noise, compression
    return fixed
