"""Motion between neighbouring LR frames without weights: Lucas-Kanade on a pyramid, and backward warping.

A learnt flow network needs more training than the whole restorer. Least squares on image gradients (Lucas and
Kanade 1981, coarse to fine as Bouguet 2000) needs none, is exact to about a tenth of a pixel where there is
texture, and where there is none it keeps the motion of the coarser level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_WINDOW = 7
_ITERATIONS = 2
# Motion up to about 2 ** levels pixels is found.
_NUM_LEVELS = 4
_SMALLEST_SIDE = 12
# Gradients below about 0.01 are noise: there the coarser level's motion stands.
_DAMPING = 1e-4
# Mean luma differences up to this are noise whatever the frame; beyond three times its mean, occlusions.
_ERROR_FLOOR = 0.01
# Below this motion, in pixels, a neighbour counts less and less: where nothing moves it shows nothing new,
# and what it added again made still scenes worse (up to 0.75 dB) and unsteady.
_FULL_MOTION = 0.25
_MOTION_WINDOW = 9


def estimate_flow(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where each pixel of one frame lies in another: `warp(other, flow)` looks like `reference`.

    Args:
        reference: Luma (N, 1, h, w), float32, [0, 1].
        other: Same shape.

    Returns:
        (N, 2, h, w), displacements in pixels, x first.
    """
    pyramid = [(smooth(reference), smooth(other))]
    while len(pyramid) < _NUM_LEVELS and min(pyramid[-1][0].shape[-2:]) >= 2 * _SMALLEST_SIDE:
        pyramid.append((halve(pyramid[-1][0]), halve(pyramid[-1][1])))
    flow = reference.new_zeros(len(reference), 2, *pyramid[-1][0].shape[-2:])
    for level_reference, level_other in reversed(pyramid):
        size = level_reference.shape[-2:]
        if flow.shape[-2:] != size:
            flow = 2 * F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
        flow = refine_flow(flow, level_reference, level_other)
    return flow


def refine_flow(flow: torch.Tensor, reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A few Gauss-Newton steps of the least-squares motion of each window, then a mean over 5x5 pixels."""
    padded = F.pad(reference, (1, 1, 1, 1), mode="replicate")
    gradient_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gradient_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    products = torch.cat([gradient_x.square(), gradient_x * gradient_y, gradient_y.square()], dim=1)
    xx, xy, yy = box_mean(products, _WINDOW).chunk(3, dim=1)
    xx, yy = xx + _DAMPING, yy + _DAMPING
    determinant = xx * yy - xy.square()
    for _ in range(_ITERATIONS):
        difference = warp(other, flow) - reference
        bx, by = box_mean(
            torch.cat([gradient_x * difference, gradient_y * difference], dim=1), _WINDOW
        ).chunk(2, dim=1)
        step = torch.cat([xy * by - yy * bx, xy * bx - xx * by], dim=1) / determinant
        flow = flow + step.clamp(-1, 1)
    return box_mean(flow, 5)


def warp(frames: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Samples frames at displaced positions, bilinear, borders repeated.

    Args:
        frames: (N, C, h, w), any float.
        flow: (N, 2, h, w) in pixels, x first, float32.

    Returns:
        (N, C, h, w), dtype and layout as the frames'.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1)
    # Eight bits of a bfloat16 would place a pixel of a wide frame several pixels off.
    sampled = F.grid_sample(frames.to(grid.dtype), grid, padding_mode="border", align_corners=True)
    # Sampling gives planes. What follows is many times slower if layouts are mixed.
    has_channels_last = frames.shape[1] > 1 and frames.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if has_channels_last else torch.contiguous_format
    return sampled.to(frames.dtype, memory_format=layout)


def match_confidence(reference: torch.Tensor, other: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """How much a warped frame counts: near 1 where it moves and matches, near 0 where something else is seen
    or nothing moves.

    The scale is the frame's own mean error, so noise alone does not lower it.

    Returns:
        (N, 1, h, w) in [0, 1].
    """
    error = box_mean((warp(other, flow) - reference).abs(), 5)
    scale = 3 * error.mean(dim=(-2, -1), keepdim=True) + _ERROR_FLOOR
    motion = box_mean(torch.hypot(flow[:, :1], flow[:, 1:]), _MOTION_WINDOW)
    return (motion / _FULL_MOTION).clamp(max=1) / (1 + (error / scale).square())


def smooth(luma: torch.Tensor) -> torch.Tensor:
    """Binomial 3x3 filter, borders repeated."""
    x = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    x = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    return (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4


def halve(luma: torch.Tensor) -> torch.Tensor:
    return smooth(F.avg_pool2d(luma, 2, ceil_mode=True))


def box_mean(x: torch.Tensor, size: int) -> torch.Tensor:
    """Mean over a window; at the border over the part inside."""
    return _window_mean(_window_mean(x, size // 2, dim=-1), size // 2, dim=-2)


def _window_mean(x: torch.Tensor, reach: int, *, dim: int) -> torch.Tensor:
    """Along one side. Sums of shifted views: torch's pooling takes eight times as long on a CPU."""
    length = x.shape[dim]
    total = x.clone()
    for shift in range(1, min(reach, length - 1) + 1):
        kept = length - shift
        total.narrow(dim, shift, kept).add_(x.narrow(dim, 0, kept))
        total.narrow(dim, 0, kept).add_(x.narrow(dim, shift, kept))
    place = torch.arange(length, device=x.device)
    counts = 1 + place.clamp(max=reach) + place.flip(0).clamp(max=reach)
    return total.div_(counts if dim == -1 else counts[:, None])
