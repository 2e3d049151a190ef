"""Step 4: what moves, how fast, and the part of the picture around it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.dataset.quality import Luma
from training.dataset.records import Box

# The flow is computed on a picture whose shorter side has so many pixels.
_FLOW_SIDE = 360
_CELL = 8
"""Pixels of that picture whose mean is kept."""
# What lies outside of these percentiles of all that moves, in either direction, is mostly mistakes.
_OUTLIERS = (2, 98)
_PEAK = 95
_GRID = 8
"""Boxes are multiples of it."""

# Bars are black but for what coding adds; a picture has something in every row and column at some time.
_BLACK = 32

FlowMap = NDArray[np.float32]
"""Lengths of the flow in pixels per frame, one for each cell, (rows, columns)."""


class FlowMeter:
    """Measures how far things move between two frames (DIS, Kroeger et al., ECCV 2016)."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def measure(self, before: Luma, after: Luma) -> FlowMap:
        """Lengths of the flow from one frame to the next, in pixels of these frames."""
        # What is passed for the result is where the search begins.
        flow = self._flow.calc(before, after, np.zeros((*before.shape, 2), np.float32))
        lengths = np.hypot(flow[..., 0], flow[..., 1])
        rows, columns = (max(1, size // _CELL) for size in lengths.shape)
        return np.asarray(cv2.resize(lengths, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def shrink_for_flow(luma: Luma) -> tuple[Luma, float]:
    """The picture that motion is measured on, and how many pixels of the source one of it is."""
    scale = min(luma.shape) / _FLOW_SIDE
    if scale <= 1:
        return luma, 1.0
    size = (round(luma.shape[1] / scale), round(luma.shape[0] / scale))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def peak_motion(mean_flow: FlowMap) -> float:
    """What a twentieth of the picture moves faster than."""
    return float(np.percentile(mean_flow, _PEAK))


def find_moving(mean_flow: FlowMap, size: tuple[int, int], *, min_motion: float) -> Box | None:
    """The part of a picture of `size` (height, width) with what moves faster than the mean; None where
    nothing moves by `min_motion` pixels per frame."""
    is_moving = mean_flow > max(min_motion, float(mean_flow.mean()))
    if not is_moving.any():
        return None
    sides = []
    for positions, cells, pixels in zip(np.nonzero(is_moving), mean_flow.shape, size, strict=True):
        low, high = np.percentile(positions, _OUTLIERS)
        begin = int(low * pixels / cells)
        sides.append((begin, min(pixels, int(np.ceil((high + 1) * pixels / cells))) - begin))
    (top, height), (left, width) = sides
    return Box(left=left, top=top, width=width, height=height)


def find_picture(brightest: Sequence[Luma]) -> Box:
    """The picture without black bars.

    Args:
        brightest: Brightest values of each row, and of each column, over all frames.
    """
    spans = []
    for values in brightest:
        lit = np.flatnonzero(values > _BLACK)
        spans.append((int(lit[0]), int(lit[-1]) + 1 - int(lit[0])) if len(lit) else (0, len(values)))
    (top, height), (left, width) = spans
    return Box(left=left, top=top, width=width, height=height)


def plan_crop(moving: Box, picture: Box, *, padding: int, min_side: int) -> Box | None:
    """Where a clip is cut out: around what moves, with padding, not smaller than `min_side`, inside the
    picture. None where the picture itself is smaller.

    DOVE drops what is smaller than that. Around it is picture too, and one's own footage is not endless.
    """
    horizontal = _plan_side(moving.left, moving.width, picture.left, picture.width, padding, min_side)
    vertical = _plan_side(moving.top, moving.height, picture.top, picture.height, padding, min_side)
    if horizontal is None or vertical is None:
        return None
    (left, width), (top, height) = horizontal, vertical
    return Box(left=left, top=top, width=width, height=height)


def _plan_side(
    begin: int, length: int, low: int, room: int, padding: int, min_side: int
) -> tuple[int, int] | None:
    """Begin and length of a side of the crop."""
    if room < min_side:
        return None
    wanted = max(length + 2 * padding, min_side)
    wanted = min(room, -(-wanted // _GRID) * _GRID)
    wanted = max(wanted // _GRID * _GRID, min_side)
    middle = begin + length // 2
    return min(max(middle - wanted // 2, low), low + room - wanted), wanted
