"""Sparse local attention: boxes attend to themselves and to the most similar boxes of the clip.

SimpleGVR (arXiv 2506.19838, https://arxiv.org/abs/2506.19838): windows of tokens attend to themselves and the
k windows with the highest score, the product of mean query and mean key (as in MoBA, arXiv 2502.13189). What
the paper leaves open is ours: scores are per head, from rotated keys, and text keys are seen by all boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipelines.dove.attention.boxes import Boxes, attend_in_boxes
from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid


@dataclass(frozen=True)
class SparsePattern:
    """Each box of tokens sees itself, the text, and the boxes that are most similar to it.

    Boxes are clamped to the grid, so on grids that are not whole boxes neighbours share tokens; one that a
    query sees in two boxes counts twice. Text attends to itself alone.

    Attributes:
        window: Frames, rows and columns of a box.
        num_similar: Other boxes that one sees; all others where there are fewer.
    """

    window: TokenGrid
    num_similar: int

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`.

        Raises:
            ValueError: If the grid is missing.
        """
        boxes = Boxes(tokens.checked_grid(), self.window)
        query, key, value = (boxes.split(x) for x in tokens.video)
        chosen = most_similar(query, key, self.num_similar)
        keys, values = (torch.cat([x, _pick(x, chosen)], dim=3) for x in (key, value))
        text_query, text_key, text_value = tokens.text
        text = F.scaled_dot_product_attention(text_query, text_key, text_value)
        video = boxes.join(attend_in_boxes(kernel, query, keys, values, text_key, text_value))
        return torch.cat([text, video], dim=2)


@torch.no_grad()
def most_similar(query: torch.Tensor, key: torch.Tensor, num_similar: int) -> torch.Tensor:
    """For each box the others with the highest product of mean query and mean key.

    Args:
        query: (B, heads, boxes, tokens, d).
        key: The same.
        num_similar: Boxes wanted.

    Returns:
        (B, heads, boxes, k), int64, k = min(num_similar, boxes - 1).
    """
    scores = query.mean(dim=3) @ key.mean(dim=3).mT
    scores.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    return scores.topk(min(num_similar, scores.shape[-1] - 1), dim=-1).indices


def _pick(x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(B, heads, boxes, tokens, d) and (B, heads, boxes, k) -> (B, heads, boxes, k * tokens, d)."""
    batch_size, heads, num_boxes = x.shape[:3]
    first = num_boxes * torch.arange(batch_size * heads, device=x.device).view(batch_size, heads, 1, 1)
    picked = x.flatten(0, 2)[chosen + first]
    return picked.flatten(3, 4)
