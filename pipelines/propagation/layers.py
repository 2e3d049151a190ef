"""Parts of the restorer's body."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.1
# How many times what a frame has a neighbour may add: the next one to the frame's own features (of held-out
# clips one pixel in 10,000 has as much), the previous one to what these and the next one gave (one in 1,000).
MOST_FROM_NEXT, MOST_FROM_PREVIOUS = 3.0, 1.0


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), both 3x3; the second starts small, so a new block is nearly the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, channels)
        self.conv2 = Conv3x3(channels, channels)
        shrink_(self.conv2, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In place: convolutions do not need their own outputs for a gradient.
        hidden = F.leaky_relu_(self.conv1(x), SLOPE)
        return cast(torch.Tensor, self.conv2(hidden)).add_(x)


def modulate(x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
    """Scales and shifts the channels of (N, C, h, w) by (N, 2, C)."""
    scale, shift = modulation[..., None, None].unbind(1)
    return torch.addcmul(shift, x, scale)


def trusted(carried: torch.Tensor, own: torch.Tensor, *, most: float) -> torch.Tensor:
    """What a neighbour adds to what a frame has, both (N, C, h, w): less where it is above `most` times that.

    Training sees a few frames. Over the frames of a chunk, states of hard edges and strong compression grew
    tenfold with each one, until the picture was gone. Below the limit nothing changes.
    """
    with torch.no_grad():
        own_norm, norm = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (own, carried))
        # Clamped before it is squared, which float16 could not hold.
        share = (own_norm / norm.clamp(min=1e-6)).mul_(most).clamp_(max=1).square_()
    return cast(torch.Tensor, carried * share)


class Conv3x3(nn.Conv2d):
    """Repeats the border: zeros would leave a line around frames."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, C', h, w)."""
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(x)
        # Autocast would repeat the border in float32, and copy twice for that: a fifth of a training step.
        dtype = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            padded = F.pad(x.to(dtype), (1, 1, 1, 1), mode="replicate")
            return F.conv2d(padded, self.weight.to(dtype), cast(torch.Tensor, self.bias).to(dtype))


def blocks(number: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(number)))


def shrink_(conv: nn.Conv2d, factor: float) -> None:
    """Scales the initial weights and zeroes the bias."""
    with torch.no_grad():
        conv.weight.mul_(factor)
        cast(torch.Tensor, conv.bias).zero_()
