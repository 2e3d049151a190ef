"""Windows with a global view: shifted windows beside attention to pooled keys of the whole clip.

After UltraGen (arXiv 2510.18775, https://arxiv.org/abs/2510.18775), whose global branch attends on tokens
compressed by a strided depth-wise convolution that starts as averaging, and is added through a gate. Ours:
queries stay at full size, so nothing is enlarged again; keys are pooled after their rotation, so that a query
meets the mean of a cell's logits; the gate is one number for each layer, since a one-step model has one
timestep. It starts at 0: the layer is then the windows alone, which a checkpoint of these can start from.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.attention.windows import WindowPattern
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid


class GlobalWindowPattern(nn.Module):
    """Windows over all frames, and the whole clip in cells of pool x pool tokens of a frame.

    A video token's result is (1 - gate) times that of its window plus gate times attention to all cells; text
    keys are in both. Text attends to itself alone, as with windows.

    Args:
        num_heads: Heads.
        head_dim: Channels of each.
        window: Window height and width in tokens.
        shifted: Whether windows start half a window earlier.
        pool: Side of a cell in tokens; cells at the lower and right border may hold fewer.

    Weights: `pool_key` and `pool_value` (heads, pool, pool, d), `gate` (scalar).
    """

    def __init__(
        self, num_heads: int, head_dim: int, *, window: tuple[int, int], shifted: bool, pool: int
    ) -> None:
        super().__init__()
        self.windows, self.pool = WindowPattern(window, shifted=shifted), pool
        mean = torch.full((num_heads, pool, pool, head_dim), 1 / pool**2)
        self.pool_key, self.pool_value = nn.Parameter(mean), nn.Parameter(mean.clone())
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`.

        Raises:
            ValueError: If the grid is missing.
        """
        grid, (query, key, value) = tokens.checked_grid(), tokens.video
        text_query, text_key, text_value = tokens.text
        turned = replace(
            tokens,
            query=torch.cat([text_query, query], dim=2),
            key=torch.cat([text_key, key], dim=2),
            rotary=None,
        )
        local = self.windows(turned, kernel)
        keys = torch.cat([text_key, pool_frames(key, grid, self.pool_key)], dim=2)
        values = torch.cat([text_value, pool_frames(value, grid, self.pool_value)], dim=2)
        everywhere = kernel(query, keys, values)
        count, gate = tokens.num_text, self.gate.to(local.dtype)
        return torch.cat([local[:, :, :count], torch.lerp(local[:, :, count:], everywhere, gate)], dim=2)


def pool_frames(x: torch.Tensor, grid: TokenGrid, weight: torch.Tensor) -> torch.Tensor:
    """Weighted sums over cells of each frame: a depth-wise strided convolution.

    Args:
        x: (B, heads, T*H*W, d).
        grid: T, H, W.
        weight: (heads, p, p, d). Where a cell reaches over the border, its tokens' weights are scaled up by
            the share that is missing, so that averaging stays averaging.

    Returns:
        (B, heads, T * ceil(H / p) * ceil(W / p), d).
    """
    pool = weight.shape[1]
    rows, cols = (-(-side // pool) for side in grid[1:])
    x = x.reshape(*x.shape[:2], *grid, x.shape[-1])
    x = F.pad(x, (0, 0, 0, cols * pool - grid[2], 0, rows * pool - grid[1]))
    cells = x.reshape(*x.shape[:3], rows, pool, cols, pool, x.shape[-1])
    pooled = torch.einsum("zhtyixjd,hijd->zhtyxd", cells, weight.to(x.dtype))
    counts = [
        (length - pool * torch.arange(number, device=x.device)).clamp(max=pool)
        for length, number in ((grid[1], rows), (grid[2], cols))
    ]
    share = (counts[0][:, None] * counts[1]).to(x.dtype) / pool**2
    return (pooled / share[..., None]).flatten(2, 4)
