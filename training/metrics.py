"""Full-reference image quality, none of which needs downloaded weights.

PSNR-Y, SSIM (torchmetrics), and two perceptual metrics: GMSD (Xue et al. 2014, smaller is better) and HaarPSI
(Reisenhofer et al. 2018, larger is better). piq has both, but depends on torchvision, of which there is no
CPU build; so they are written here from the papers.

All functions take uint8-quantised images as float32 (N, 3, H, W) in [0, 1] and return (N,) float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from training.losses import gradient_similarity, luma

# Calibrated in the HaarPSI paper, section 3, on 8-bit luma.
_HAARPSI_C = 30.0
_HAARPSI_ALPHA = 4.2


def luma_bt601(x: torch.Tensor) -> torch.Tensor:
    """Studio-swing BT.601 luma, [16, 235] / 255, the Y of "PSNR-Y" since SRCNN: (N, 1, H, W)."""
    return (16 + 219 * luma(x)) / 255


def psnr_y(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of luma in dB; 100 dB where the images are equal."""
    error = (luma_bt601(sr) - luma_bt601(hr)).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10()


def ssim_y(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Structural similarity of luma, 11x11 Gaussian window of sigma 1.5."""
    values = structural_similarity_index_measure(
        luma_bt601(sr), luma_bt601(hr), data_range=1.0, reduction="none"
    )
    assert isinstance(values, torch.Tensor)
    return values


def gmsd(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude similarity deviation on luma halved by averaging (Xue et al., equations 4-6)."""
    a, b = (F.avg_pool2d(luma(x), 2) for x in (sr, hr))
    return gradient_similarity(a, b).flatten(1).std(dim=1, correction=0)


def haarpsi(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Haar wavelet perceptual similarity index in (0, 1], with the chroma terms of the colour version."""
    a, b = (_yiq(255 * x) for x in (sr, hr))
    a, b = (F.avg_pool2d(x, 2) for x in (a, b))
    similarities, weights = [], []
    for transpose in (False, True):
        coefficients = [_haar_responses(x[:, :1], transpose=transpose).abs() for x in (a, b)]
        # Scales 1 and 2 measure similarity, scale 3 says where it matters.
        local = [_similarity(coefficients[0][:, k], coefficients[1][:, k]) for k in (0, 1)]
        similarities.append((local[0] + local[1]) / 2)
        weights.append(torch.maximum(coefficients[0][:, 2], coefficients[1][:, 2]))
    chroma = [F.avg_pool2d(F.pad(x[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs() for x in (a, b)]
    similarities.append(_similarity(*chroma).mean(dim=1))
    weights.append((weights[0] + weights[1]) / 2)
    similarity, weight = torch.stack(similarities, 1), torch.stack(weights, 1)
    sigmoid = torch.sigmoid(_HAARPSI_ALPHA * similarity)
    mean = (sigmoid * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp_min(1e-8)
    return ((mean / (1 - mean)).log() / _HAARPSI_ALPHA).square()


def _similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (2 * a * b + _HAARPSI_C) / (a.square() + b.square() + _HAARPSI_C)


def _yiq(x: torch.Tensor) -> torch.Tensor:
    matrix = x.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    return torch.einsum("ij,njhw->nihw", matrix, x)


def _haar_responses(y: torch.Tensor, *, transpose: bool) -> torch.Tensor:
    """Responses to Haar filters of sides 2, 4 and 8, same size as y: (N, 3, H, W)."""
    responses = []
    for scale in (1, 2, 3):
        side = 2**scale
        kernel = y.new_full((side, side), 2.0**-scale)
        kernel[: side // 2] *= -1
        kernel = kernel.T if transpose else kernel
        low = side // 2 - 1
        padded = F.pad(y, (low, side - 1 - low, low, side - 1 - low))
        responses.append(F.conv2d(padded, kernel[None, None]))
    return torch.cat(responses, dim=1)


METRICS = {"psnr_y": psnr_y, "ssim": ssim_y, "haarpsi": haarpsi, "gmsd": gmsd}
LOWER_IS_BETTER = frozenset({"gmsd"})
