"""MHLA: linear attention whose token blocks are mixed by a learned matrix.

Multi-Head Linear Attention (arXiv 2601.07832, section 3, https://arxiv.org/abs/2601.07832): tokens lie in
m blocks of the grid. With phi(x) = ReLU(x) + eps and R the rotation to a token's place,

    S_b  = sum over j in b of R phi(k_j) v_j^T        z_b  = sum over j in b of phi(k_j)
    S~_i = sum over b of M[i, b] S_b                  z~_i = sum over b of M[i, b] z_b
    o_q  = (R phi(q))^T S~_i / (phi(q)^T z~_i + eps)  for a query q in block i

A token costs d^2 multiplications per head whatever the clip's length, and what is kept beside the tokens are
m matrices of d x d per head. The division is the paper's. Its authors' code mixes the denominators of other
blocks' queries instead (`same_offset`, kept to compare with their outputs) and leaves it out for video
(`none`). As in that code each head's output then passes an RMSNorm, and a gate SiLU(g(x)) where there is one.

Text, which has no place in the grid, is one block more. It is seen by all video blocks, each with a learned
weight that starts at 1/m, the mean of the matrix's initial entries; text queries see all blocks with weight
1/m, which is plain linear attention.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.dove.attention.tokens import JointTokens, rotate
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import MixingStart, TokenGrid

Normalizer = Literal["paper", "same_offset", "none"]


def initial_mixing(
    blocks: TokenGrid, start: MixingStart = "linear", *, exp_sigma: float = 3.0, local_distance: float = 1.5
) -> torch.Tensor:
    """The matrix from which mixing starts: the nearer two blocks, the larger their weight.

    With D the distance of two blocks' centres in blocks, relative to the largest: `linear` 1 - D, `cos`
    cos(pi D / 4); of the distance itself, `exp` exp(-d / exp_sigma) and `local` 1 up to `local_distance`;
    columns then sum to 1. `gaussian` is exp(-d^2 / (2 sigma^2)) with a third of the largest as sigma, and is
    not normalised. These are the authors' (their `transform`), who normalise columns, not rows as the paper.

    Args:
        blocks: Number of blocks along time, height and width.
        start: One of the functions above.
        exp_sigma: Of `exp`, in blocks.
        local_distance: Of `local`, in blocks.

    Returns:
        (m, m), float32; row: block of the query, column: block of the keys. A single block has weight 1.
    """
    axes = [torch.arange(count, dtype=torch.float32) for count in blocks]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    distance = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    farthest = distance.max().clamp(min=1.0)
    if start == "gaussian":
        return torch.exp(-distance.square() / (2 * (farthest / 3) ** 2))
    weights = {
        "linear": 1 - distance / farthest,
        "cos": torch.cos(math.pi / 4 * distance / farthest),
        "exp": torch.exp(-distance / exp_sigma),
        "local": (distance <= local_distance).float(),
    }[start]
    return weights / weights.sum(dim=0, keepdim=True)


class LinearPattern(nn.Module):
    """MHLA as the pattern of one layer.

    Args:
        num_heads: Channel heads.
        head_dim: Channels of each.
        blocks: Number of blocks along time, height and width. A grid of any size is cut into blocks of
            ceil(axis / blocks) tokens, the last of which may be smaller or empty.
        start: Initial mixing matrix.
        normalizer: Denominator; see the module.
        use_gate: Multiply by SiLU(g(x)), x being the layer's input; a new linear g, as the authors' video
            layer has it.
        use_lepe: Add a depth-wise 3x3x3 convolution of the video's values (after the gate, none for text).
        eps: Of phi, of the denominator and of the norm.

    Weights: `mixing` (m, m), `text_mixing` (m), `norm` (d), `gate` and `lepe` where there are. All begin so
    that the layer is ready to be trained; none of them comes from a checkpoint with softmax attention.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        blocks: TokenGrid,
        start: MixingStart = "linear",
        normalizer: Normalizer = "paper",
        use_gate: bool = True,
        use_lepe: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        dim, num_blocks = num_heads * head_dim, math.prod(blocks)
        self.blocks, self.normalizer, self.eps = blocks, normalizer, eps
        self.mixing = nn.Parameter(initial_mixing(blocks, start))
        self.text_mixing = nn.Parameter(torch.full((num_blocks,), 1 / num_blocks))
        self.norm = nn.Parameter(torch.ones(head_dim))
        self.gate = nn.Linear(dim, dim) if use_gate else None
        self.lepe = nn.Conv3d(dim, dim, 3, padding=1, groups=dim) if use_lepe else None

    def forward(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`. Computes in float32 (float64 stays); the softmax kernel is not used.

        Raises:
            ValueError: If the grid is missing.
        """
        del kernel
        grid, dtype = tokens.checked_grid(), tokens.value.dtype
        with torch.autocast(tokens.value.device.type, enabled=False):
            attended = self._attend(tokens, grid)
            mean_square = attended.square().mean(dim=-1, keepdim=True)
            attended = attended * (mean_square + self.eps).rsqrt() * self.norm
        attended = attended.to(dtype)
        if self.gate is not None:
            gate: torch.Tensor = F.silu(self.gate(tokens.states))
            attended = attended * _to_heads(gate, attended.shape[1]).to(dtype)
        if self.lepe is not None:
            attended = torch.cat(
                [
                    attended[:, :, : tokens.num_text],
                    attended[:, :, tokens.num_text :] + self._lepe(tokens, grid),
                ],
                dim=2,
            )
        return attended

    def _attend(self, tokens: JointTokens, grid: TokenGrid) -> torch.Tensor:
        """The formula of the module, (B, heads, L, d) in float32 or float64."""
        wide = torch.promote_types(tokens.value.dtype, torch.float32)
        query, key = (F.relu(x.to(wide)) + self.eps for x in (tokens.query, tokens.key))
        value, count = tokens.value.to(wide), tokens.num_text
        text_query, text_key, text_value = query[:, :, :count], key[:, :, :count], value[:, :, :count]
        features = query[:, :, count:], key[:, :, count:]
        rotated = features if tokens.rotary is None else [rotate(x, tokens.rotary) for x in features]
        to_blocks = Blocks(grid, self.blocks)
        video_query, video_key = (to_blocks.split(x) for x in rotated)
        mixing, text_mixing = self.mixing.to(wide), self.text_mixing.to(wide)

        states = video_key.transpose(-1, -2) @ to_blocks.split(value[:, :, count:])
        text_state = text_key.transpose(-1, -2) @ text_value
        numerator = video_query @ (
            torch.einsum("ib,zhbde->zhide", mixing, states)
            + text_mixing[:, None, None] * text_state[:, :, None]
        )
        text_numerator = text_query @ (text_state + states.sum(dim=2)) / len(mixing)
        if self.normalizer == "none":
            return torch.cat([text_numerator, to_blocks.join(numerator)], dim=2)

        split_query, split_key = (to_blocks.split(x) for x in features)
        sums, text_sum = split_key.sum(dim=3), text_key.sum(dim=2)
        if self.normalizer == "paper":
            mixed = torch.einsum("ib,zhbd->zhid", mixing, sums)
            denominator = (split_query * mixed[:, :, :, None]).sum(dim=-1)
        else:
            own = (split_query * sums[:, :, :, None]).sum(dim=-1)
            denominator = torch.einsum("ib,zhbn->zhin", mixing, own)
        from_text = (split_query * text_sum[:, :, None, None]).sum(dim=-1)
        denominator = denominator + text_mixing[:, None] * from_text + self.eps
        everything = (text_sum + sums.sum(dim=2))[:, :, None] / len(mixing)
        text_denominator = (text_query * everything).sum(dim=-1) + self.eps
        return torch.cat(
            [
                text_numerator / text_denominator[..., None],
                to_blocks.join(numerator / denominator[..., None]),
            ],
            dim=2,
        )

    def _lepe(self, tokens: JointTokens, grid: TokenGrid) -> torch.Tensor:
        assert self.lepe is not None
        value = tokens.value[:, :, tokens.num_text :].transpose(-1, -2).flatten(1, 2)
        # The bits of a convolution in bfloat16 depend on where its input lies in memory.
        local = self.lepe(value.reshape(*value.shape[:2], *grid).contiguous())
        return _to_heads(local.flatten(2).mT, tokens.value.shape[1]).to(value.dtype)


class Blocks:
    """A grid of tokens cut into equal blocks, with zeros where the grid ends before the last block does.

    Args:
        grid: T, H, W.
        blocks: Number of blocks along each.
    """

    def __init__(self, grid: TokenGrid, blocks: TokenGrid) -> None:
        self.grid, self.blocks = grid, blocks
        self.size = tuple(-(-axis // count) for axis, count in zip(grid, blocks, strict=True))
        whole = [count * size for count, size in zip(blocks, self.size, strict=True)]
        self._missing = [full - axis for full, axis in zip(whole, grid, strict=True)]

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads, T*H*W, d) -> (B, heads, m, tokens of a block, d)."""
        x = x.reshape(*x.shape[:2], *self.grid, x.shape[-1])
        if any(self._missing):
            time, height, width = self._missing
            x = F.pad(x, (0, 0, 0, width, 0, height, 0, time))
        cut = [length for axis in zip(self.blocks, self.size, strict=True) for length in axis]
        x = x.reshape(*x.shape[:2], *cut, x.shape[-1])
        return x.permute(0, 1, 2, 4, 6, 3, 5, 7, 8).flatten(5, 7).flatten(2, 4)

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Inverse of `split`."""
        x = x.reshape(*x.shape[:2], *self.blocks, *self.size, x.shape[-1])
        x = x.permute(0, 1, 2, 5, 3, 6, 4, 7, 8).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, : self.grid[0], : self.grid[1], : self.grid[2]].flatten(2, 4)


def _to_heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, L, D) -> (B, heads, L, d)."""
    return x.reshape(*x.shape[:2], num_heads, -1).transpose(1, 2)
