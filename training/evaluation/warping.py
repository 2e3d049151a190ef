"""Temporal consistency: the flow warping error, of any method with the motion of the ground truth.

Lai et al. 2018, "Learning Blind Video Temporal Consistency" (arXiv 1808.00449), section 4.2:

    E_pair(V, t) = sum_p M_t(p) ||V_t(p) - V_{t+1}(p + F_t(p))||^2 / (3 sum_p M_t(p))
    E_warp(V)    = mean over t of E_pair(V, t)
    error(V)     = 255 sqrt(E_warp(V))

in RGB of [0, 1], V_{t+1} between pixels bilinear; the root, because its unit is 8-bit levels. M and F belong
to the ground truth and are the same for every method. F is the flow from t to t + 1, B that from t + 1 to t,
both DIS (Kroeger et al. 2016, arXiv 1603.03590) of OpenCV on 8-bit luma: the paper's FlowNet2 needs weights.
M_t(p) is 1 where p + F_t(p) lies inside the frame and both flows agree (Sundaram et al. 2010), else 0:

    |F_t(p) + B_t(p + F_t(p))|^2 < 0.01 (|F_t(p)|^2 + |B_t(p + F_t(p))|^2) + 0.5

Soft pictures win: flow is never exact, so sharp moving detail differs from itself, as the source's own noise
does. So the ground truth's own error stands beside every figure: the aim is to be near it, not below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch

from pipelines.propagation.motion import warp
from training.errors import MissingPackageError
from training.losses import luma

# What DIS needs of the longer side.
_SMALLEST_SIDE = 12
# Of two pictures with nothing in common, each flow leads to few places from where the other leads back.
_LEAST_SHARE_SEEN = 0.25

Estimator = Callable[[np.ndarray, np.ndarray], torch.Tensor]
"""Two frames of luma (H, W), uint8 -> the flow from the first to the second (1, 2, H, W), pixels, x first."""


@dataclass(frozen=True)
class FramePair:
    """A frame t of the ground truth and how it goes on in the next.

    Attributes:
        first: t.
        flow: F_t: (1, 2, H, W), float32, pixels, x first.
        mask: M_t: (H, W), bool.
    """

    first: int
    flow: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class SourceMotion:
    """What the warping error is measured with, against one ground truth.

    Attributes:
        pairs: One at least. Pairs of which less than a quarter is seen again, as at a cut, are left out.
        own_error: Of the ground truth, in 8-bit levels.
    """

    pairs: tuple[FramePair, ...]
    own_error: float

    @classmethod
    def of(cls, hr: torch.Tensor) -> Self | None:
        """Estimates the motion of a ground truth; None for a still, and where no pair of frames counts.

        Args:
            hr: (F, 3, H, W), float32, [0, 1].

        Raises:
            MissingPackageError: If OpenCV is not installed.
        """
        if len(hr) < 2 or max(hr.shape[-2:]) < _SMALLEST_SIDE:
            return None
        estimate = make_estimator()
        frames = (255 * luma(hr)[:, 0]).round().byte().numpy()
        pairs = []
        for first, (frame, after) in enumerate(pairwise(frames)):
            flow = estimate(frame, after)
            mask = seen_again(flow, estimate(after, frame))
            if float(mask.float().mean()) >= _LEAST_SHARE_SEEN:
                pairs.append(FramePair(first, flow, mask))
        return cls(tuple(pairs), warping_error(hr, pairs)) if pairs else None

    def error(self, frames: torch.Tensor) -> float:
        """Warping error of restored frames (F, 3, H, W), float32, [0, 1]: in 8-bit levels."""
        return warping_error(frames, self.pairs)


def make_estimator() -> Estimator:
    """DIS flow with OpenCV's preset "medium".

    Raises:
        MissingPackageError: If OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            "measuring temporal consistency needs the package opencv-python-headless: "
            "pip install 'dovetail-vsr[training]'"
        ) from error
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def estimate(frame: np.ndarray, after: np.ndarray) -> torch.Tensor:
        flow = np.zeros((*frame.shape, 2), np.float32)
        dis.calc(frame, after, flow)
        return torch.from_numpy(flow).permute(2, 0, 1)[None].contiguous()

    return estimate


def seen_again(flow: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """M_t: which pixels of a frame the next one shows, (H, W), bool.

    Args:
        flow: From the frame to the next, (1, 2, H, W), pixels, x first.
        backward: From the next to the frame, the same.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width) + flow[0, 0]
    y = torch.arange(height)[:, None] + flow[0, 1]
    is_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = warp(backward, flow)
    gap = (flow + back).square().sum(1)[0]
    tolerance = 0.01 * (flow.square() + back.square()).sum(1)[0] + 0.5
    return is_inside & (gap < tolerance)


def warping_error(frames: torch.Tensor, pairs: Sequence[FramePair]) -> float:
    """255 sqrt(E_warp) of frames (F, 3, H, W) in [0, 1]."""
    errors = []
    for pair in pairs:
        frame, after = frames[pair.first], frames[pair.first + 1 : pair.first + 2]
        squares = (frame - warp(after, pair.flow)[0]).square()
        errors.append(float(squares[:, pair.mask].mean()))
    return float(255 * np.mean(errors) ** 0.5)
