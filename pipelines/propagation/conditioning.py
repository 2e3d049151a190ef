"""What was done to a clip (noise, blur, compression), estimated from it, and how the body is told."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.errors import InvalidOptionError
from pipelines.propagation.motion import box_mean

LEVEL_NAMES = ("noise", "blur", "compression")
# Units: standard deviation in 8-bit levels; Gaussian sigma in input pixels, below 0 where a camera or an
# editor has sharpened more than was soft; 0 (none) to 1 (JPEG quality 40, or x264 at crf 32). Divided by
# these, the values of ordinary uploads are about 0 to 1, of sharpened ones -1 to 1.
LEVEL_UNITS = (10.0, 0.5, 1.0)
# What the body is told, in these units: outside of what training saw, the nearest that it saw.
_LEAST, _MOST = (0.0, -1.5, 0.0), (1.5, 1.2, 1.5)
_MOST_FRAMES_SEEN = 6
_LARGEST_GATE = 8.0  # of logarithms: a place may weigh 3,000 times as much as another


class DegradationEstimator(nn.Module):
    """Levels of noise, blur and compression of a clip, from small features pooled over all frames.

    How soft a lens is shows at edges, sharpening in the halos beside them, noise where nothing else is: gates
    weigh the places that each of several pools looks at. Differences are seen as they are, and beside them in
    proportion to those around, for the profile of an edge says more than its height.

    Args:
        channels: Width of the first convolution; the others have twice as many.
        num_gates: Pools with places of their own.
    """

    units: torch.Tensor

    def __init__(self, channels: int = 24, num_gates: int = 4) -> None:
        super().__init__()
        width = 2 * channels
        self.conv1 = nn.Conv2d(6, channels, 5, stride=2)
        self.conv2 = nn.Conv2d(channels, width, 3, stride=2)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.gate = nn.Conv2d(width, num_gates, 1)
        self.sizes = (width, width, num_gates * width, num_gates)
        self.hidden = nn.Linear(sum(self.sizes), 64)
        self.out = nn.Linear(64, len(LEVEL_NAMES))
        self.register_buffer("units", torch.tensor(LEVEL_UNITS), persistent=False)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """(B, F, 3, h, w) in [0, 1], sides at least 16 -> (B, 3) levels in their units."""
        seen = clip[:, frames_seen(clip.shape[1])]
        statistics = self.statistics(seen.flatten(0, 1))
        return self.levels(statistics.reshape(*seen.shape[:2], -1).mean(dim=1))

    def statistics(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) in [0, 1] -> (N, S), means over places: their mean over the frames that are seen is
        what `levels` needs."""
        # Squares, and what is divided by small numbers, need all bits.
        with torch.autocast(frames.device.type, enabled=False):
            features = self._features(frames.float())
            gates = self.gate(features).clamp(-_LARGEST_GATE, _LARGEST_GATE).exp()
            gated = torch.einsum("nkhw,nchw->nkc", gates, features) / gates[0, 0].numel()
            means = [
                features.mean(dim=(-2, -1)),
                features.square().mean(dim=(-2, -1)),
                gated.flatten(1),
                gates.mean(dim=(-2, -1)),
            ]
            return torch.cat(means, dim=1)

    def levels(self, statistics: torch.Tensor) -> torch.Tensor:
        """(B, S) -> (B, 3) levels in their units."""
        with torch.autocast(statistics.device.type, enabled=False):
            mean, squares, gated, gates = torch.split(statistics.float(), list(self.sizes), dim=1)
            deviation = (squares - mean.square()).clamp_min(1e-6).sqrt()
            pooled = gated.reshape(*gates.shape, -1) / (gates[..., None] + 1e-4)
            seen = torch.cat([mean, deviation, pooled.flatten(1), (gates + 1e-4).log()], dim=1)
            levels = self.out(F.leaky_relu(self.hidden(seen), 0.1))
            return cast(torch.Tensor, levels * self.units)

    def _features(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) -> (N, C, h / 4, w / 4)."""
        # Every level sought is in differences to the neighbourhood, none in brightness.
        detail = 10 * (frames - box_mean(frames, 5))
        contrast = (box_mean(detail.square().mean(dim=1, keepdim=True), 7) + 0.01).sqrt()
        x = F.leaky_relu(self.conv1(torch.cat([detail, detail / contrast], dim=1)), 0.1)
        return F.leaky_relu(self.conv3(F.leaky_relu(self.conv2(x), 0.1)), 0.1)


def frames_seen(num_frames: int) -> list[int]:
    """Frames of a clip that its levels are estimated from: a few, spread over it."""
    count = min(num_frames, _MOST_FRAMES_SEEN)
    return [(2 * index + 1) * num_frames // (2 * count) for index in range(count)]


class Modulation(nn.Module):
    """A scale and a shift per channel for each part of the body, from noise, blur and compression.

    The last layer starts at zero: scale 1 and shift 0, whatever the levels.

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
