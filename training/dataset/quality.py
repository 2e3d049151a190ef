"""Step 3: how good a picture is, by measures that need neither reference nor network.

Each is for one frame's luma, (H, W) uint8. A single one is easily fooled: noise looks sharp, a soft picture
is free of noise. So scenes are ranked by all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

# Parts of the picture that are judged on their own, in pixels: what is out of focus by intention makes no
# picture soft, and noise is seen where nothing else is.
_CELL = 32
_DETAILED, _FLAT = 97, 10
"""Percentiles of cells."""

_BLOCK = 8
# Edges of things are much larger than the steps between coded blocks, and would drown them.
_LARGEST_STEP = 16

_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_NOISE_SCALE = float(np.sqrt(np.pi / 2) / 6)
_CLIPPED = (8, 247)


@dataclass(frozen=True)
class PictureQuality:
    """What was measured of one frame."""

    contrast: float
    sharpness: float
    fine_detail: float
    blockiness: float
    noise: float


def measure_quality(luma: Luma) -> PictureQuality:
    """All measures of a frame, of at least 64x64 pixels."""
    sharpness = laplacian_variance(luma)
    half = np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    return PictureQuality(
        contrast=float(luma.std()),
        sharpness=sharpness,
        # A picture that was enlarged, or is soft all over, has little at its finest scale that a picture of
        # half the size does not show; one with detail of all scales has about as much. Contrast does not
        # matter.
        fine_detail=sharpness / max(laplacian_variance(half), 1.0),
        blockiness=blockiness(luma),
        noise=noise_sigma(luma),
    )


def laplacian_variance(luma: Luma) -> float:
    """Variance of the Laplacian in the cells with most detail (97th percentile), in levels squared."""
    squared = np.square(cv2.Laplacian(luma, cv2.CV_32F))
    return float(np.percentile(_cell_means(squared), _DETAILED))


def blockiness(luma: Luma) -> float:
    """Mean step between neighbours where blocks of eight pixels meet, divided by that elsewhere; 1 where
    there are no blocks. The grid may begin anywhere; the worse of the two directions counts."""
    return max(_grid_step(luma), _grid_step(luma.T))


def _grid_step(luma: Luma) -> float:
    steps = np.minimum(cv2.absdiff(luma[:, 1:], luma[:, :-1]), _LARGEST_STEP).mean(axis=0)
    whole = len(steps) // _BLOCK * _BLOCK
    by_phase = steps[:whole].reshape(-1, _BLOCK).mean(axis=0)
    return float(by_phase.max() / max(np.median(by_phase), 0.05))


def noise_sigma(luma: Luma) -> float:
    """Standard deviation of noise, in levels (Immerkaer, CVIU 64(2), 1996), in the flattest cells (10th
    percentile) that are neither black nor white."""
    response = np.abs(cv2.filter2D(luma, cv2.CV_32F, _NOISE_KERNEL))
    levels = _cell_means(luma.astype(np.float32))
    usable = (levels > _CLIPPED[0]) & (levels < _CLIPPED[1])
    if not usable.any():
        return 0.0
    return float(np.percentile(_cell_means(response)[usable], _FLAT) * _NOISE_SCALE)


def _cell_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the cells that a picture consists of."""
    rows, columns = (max(1, size // _CELL) for size in values.shape)
    return np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)
