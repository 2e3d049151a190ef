"""A view of the whole frame beside any pattern, for tiles (PatchVSR, arXiv 2509.26025); nothing at first.

PatchVSR gives a patch the downsized video through keys and values of its own, and tells its place by a mask.
Ours is added to what the pattern gives, in each layer and by a gate of each head that starts at 0: a
checkpoint is fine-tuned from what it was. Projections start as the layer's; the norm of keys is the layer's.
What else is ours:

* The place is in the rotation: a token of the view has the fractional position at which it lies in the tile's
  coordinates.
* A token sees the view of its own frame (a step of the token grid) alone. Its keys are so many in a clip of
  any length, and units of frames meet no distance in time that they do not know.
* Tokens of the view are taken as they are embedded, in every layer. A layer norm, which the pattern's tokens
  have passed, takes from a flat frame what the view is for: where the embedding has no bias (1.5-5B), all
  greys above the middle are one.
* Text does not see it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipelines.dove.attention.tokens import JointTokens, RotaryEmbedding, rotate
from pipelines.dove.kernels import AttentionKernel


@dataclass(frozen=True)
class ViewTokens:
    """The view of the whole frame for a batch of tiles, P tokens for each of T frames.

    Attributes:
        states: (1 or B, T*P, D), embedded, in the order of frames.
        rotary: cos and sin of their places in each tile, (B, T*P, head_dim) each.
    """

    states: torch.Tensor
    rotary: RotaryEmbedding


class ViewBranch(nn.Module):
    """What the video of a layer takes from the view.

    Args:
        attention: diffusers' `Attention` of the layer, its projections not fused.

    Weights: `to_k` and `to_v` as the layer has them, `gate` (heads).
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        # Copies, which draw no random number: what is made after them is what it was.
        self.to_k, self.to_v = deepcopy(attention.to_k), deepcopy(attention.to_v)
        weight = attention.to_k.weight
        self.gate = nn.Parameter(torch.zeros(attention.heads, device=weight.device, dtype=weight.dtype))

    def start_as(self, attention: Any) -> None:
        """Takes projections over once more, where the layer's weights were read after this was made."""
        self.to_k.load_state_dict(attention.to_k.state_dict())
        self.to_v.load_state_dict(attention.to_v.state_dict())

    def forward(
        self,
        tokens: JointTokens,
        view: ViewTokens,
        norm_key: Callable[[torch.Tensor], torch.Tensor] | None,
        kernel: AttentionKernel,
    ) -> torch.Tensor:
        """What is added to the heads of the video, (B, heads, T*H*W, d).

        Args:
            tokens: Of the layer.
            view: Of as many frames.
            norm_key: The layer's.
            kernel: Dense softmax attention.

        Raises:
            ValueError: If the grid is missing.
        """
        num_frames, query = tokens.checked_grid()[0], tokens.video_query
        key, value = (self._heads(project(view.states), query) for project in (self.to_k, self.to_v))
        if norm_key is not None:
            key = norm_key(key)
        # As the rotation of the video's tokens, in float32 at least.
        wide = torch.promote_types(query.dtype, torch.float32)
        cos, sin = (table[:, None] for table in view.rotary)
        key = rotate(key.to(wide), (cos, sin)).to(query.dtype)
        value = value.expand(query.shape[0], -1, -1, -1)
        seen = kernel(*(_by_frame(x, num_frames) for x in (query, key, value)))
        seen = seen.reshape(-1, num_frames, *seen.shape[1:]).transpose(1, 2).flatten(2, 3)
        return seen * self.gate[:, None, None].to(seen.dtype)

    def _heads(self, projected: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """(B, S, D) to (B, heads, S, d)."""
        return projected.reshape(*projected.shape[:2], len(self.gate), -1).transpose(1, 2).to(like.dtype)


def _by_frame(heads: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B, heads, T*N, d) to (B*T, heads, N, d)."""
    frames = heads.reshape(*heads.shape[:2], num_frames, -1, heads.shape[-1])
    return frames.transpose(1, 2).flatten(0, 1)
