"""Spans that cover an axis, and the weights that fuse what overlapping spans produce.

One axis at a time: rows, columns and time all use the same functions, a 2-D weight is the product of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch

Blend = Literal["fade", "cut"]


class Span(NamedTuple):
    """A half-open range [start, stop) of an axis."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)

    def scaled(self, numerator: int, denominator: int = 1) -> Span:
        """The same range on an axis with `numerator / denominator` as many samples.

        Raises:
            ValueError: If an end does not fall on a sample.
        """
        for end in self:
            if end * numerator % denominator:
                raise ValueError(f"{self} does not scale by {numerator}/{denominator} to whole samples")
        return Span(self.start * numerator // denominator, self.stop * numerator // denominator)


def equal_spans(length: int, size: int, overlap: int, *, multiple: int = 1) -> list[Span]:
    """Covers an axis with spans of one size that overlap by at least `overlap`.

    Equal sizes keep compiled and captured networks at one shape and let tiles be batched; what is left over
    becomes more overlap instead of a shorter last span.

    Args:
        length: Samples on the axis, a multiple of `multiple`.
        size: Samples in a span, a multiple of `multiple`; a span is never longer than the axis.
        overlap: Smallest overlap of neighbours, in samples; rounded up to `multiple`.
        multiple: Starts and sizes are multiples of this.

    Raises:
        ValueError: If sizes are not multiples, or the overlap leaves no stride.
    """
    if length < 1 or size < 1 or length % multiple or size % multiple:
        raise ValueError(f"length {length} and size {size} must be positive multiples of {multiple}")
    if size >= length:
        return [Span(0, length)]
    units, span, shared = length // multiple, size // multiple, -(-overlap // multiple)
    stride = span - shared
    if stride < 1:
        raise ValueError(f"overlap {overlap} leaves no stride for spans of {size} samples")
    count = -(-(units - shared) // stride)
    starts = [index * (units - span) // (count - 1) for index in range(count)]
    return [Span(start * multiple, (start + span) * multiple) for start in starts]


def reference_spans(length: int, size: int, overlap: int) -> list[Span]:
    """DOVE's rule: regular starts, a short last span is merged into the one before (up to twice the size).

    https://github.com/zhengchen1999/DOVE/blob/ad649cc/inference_script.py (make_temporal_chunks and
    make_spatial_tiles). A size of 0 means one span.

    Raises:
        ValueError: If the overlap leaves no stride.
    """
    if size <= 0 or length <= overlap:
        return [Span(0, length)]
    if overlap >= size:
        raise ValueError(f"overlap {overlap} leaves no stride for spans of {size} samples")
    spans = [Span(start, min(start + size, length)) for start in range(0, length - overlap, size - overlap)]
    if len(spans) > 1 and spans[-1].size < size:
        spans[-2:] = [Span(spans[-2].start, length)]
    return spans


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


@dataclass(frozen=True)
class TileGrid:
    """Tiles of a frame, row by row.

    Attributes:
        rows: Spans along height.
        cols: Spans along width.
    """

    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    @property
    def height(self) -> int:
        return self.rows[-1].stop

    @property
    def width(self) -> int:
        return self.cols[-1].stop

    @cached_property
    def tiles(self) -> tuple[tuple[Span, Span], ...]:
        """(row, column) spans in the order in which DOVE visits them."""
        return tuple((row, col) for row in self.rows for col in self.cols)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def scaled(self, numerator: int, denominator: int = 1) -> TileGrid:
        """The grid on a frame of another resolution, for instance in latent pixels."""
        return TileGrid(
            tuple(span.scaled(numerator, denominator) for span in self.rows),
            tuple(span.scaled(numerator, denominator) for span in self.cols),
        )

    def weights(self, blend: Blend) -> list[torch.Tensor]:
        """For every tile its (height, width) weight, float32; they sum to one at every pixel."""
        rows = blend_weights(self.rows, self.height, blend)
        cols = blend_weights(self.cols, self.width, blend)
        return [row[:, None] * col[None, :] for row in rows for col in cols]


class TileFusion:
    """Accumulates weighted tiles of a frame-like tensor (..., height, width) in float32.

    Args:
        grid: The tiles.
        blend: How overlaps are fused.
    """

    def __init__(self, grid: TileGrid, blend: Blend) -> None:
        self.grid = grid
        self._weights = grid.weights(blend)
        self._sum: torch.Tensor | None = None
        self._dtype = torch.float32

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
        """The fused tensor (..., height, width), in the tiles' dtype.

        Raises:
            ValueError: If no tile was added.
        """
        if self._sum is None:
            raise ValueError("no tile was added")
        return self._sum.to(self._dtype)
