"""Losses of the two stages (DOVE, arXiv 2505.16239, equations of sections 3.2-3.3).

Stage 1: MSE between restored and HR latents. Stage 2: a pixel loss, a perceptual term, and for clips the L1
distance of frame differences. DOVE's perceptual term is DISTS, which needs VGG weights; ours compares
gradient magnitudes at several scales (gradient magnitude similarity, Xue et al. 2014), which needs none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Xue et al. choose c = 170 for 8-bit luma; on [0, 1] it is 170 / 255^2.
_GMS_CONSTANT = 170 / 255**2
_CHARBONNIER_EPSILON = 1e-3
_PSNR_EPSILON = 1e-5  # at 50 dB little is left to gain
_CHROMA_WEIGHT = 0.25
_LOW_FREQUENCY = 1 / 8  # cycles per pixel
_FREQUENCY_POWER = 2


def luma(x: torch.Tensor) -> torch.Tensor:
    """BT.601 luma (full range) of (..., 3, H, W) -> (..., 1, H, W)."""
    red, green, blue = x.unbind(-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def gradient_magnitude(y: torch.Tensor) -> torch.Tensor:
    """Prewitt gradient magnitude of (N, 1, H, W), without borders: (N, 1, H - 2, W - 2)."""
    kernel = y.new_tensor([[1.0, 0.0, -1.0]] * 3) / 3
    gradients = F.conv2d(y, torch.stack([kernel, kernel.T])[:, None])
    return (gradients.square().sum(1, keepdim=True) + 1e-12).sqrt()


def gradient_similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude similarity map in (0, 1] of two luma planes (N, 1, H, W), range [0, 1]."""
    ga, gb = gradient_magnitude(a), gradient_magnitude(b)
    return (2 * ga * gb + _GMS_CONSTANT) / (ga.square() + gb.square() + _GMS_CONSTANT)


def perceptual_loss(sr: torch.Tensor, hr: torch.Tensor, *, num_scales: int = 2) -> torch.Tensor:
    """1 - gradient magnitude similarity, mean over `num_scales` dyadic scales from half size on (as GMSD).

    Args:
        sr: (N, 3, H, W), [0, 1].
        hr: Same shape.
    """
    a, b = luma(sr), luma(hr)
    total = a.new_zeros(())
    for _ in range(num_scales):
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total = total + (1 - gradient_similarity(a, b)).mean()
    return total / num_scales


def pixel_loss(sr: torch.Tensor, hr: torch.Tensor, kind: str) -> torch.Tensor:
    """`mse`, or `charbonnier`: sqrt(d^2 + eps^2), which is less ruled by outliers."""
    difference = sr - hr
    if kind == "mse":
        return difference.square().mean()
    return (difference.square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


def psnr_loss(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Logarithm of each clip's mean squared error, mean over clips: PSNR but for sign and factor.

    Flat clips, whose errors are small, weigh as much as busy ones, as in a mean of decibels (HINet, Chen et
    al. 2021, arXiv 2105.06086). Errors of colour count a quarter of those of brightness: eyes see them less,
    and an upload has lost most of them with 4:2:0.

    Args:
        sr: (B, ..., 3, H, W), [0, 1].
        hr: Same shape.
    """
    error = sr - hr
    brightness = luma(error)
    chroma = (error - brightness).square().mean(-3, keepdim=True)
    squares = (brightness.square() + _CHROMA_WEIGHT * chroma).flatten(1).mean(1)
    return (squares + _PSNR_EPSILON).log().mean()


def frequency_loss(sr: torch.Tensor, hr: torch.Tensor, *, progress: float) -> torch.Tensor:
    """STAR's dynamic frequency loss (arXiv 2501.02976, section 3.3) at one noise level.

    L = (1 - s) * (c * |low(sr) - low(hr)| + (1 - c) * |high(sr) - high(hr)|) with s = t / t_max, c = s^2:
    where much noise is left, structure counts, where little is, detail. At the one timestep of a one-step
    model both are constants, and the loss is an L1 weighted by frequency. Low is what an LR frame at x4
    carries; border and exponent are ours.

    Args:
        sr: (..., H, W), [0, 1].
        hr: Same shape.
        progress: s.
    """
    difference = torch.fft.rfft2((sr - hr).float())
    rows = torch.fft.fftfreq(sr.shape[-2], device=sr.device).abs()[:, None]
    cols = torch.fft.rfftfreq(sr.shape[-1], device=sr.device)[None]
    is_low = (torch.maximum(rows, cols) < _LOW_FREQUENCY).to(difference.dtype)
    low = torch.fft.irfft2(difference * is_low, s=sr.shape[-2:])
    high = (sr - hr).float() - low
    share = progress**_FREQUENCY_POWER
    weighted: torch.Tensor = share * low.abs().mean() + (1 - share) * high.abs().mean()
    return (1 - progress) * weighted


def temporal_loss(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """L1 distance of frame differences of clips (B, 3, F, H, W); 0 for single frames."""
    if sr.shape[2] < 2:
        return sr.new_zeros(())
    return (sr.diff(dim=2) - hr.diff(dim=2)).abs().mean()
