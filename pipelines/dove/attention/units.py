"""Interleaved temporal units: frames in units, every other layer's units shifted by half a unit.

SimpleGVR (arXiv 2506.19838, https://arxiv.org/abs/2506.19838) cuts long clips so: what a frame knows reaches
half a unit further with each layer, and no chunk has a seam. Ours: units are clamped to the clip as windows
are (`axis_windows`), so clips of any length have whole units only; text is seen by every unit and attends to
itself alone. Units take turns: copies are made of one of them, however long the clip is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipelines.dove.attention.tokens import AttentionPattern, JointTokens
from pipelines.dove.attention.windows import AxisWindows, axis_windows
from pipelines.dove.kernels import AttentionKernel


@dataclass(frozen=True)
class UnitPattern:
    """Another pattern inside units of frames.

    Attributes:
        unit: Frames of a unit, in tokens.
        shifted: Whether units start half a unit earlier (for every other layer).
        inside: Pattern inside a unit, without weights.
    """

    unit: int
    shifted: bool
    inside: AttentionPattern

    def units(self, num_frames: int) -> AxisWindows:
        """The units of a clip."""
        return axis_windows(num_frames, self.unit, shifted=self.shifted)

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`.

        Raises:
            ValueError: If the grid is missing, or the pattern inside raises it.
        """
        num_frames, height, width = tokens.checked_grid()
        units, frame, count = self.units(num_frames), height * width, tokens.num_text
        # Written into, not joined: joining would hold every unit twice.
        attended = torch.empty_like(tokens.value.transpose(1, 2), memory_format=torch.contiguous_format)
        attended = attended.transpose(1, 2)
        attended[:, :, :count] = F.scaled_dot_product_attention(*tokens.text)
        for start, (low, high) in zip(units.starts, units.owned, strict=True):
            if high > low:
                unit = self.inside(tokens.frames(start, units.size), kernel)
                place = slice(count + (start + low) * frame, count + (start + high) * frame)
                attended[:, :, place] = unit.narrow(2, count + low * frame, (high - low) * frame)
        return attended
