"""Window attention: spatial windows that span all frames, odd layers shifted by half a window.

The pattern of SwiftVR (arXiv 2606.09516): windows are clamped to the grid, so all of them have the same size
and need neither mask nor padding; a token covered by two windows is read from the one in which it lies more
centrally. Text tokens are visible to every window and attend only to each other, which makes them constants
of the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid


@dataclass(frozen=True)
class AxisWindows:
    """Equal windows along one axis of n tokens.

    Attributes:
        starts: First token of each window, ascending.
        owned: For each window the tokens that are read back from it, as a half-open range relative to its
            start; together they cover the axis once, in order.
        size: Tokens in a window, min(window, n).
    """

    starts: tuple[int, ...]
    owned: tuple[tuple[int, int], ...]
    size: int

    def runs(self) -> list[tuple[slice, int]]:
        """Windows in a row with one distance and one owned range, as slices of them, with that distance."""
        steps = [right - left for left, right in pairwise(self.starts)]
        runs: list[tuple[slice, int]] = []
        for index in range(len(self.starts)):
            if runs:
                window, step = runs[-1]
                alone = window.stop - window.start == 1
                if self.owned[index] == self.owned[index - 1] and (alone or steps[index - 1] == step):
                    runs[-1] = slice(window.start, index + 1), steps[index - 1]
                    continue
            runs.append((slice(index, index + 1), self.size))
        return runs

    def gather(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Splits the axis `dim` of n tokens into two: (num_windows, size)."""
        # Slices, not index_select: that took a fifth of the whole upscaling time on a CPU.
        return torch.stack([x.narrow(dim, start, self.size) for start in self.starts], dim=dim)

    def scatter(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Joins the axes `dim` (windows) and `dim` + 1 (tokens of a window) into the n tokens again."""
        parts = [
            x.select(dim, index).narrow(dim, low, high - low)
            for index, (low, high) in enumerate(self.owned)
            if high > low
        ]
        return torch.cat(parts, dim=dim)


def axis_windows(num_tokens: int, window: int, *, shifted: bool) -> AxisWindows:
    """Places windows along an axis: starts at multiples of the window (minus half of it when shifted),
    clamped to the axis so that every window is whole. Neighbours that overlap share the overlap in halves.

    Raises:
        ValueError: If the axis or the window is empty.
    """
    if num_tokens < 1 or window < 1:
        raise ValueError(f"need at least one token and a window of at least 1, got {num_tokens} and {window}")
    size = min(window, num_tokens)
    offset = size // 2 if shifted and num_tokens > size else 0
    last = num_tokens - size
    starts = sorted({min(max(start, 0), last) for start in range(-offset, num_tokens, size)})
    # A token goes to the nearer centre; the left window keeps a token in the middle.
    borders = [0, *((left + right + size - 1) // 2 + 1 for left, right in pairwise(starts)), num_tokens]
    owned = tuple(
        (low - start, high - start) for start, (low, high) in zip(starts, pairwise(borders), strict=True)
    )
    return AxisWindows(tuple(starts), owned, size)


@dataclass(frozen=True)
class WindowPattern:
    """Joint attention inside spatial windows that span all frames.

    Attributes:
        window: Window height and width in tokens.
        shifted: Whether windows start half a window earlier (for every other layer).
    """

    window: tuple[int, int]
    shifted: bool

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`; the text, which has a few tokens, always takes torch's kernel."""
        grid = tokens.checked_grid()
        rows = axis_windows(grid[1], self.window[0], shifted=self.shifted)
        cols = axis_windows(grid[2], self.window[1], shifted=self.shifted)
        num_windows = len(rows.starts) * len(cols.starts)
        text_query, text_key, text_value = tokens.text
        text_out = F.scaled_dot_product_attention(text_query, text_key, text_value)
        query, key, value = (_partition(x, grid, rows, cols) for x in tokens.video)
        key, value = (
            torch.cat([x[:, None].expand(-1, num_windows, -1, -1, -1).flatten(0, 1), windows], dim=2)
            for x, windows in zip((text_key, text_value), (key, value), strict=True)
        )
        video_out = _merge(kernel(query, key, value), grid, rows, cols, tokens.query.shape[0])
        return torch.cat([text_out.transpose(1, 2), video_out], dim=1).transpose(1, 2)


def _partition(heads: torch.Tensor, grid: TokenGrid, rows: AxisWindows, cols: AxisWindows) -> torch.Tensor:
    """(B, heads, T*H*W, d) -> (B * windows, heads, T * window tokens, d)."""
    x = cols.gather(rows.gather(heads.reshape(*heads.shape[:2], *grid, heads.shape[-1]), 3), 5)
    # (B, heads, T, rows, row_size, cols, col_size, d) -> windows first
    return x.permute(0, 3, 5, 1, 2, 4, 6, 7).flatten(4, 6).flatten(0, 2)


def _merge(
    windows: torch.Tensor, grid: TokenGrid, rows: AxisWindows, cols: AxisWindows, batch_size: int
) -> torch.Tensor:
    """(B * windows, heads, T * window tokens, d) -> (B, T*H*W, heads, d): inverse of `_partition`."""
    heads, dim = windows.shape[1], windows.shape[-1]
    x = windows.reshape(
        batch_size, len(rows.starts), len(cols.starts), heads, grid[0], rows.size, cols.size, dim
    )
    # (B, rows, cols, heads, T, row_size, col_size, d) -> (B, T, rows, row_size, cols, col_size, heads, d)
    x = rows.scatter(cols.scatter(x.permute(0, 4, 1, 5, 2, 6, 3, 7), 4), 2)
    return x.flatten(1, 3)
