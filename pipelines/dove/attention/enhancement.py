"""Local enhancement before joint attention (STAR, arXiv 2501.02976, section 3.2), the identity at first.

STAR finds that global attention alone is poor at local detail, and puts a gate before it:
F_out = G(L(F) * F) + F with L(F) = sigmoid(conv([mean_c F, max_c F])), first over space, then over time. Its
CogVideoX variant gates the video tokens, after their modulation. The sigmoid is doubled here, so that weights
of zero are a gate of 1: a checkpoint is fine-tuned from what it was.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.planning.patterns import TokenGrid

# The authors' size; they have no bias either.
_KERNEL_SIZE = 7


class LocalEnhancement(nn.Module):
    """Two gates on video tokens: of each token by its neighbours in the frame, then by itself alone."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, _KERNEL_SIZE, padding=_KERNEL_SIZE // 2, bias=False)
        self.temporal = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(self.spatial.weight)
        nn.init.zeros_(self.temporal.weight)

    def forward(self, hidden_states: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        """Gates video tokens (B, T*H*W, D); returns the same shape."""
        num_frames, height, width = grid
        maps = _statistics(hidden_states).reshape(-1, num_frames, height, width, 2).flatten(0, 1)
        gate = self.spatial(maps.permute(0, 3, 1, 2)).reshape(hidden_states.shape[0], -1, 1)
        hidden_states = hidden_states * (2 * F.sigmoid(gate))
        return hidden_states * (2 * F.sigmoid(self.temporal(_statistics(hidden_states))))


def _statistics(hidden_states: torch.Tensor) -> torch.Tensor:
    """(B, L, D) to the mean and the largest of each token's channels, (B, L, 2)."""
    return torch.stack([hidden_states.mean(-1), hidden_states.amax(-1)], dim=-1)
