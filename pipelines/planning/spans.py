"""Spans that cover an axis, and grids of tiles made of them. Arithmetic on whole numbers, no torch.

One axis at a time: rows, columns and time all use the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


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


def disjoint_tiles(frame: tuple[int, int], tile: tuple[int, int]) -> TileGrid:
    """Equal tiles without overlap, at most `tile` (height, width) large; a 0 in it gives the whole frame."""
    if min(tile) == 0:
        return TileGrid((Span(0, frame[0]),), (Span(0, frame[1]),))
    rows, cols = (equal_spans(length, min(side, length), 0) for length, side in zip(frame, tile, strict=True))
    return TileGrid(tuple(rows), tuple(cols))
