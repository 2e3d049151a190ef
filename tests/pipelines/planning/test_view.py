"""The size of the view of the whole frame, and what the planner counts for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.kinds import shape_from_json, shape_to_json
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.view import view_size

SHAPE = DiffusionShape("space_to_depth", 24, 192, patch_size_t=2, temporal_ratio=1, native_scale=4)
WITH_VIEW = replace(SHAPE, view_tokens=1024)


@given(
    rows=st.integers(1, 300),
    cols=st.integers(1, 300),
    tokens=st.integers(1, 2000),
    alignment=st.integers(1, 32),
)
def test_a_view_has_whole_tokens_and_not_more_than_allowed_or_the_frame_has(
    rows: int, cols: int, tokens: int, alignment: int
) -> None:
    height, width = view_size((rows * alignment, cols * alignment), tokens=tokens, alignment=alignment)
    assert height % alignment == width % alignment == 0
    high, wide = height // alignment, width // alignment
    assert 1 <= high <= rows
    assert 1 <= wide <= cols
    assert high * wide <= tokens
    if rows * cols <= tokens:
        assert (high, wide) == (rows, cols)


def test_a_view_has_about_the_frames_shape() -> None:
    assert view_size((2160, 3840), tokens=1024, alignment=16) == (24 * 16, 42 * 16)
    assert view_size((3840, 2160), tokens=1024, alignment=16) == (42 * 16, 24 * 16)


def plan(shape: DiffusionShape, *, tile: int | None, memory_bytes: int = 1 << 40) -> DiffusionPlan:
    request = ChunkRequest(
        num_frames=16,
        height=540,
        width=960,
        out_height=2160,
        out_width=3840,
        memory_bytes=memory_bytes,
        tile=tile,
        chunk=16,
    )
    return plan_diffusion(shape, request)


def test_a_view_is_counted_where_there_is_more_than_one_tile() -> None:
    assert plan(SHAPE, tile=0).estimated_bytes == plan(WITH_VIEW, tile=0).estimated_bytes
    without, tiled = (plan(shape, tile=512) for shape in (SHAPE, WITH_VIEW))
    assert without.fit is not None
    assert tiled.fit is not None
    sizes = 16, 24 * 16, 42 * 16
    assert tiled.fit.transformer_bytes(16, (512, 512), 2) - without.fit.transformer_bytes(
        16, (512, 512), 2
    ) == WITH_VIEW.view_bytes(*sizes, batch=2)
    assert WITH_VIEW.view_bytes(*sizes) > 8 * 24 * 42 * 192 * 2  # its states alone
    keys = [made.fit.keys_per_token(16, (512, 512)) for made in (without, tiled) if made.fit]
    assert keys == [8 * 32 * 32, 8 * 32 * 32 + 24 * 42]


def test_less_memory_means_smaller_tiles_with_the_same_view() -> None:
    memory_bytes = plan(WITH_VIEW, tile=512).estimated_bytes
    tight = plan(WITH_VIEW, tile=None, memory_bytes=memory_bytes)
    assert tight.rows * tight.cols > 1
    assert tight.estimated_bytes <= memory_bytes
    assert tight.fit is not None
    assert tight.fit.view((tight.tile_height, tight.tile_width)) == (24 * 16, 42 * 16)


def test_shapes_that_workers_published_before_have_no_view() -> None:
    published = shape_to_json(WITH_VIEW)
    assert shape_from_json(published) == WITH_VIEW
    del published["view_tokens"]
    older = shape_from_json(published)
    assert isinstance(older, DiffusionShape)
    assert older.view_tokens == 0


@pytest.mark.parametrize("tile", [128, 512])
def test_smaller_plans_of_tiles_with_a_view_need_less(tile: int) -> None:
    whole = plan(WITH_VIEW, tile=tile)
    smaller = whole.smaller("transformer")
    assert smaller is None or smaller.estimated_bytes <= whole.estimated_bytes
