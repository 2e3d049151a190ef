"""Colour matched to the source, on whole frames, so that tiles, chunks and segments agree in tone.

A restoration network may shift the tone of a tile or a chunk a little; side by side that is a seam, in time a
flicker. The low frequencies of the source are trustworthy, so they replace those of the output:

    matched = output + lowpass(source - output)

which is the wavelet colour fix of StableSR (arXiv 2305.07015, section 3.4; five levels of an a-trous wavelet
are a low-pass of about 13 pixels) with a Gaussian in place of the wavelet's own kernel. It is linear in
the difference and depends on nothing but the one frame.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

ColorMatch = Literal["none", "mean", "lowpass"]


def match_color(
    output: torch.Tensor, source: torch.Tensor, *, method: ColorMatch, sigma: float = 16.0
) -> torch.Tensor:
    """Moves the tone of frames to that of their source.

    Args:
        output: (F, 3, H, W) float, restored frames.
        source: (F, 3, H, W), the same frames interpolated to the same size.
        method: `none`; `mean`, one offset per frame and channel; `lowpass`, all frequencies below sigma's.
        sigma: Standard deviation of the low-pass in output pixels.

    Returns:
        (F, 3, H, W), `output` itself for `none`; not clamped.
    """
    if method == "none":
        return output
    difference = source - output
    if method == "mean":
        return output + difference.mean(dim=(-2, -1), keepdim=True)
    correction = lowpass(difference, sigma=sigma)
    del difference
    return correction.add_(output)


def lowpass(frames: torch.Tensor, *, sigma: float) -> torch.Tensor:
    """Gaussian low-pass of (F, C, H, W), computed at a reduced size where sigma is large.

    Borders are continued by their edge pixels. A constant frame stays exactly constant up to rounding.
    """
    height, width = frames.shape[-2:]
    # At 3 pixels of sigma the Gaussian leaves less than 1e-4 above the Nyquist frequency, so the reduced
    # grid loses nothing that the blur would have kept.
    factor = max(1, int(sigma / 3))
    small_height, small_width = max(1, round(height / factor)), max(1, round(width / factor))
    small = F.adaptive_avg_pool2d(frames, (small_height, small_width)) if factor > 1 else frames
    small = _blur_axis(_blur_axis(small, sigma * small_height / height, -2), sigma * small_width / width, -1)
    if factor == 1:
        return small
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def _blur_axis(frames: torch.Tensor, sigma: float, dim: int) -> torch.Tensor:
    radius = max(1, round(3 * sigma))
    position = torch.arange(-radius, radius + 1, dtype=torch.float32, device=frames.device)
    kernel = torch.exp(-0.5 * (position / max(sigma, 1e-6)) ** 2)
    kernel = (kernel / kernel.sum()).to(frames.dtype)
    channels = frames.shape[1]
    shape = [1, 1, 1, 1]
    shape[dim] = -1
    pad = (0, 0, radius, radius) if dim == -2 else (radius, radius, 0, 0)
    padded = F.pad(frames, pad, mode="replicate")
    return F.conv2d(
        padded,
        kernel.view(shape).expand(channels, 1, -1, 1)
        if dim == -2
        else kernel.view(shape).expand(channels, 1, 1, -1),
        groups=channels,
    )
