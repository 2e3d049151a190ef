"""Tiles cover everything, weights sum to one, and local networks cannot tell."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipelines.planning.spans import Span, TileGrid, equal_spans, reference_spans
from pipelines.tiling import TileFusion, blend_weights, fade_weights


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """length, size, overlap, multiple of an axis."""
    multiple = draw(st.sampled_from([1, 2, 8, 16]))
    size = draw(st.integers(2, 12))
    length = draw(st.integers(1, 60))
    overlap = draw(st.integers(0, size - 1))
    return length * multiple, size * multiple, overlap * multiple, multiple


@given(axes())
def test_equal_spans_cover_the_axis_with_one_size_and_the_asked_overlap(
    axis: tuple[int, int, int, int],
) -> None:
    length, size, overlap, multiple = axis
    spans = equal_spans(length, size, overlap, multiple=multiple)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert {span.size for span in spans} == {min(size, length)}
    assert all(span.start % multiple == 0 for span in spans)
    assert all(a.start < b.start and a.stop - b.start >= overlap for a, b in pairwise(spans))


@given(st.integers(1, 500), st.integers(1, 90), st.integers(0, 89))
def test_reference_spans_cover_the_axis(length: int, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    spans = reference_spans(length, size, overlap)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert all(a.stop >= b.start for a, b in pairwise(spans))
    assert all(span.size == size for span in spans[:-1])


@given(axes(), st.sampled_from(["fade", "cut"]))
def test_weights_are_not_negative_and_sum_to_one(axis: tuple[int, int, int, int], blend: Any) -> None:
    length, size, overlap, multiple = axis
    spans = equal_spans(length, size, overlap, multiple=multiple)
    total = torch.zeros(length)
    for span, weights in zip(spans, blend_weights(spans, length, blend), strict=True):
        assert weights.shape == (span.size,)
        assert weights.min() >= 0
        total[span.slice] += weights
    torch.testing.assert_close(total, torch.ones(length))


def test_half_overlap_gives_patchvsrs_triangles() -> None:
    spans = [Span(0, 8), Span(4, 12), Span(8, 16)]
    middle = fade_weights(spans, 16)[1]
    # w(x) = max(0, 1 - |x - s| / a) at pixel centres, seam s = 8 (the middle of the patch), half width a = 4.
    centres = torch.arange(4, 12) + 0.5
    torch.testing.assert_close(middle, 1 - (centres - 8).abs() / 4)


def test_ramp_is_centred_on_the_seam() -> None:
    left, right = fade_weights([Span(0, 10), Span(6, 16)], 16)
    torch.testing.assert_close(left[6:], torch.tensor([0.875, 0.625, 0.375, 0.125]))
    torch.testing.assert_close(right[:4], left[6:].flip(0))
    assert torch.equal(left[:6], torch.ones(6))


def test_overlap_without_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no stride"):
        equal_spans(64, 16, 16, multiple=16)
    with pytest.raises(ValueError, match="leaves no stride"):
        reference_spans(64, 16, 16)


def grid_of(height: int, width: int, tile: int, overlap: int) -> TileGrid:
    return TileGrid(tuple(equal_spans(height, tile, overlap)), tuple(equal_spans(width, tile, overlap)))


def run_tiled(net: Any, frame: torch.Tensor, grid: TileGrid, blend: Any = "fade") -> torch.Tensor:
    fusion = TileFusion(grid, blend)
    for index, (row, col) in enumerate(grid.tiles):
        fusion.add(index, net(frame[..., row.slice, col.slice]))
    return fusion.result()


@given(st.integers(8, 40), st.integers(8, 40), st.integers(4, 12), st.sampled_from(["fade", "cut"]))
def test_pointwise_network_cannot_tell_tiles(height: int, width: int, tile: int, blend: Any) -> None:
    frame = torch.rand(1, 2, height, width)
    grid = grid_of(height, width, tile, tile // 2)
    torch.testing.assert_close(run_tiled(torch.sin, frame, grid, blend), frame.sin())


def test_network_with_a_receptive_field_within_the_cut_overlap_cannot_tell_tiles() -> None:
    """With a cut amid an overlap of twice the radius, every kept pixel sees its full surroundings."""
    kernel = torch.rand(1, 1, 7, 7)

    def net(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, kernel, padding=3)

    frame = torch.rand(1, 1, 50, 70)
    torch.testing.assert_close(run_tiled(net, frame, grid_of(50, 70, 20, 6), "cut"), net(frame))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("blend", ["fade", "cut"])
def test_one_tile_is_the_untiled_result_bit_for_bit(blend: Any, dtype: torch.dtype) -> None:
    frame = torch.randn(1, 3, 16, 24).to(dtype)
    assert torch.equal(run_tiled(torch.exp, frame, grid_of(16, 24, 32, 8), blend), frame.exp())


def test_grid_scales_only_to_whole_samples() -> None:
    grid = TileGrid((Span(0, 32), Span(16, 48)), (Span(0, 64),))
    assert grid.scaled(1, 8).rows == (Span(0, 4), Span(2, 6))
    assert grid.scaled(2).cols == (Span(0, 128),)
    with pytest.raises(ValueError, match="whole samples"):
        grid.scaled(1, 32)


def test_fusion_without_tiles_is_an_error() -> None:
    with pytest.raises(ValueError, match="no tile"):
        TileFusion(grid_of(8, 8, 4, 0), "fade").result()
