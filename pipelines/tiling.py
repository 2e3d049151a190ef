"""The weights that fuse what overlapping spans produce.

One axis at a time: rows, columns and time all use the same functions, a 2-D weight is the product of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Literal

import torch

from pipelines.planning.spans import Span, TileGrid

Blend = Literal["fade", "cut"]


def fade_weights(spans: Sequence[Span], length: int) -> list[torch.Tensor]:
    """Weights that are one where a span is alone and cross over linearly, centred on each seam.

    PatchVSR (arXiv 2509.26025, section 3.4) weighs an auxiliary patch that straddles a seam s by
    max(0, 1 - |x - s| / a). Taken as one row of overlapping patches that is a ramp over each overlap; at
    50 % overlap the ramps meet and give exactly its triangles. Where more than two spans meet, the ramps
    are normalised by their sum.

    Returns:
        For each span its weights, (span.size,), float32; over all spans they sum to one at every sample.
    """
    total = torch.zeros(length, dtype=torch.float64)
    ramps: list[torch.Tensor] = []
    for index, span in enumerate(spans):
        position = torch.arange(span.start, span.stop, dtype=torch.float64) + 0.5
        ramp = torch.ones(span.size, dtype=torch.float64)
        if index > 0 and spans[index - 1].stop > span.start:
            ramp = ramp.minimum((position - span.start) / (spans[index - 1].stop - span.start))
        if index + 1 < len(spans) and spans[index + 1].start < span.stop:
            ramp = ramp.minimum((span.stop - position) / (span.stop - spans[index + 1].start))
        ramps.append(ramp)
        total[span.slice] += ramp
    return [(ramp / total[span.slice]).float() for ramp, span in zip(ramps, spans, strict=True)]


def cut_weights(spans: Sequence[Span], length: int) -> list[torch.Tensor]:
    """Weights of a hard cut in the middle of each overlap: every sample belongs to exactly one span.

    Returns:
        For each span its weights, (span.size,), float32, zeros and ones.
    """
    weights: list[torch.Tensor] = []
    for index, span in enumerate(spans):
        low = _seam(spans[index - 1], span) if index > 0 else 0
        high = _seam(span, spans[index + 1]) if index + 1 < len(spans) else length
        position = torch.arange(span.start, span.stop)
        weights.append(((position >= low) & (position < high)).float())
    return weights


def _seam(left: Span, right: Span) -> int:
    return right.start + (left.stop - right.start) // 2


def blend_weights(spans: Sequence[Span], length: int, blend: Blend) -> list[torch.Tensor]:
    """`fade_weights` or `cut_weights` by name."""
    return fade_weights(spans, length) if blend == "fade" else cut_weights(spans, length)


def tile_weights(grid: TileGrid, blend: Blend) -> list[torch.Tensor]:
    """For every tile of a grid its (height, width) weight, float32; they sum to one at every pixel."""
    rows = blend_weights(grid.rows, grid.height, blend)
    cols = blend_weights(grid.cols, grid.width, blend)
    return [row[:, None] * col[None, :] for row in rows for col in cols]


class TileFusion:
    """Accumulates weighted tiles of a frame-like tensor (..., height, width) in float32.

    Args:
        grid: The tiles.
        blend: How overlaps are fused.
    """

    def __init__(self, grid: TileGrid, blend: Blend) -> None:
        self.grid = grid
        self._weights = tile_weights(grid, blend)
        self._sum: torch.Tensor | None = None
        self._dtype = torch.float32

    def another(self) -> TileFusion:
        """An empty fusion of the same tiles, which shares the weights."""
        fusion = copy(self)
        fusion._sum = None
        return fusion

    def add(self, index: int, tile: torch.Tensor) -> None:
        """Adds tile number `index` of the grid, (..., tile height, tile width)."""
        if len(self.grid) == 1:  # nothing to fuse: keep the tile itself, bit for bit
            self._sum, self._dtype = tile, tile.dtype
            return
        if self._sum is None:
            shape = (*tile.shape[:-2], self.grid.height, self.grid.width)
            self._sum = torch.zeros(shape, dtype=torch.float32, device=tile.device)
            self._dtype = tile.dtype
        row, col = self.grid.tiles[index]
        weight = self._weights[index].to(tile.device)
        self._sum[..., row.slice, col.slice] += tile.float() * weight

    def result(self) -> torch.Tensor:
        """Hands out the fused tensor (..., height, width), in the tiles' dtype, and forgets it.

        Raises:
            ValueError: If no tile was added.
        """
        if self._sum is None:
            raise ValueError("no tile was added")
        # Not kept: who waits in a `yield` with the fusion still at hand would hold a whole chunk in float32.
        total, self._sum = self._sum, None
        return total.to(self._dtype)
