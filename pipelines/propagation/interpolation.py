"""Bicubic interpolation by whole factors, to which the restorer adds what it restores."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F


def enlarge(clip: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic interpolation: (B, F, 3, h, w) -> (B, F, 3, h * scale, w * scale), float32.

    The kernel of `torch.nn.functional.interpolate`, up to rounding. On a CPU in a third of its time: each
    output pixel of an input pixel has its kernel, so a whole factor is a convolution and a pixel shuffle.
    """
    if scale == 1:
        return clip.float()
    frames = clip.float().flatten(0, 1)
    if frames.device.type == "cpu":
        # Autocast would round the picture itself to bfloat16, which has 8 bits.
        with torch.autocast("cpu", enabled=False):
            large = _by_convolution(frames, scale)
    else:  # where convolutions may multiply with fewer bits (TF32)
        large = F.interpolate(frames, scale_factor=scale, mode="bicubic", align_corners=False)
    return large.reshape(*clip.shape[:2], *large.shape[1:])


def _by_convolution(frames: torch.Tensor, scale: int) -> torch.Tensor:
    """(N, C, h, w) -> (N, C, h * scale, w * scale)."""
    rows = torch.tensor(_weights(scale))
    kernels = (rows[:, None, :, None] * rows[:, None]).reshape(scale**2, 1, 5, 5)
    planes = F.pad(frames.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="replicate")
    large = F.pixel_shuffle(F.conv2d(planes, kernels), scale)
    return large.reshape(*frames.shape[:2], *large.shape[-2:])


@functools.cache
def _weights(scale: int) -> tuple[tuple[float, ...], ...]:
    """For each output pixel along an input pixel, weights of the input from two before to two behind."""
    centres = [(index + 0.5) / scale - 0.5 for index in range(scale)]
    return tuple(tuple(_cubic(centre - place) for place in range(-2, 3)) for centre in centres)


def _cubic(distance: float) -> float:
    """Cubic convolution (Keys 1981) with a = -0.75, as torch and OpenCV have it."""
    d = abs(distance)
    if d <= 1:
        return (1.25 * d - 2.25) * d * d + 1
    return -0.75 * (((d - 5) * d + 8) * d - 4) if d < 2 else 0.0
