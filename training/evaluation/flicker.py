"""Flicker: how much more consecutive frames change along the motion than those of the ground truth do.

The flow warping error of Lai et al. 2018, "Learning Blind Video Temporal Consistency" (arXiv 1808.00449), in
8-bit levels and less the ground truth's own:

    E_pair(V, t) = sum_p M_t(p) ||V_t(p) - V_{t+1}(p + F_t(p))||^2 / (3 sum_p M_t(p))
    E_warp(V)    = mean over t of E_pair(V, t)
    flicker(V)   = 255 (sqrt(E_warp(V)) - sqrt(E_warp(HR)))

M and F belong to the ground truth HR and are the same for every method. Theirs are FlowNet2's flow and a hard
mask of occlusions (Ruder et al. 2016); ours need no weights: Lucas-Kanade flow and its `match_confidence`.

The difference, not the ratio: where nothing moves and the source has no noise, E_warp(HR) is nearly 0. The
root: its unit is 8-bit levels. Flow is never exact, so sharp moving detail differs from itself; a soft
picture does so less, and loses the source's noise: it may score below 0. Sharpness costs nothing on static
scenes: there a model should not flicker more than interpolation of its input does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch

from pipelines.propagation.motion import estimate_flow, match_confidence, warp
from training.losses import luma

# Motion of up to about 64 pixels of the ground truth.
_NUM_LEVELS = 6


@dataclass(frozen=True)
class SourceMotion:
    """What measures flicker against one ground truth.

    Attributes:
        flows: F_t, frame t to t + 1: F - 1 times (1, 2, H, W), pixels, x first.
        masks: M_t, near 0 where the next frame shows something else: F - 1 times (1, 1, H, W), (0, 1].
        own_error: sqrt(E_warp(HR)), in 8-bit levels.
    """

    flows: list[torch.Tensor]
    masks: list[torch.Tensor]
    own_error: float

    @classmethod
    def of(cls, hr: torch.Tensor) -> Self | None:
        """Estimates the motion of a ground truth; None for a still.

        Args:
            hr: (F, 3, H, W), float32, [0, 1], one scene.
        """
        if len(hr) < 2:
            return None
        frames = luma(hr)[:, None]
        pairs = list(pairwise(frames))
        flows = [estimate_flow(frame, after, num_levels=_NUM_LEVELS) for frame, after in pairs]
        masks = [
            match_confidence(frame, after, flow) for (frame, after), flow in zip(pairs, flows, strict=True)
        ]
        return cls(flows, masks, warping_error(hr, flows, masks))

    def flicker(self, frames: torch.Tensor) -> float:
        """Flicker of restored frames, in 8-bit levels; 0 for the ground truth, more for less steady frames.

        Args:
            frames: (F, 3, H, W), float32, [0, 1].
        """
        return warping_error(frames, self.flows, self.masks) - self.own_error


def warping_error(frames: torch.Tensor, flows: list[torch.Tensor], masks: list[torch.Tensor]) -> float:
    """sqrt(E_warp) of frames (F, 3, H, W) in [0, 1], in 8-bit levels."""
    errors = []
    for t, (flow, mask) in enumerate(zip(flows, masks, strict=True)):
        squares = (frames[t : t + 1] - warp(frames[t + 1 : t + 2], flow)).square().mean(1, keepdim=True)
        errors.append(float((mask * squares).sum() / mask.sum()))
    return float(255 * (sum(errors) / len(errors)) ** 0.5)
