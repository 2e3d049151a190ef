"""Boxes of tokens in time and space, all of one size, whatever the grid's."""

from __future__ import annotations

import torch

from pipelines.dove.attention.windows import AxisWindows, axis_windows
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid


class Boxes:
    """A grid in boxes that are clamped to it (`axis_windows`), with the keys that each looks at.

    Args:
        grid: T, H, W.
        size: Frames, rows and columns of a box; what exceeds the grid is cut.
        halo: Tokens beyond the box, on both sides of each axis, that its queries see. The box of keys is
            moved into the grid where it would leave it: it holds the halo of every query, or more.
    """

    def __init__(self, grid: TokenGrid, size: TokenGrid, halo: TokenGrid = (0, 0, 0)) -> None:
        self.grid = grid
        self._axes = [
            axis_windows(length, side, shifted=False) for length, side in zip(grid, size, strict=True)
        ]
        self._key_axes = [
            _widened(axis, length, reach) for axis, length, reach in zip(self._axes, grid, halo, strict=True)
        ]
        self._counts: tuple[int, ...] = tuple(len(axis.starts) for axis in self._axes)
        self._sizes: tuple[int, ...] = tuple(axis.size for axis in self._axes)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads, T*H*W, d) -> (B, heads, boxes, tokens of a box, d)."""
        return _gather(x, self.grid, self._axes)

    def split_keys(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads, T*H*W, d) -> (B, heads, boxes, keys of a box, d)."""
        return _gather(x, self.grid, self._key_axes)

    def keys_of(self, queries: torch.Tensor) -> torch.Tensor:
        """Which keys some queries see.

        Args:
            queries: (n,), int64, numbers of tokens in the grid, on the CPU.

        Returns:
            (n, T*H*W), bool, on the CPU.
        """
        seen = []
        places = torch.unravel_index(queries, self.grid)
        for place, axis, length in zip(places, self._key_axes, self.grid, strict=True):
            first = [
                start
                for start, (low, high) in zip(axis.starts, axis.owned, strict=True)
                for _ in range(low, high)
            ]
            distance = torch.arange(length) - torch.tensor(first)[place][:, None]
            seen.append((distance >= 0) & (distance < axis.size))
        time, height, width = seen
        return (time[:, :, None, None] & height[:, None, :, None] & width[:, None, None, :]).flatten(1)

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Inverse of `split`; a token in two boxes is read from the one in which it is more central."""
        x = x.reshape(*x.shape[:2], *self._counts, *self._sizes, x.shape[-1])
        x = x.permute(0, 1, 2, 5, 3, 6, 4, 7, 8)
        for dim, axis in enumerate(self._axes, start=2):
            x = axis.scatter(x, dim)
        return x.flatten(2, 4)


def _gather(x: torch.Tensor, grid: TokenGrid, axes: list[AxisWindows]) -> torch.Tensor:
    x = x.reshape(*x.shape[:2], *grid, x.shape[-1])
    for dim, axis in zip((2, 4, 6), axes, strict=True):
        x = axis.gather(x, dim)
    return x.permute(0, 1, 2, 4, 6, 3, 5, 7, 8).flatten(5, 7).flatten(2, 4)


def _widened(axis: AxisWindows, length: int, reach: int) -> AxisWindows:
    size = min(axis.size + 2 * reach, length)
    starts = tuple(min(max(start - reach, 0), length - size) for start in axis.starts)
    return AxisWindows(starts, axis.owned, size)


def attend_in_boxes(
    kernel: AttentionKernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *text: torch.Tensor
) -> torch.Tensor:
    """One dense call for all boxes.

    Args:
        kernel: Dense attention.
        query: (B, heads, boxes, tokens, d).
        key: (B, heads, boxes, keys, d).
        value: The same.
        *text: Key and value of the text, (B, heads, L, d), which every box sees.

    Returns:
        (B, heads, boxes, tokens, d).
    """
    num_boxes = query.shape[2]
    key, value = (
        torch.cat([words[:, :, None].expand(-1, -1, num_boxes, -1, -1), x], dim=3)
        for words, x in zip(text, (key, value), strict=True)
    )
    # Boxes take the place of heads: kernels want four dimensions.
    attended = kernel(*(x.flatten(0, 1) for x in (query, key, value)))
    return attended.reshape(query.shape)
