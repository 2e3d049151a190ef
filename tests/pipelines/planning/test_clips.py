"""Plans of models that carry states: they fit, cover the frame, and shrink step by step."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import OutOfMemoryError
from pipelines.planning.clip_plan import CHUNK_LENGTHS, ClipPlan, ClipShape, plan_clips
from pipelines.planning.kinds import plan_from_json, plan_to_json, shape_from_json, shape_to_json
from pipelines.planning.plan import ChunkRequest

SHAPE = ClipShape(channels=48, element_size=4, factors=((1, 4), (2, 2), (3, 1), (4, 1)), margin=31)


def request(height: int, width: int, scale: float = 4, *, gib: float = 100, **wishes: Any) -> ChunkRequest:
    values = {"num_frames": 100, "memory_bytes": int(gib * 2**30)} | wishes
    out = {"out_height": int(height * scale), "out_width": int(width * scale)}
    return ChunkRequest(height=height, width=width, **out, **values)


@given(
    st.integers(16, 1200),
    st.integers(16, 2000),
    st.floats(0.5, 5),
    st.floats(0.01, 30),
    st.integers(1, 100),
    st.none() | st.integers(1, 60),
)
def test_plans_fit_and_cover_and_shrink(
    height: int, width: int, scale: float, gib: float, num_frames: int, chunk: int | None
) -> None:
    asked = request(height, width, scale, gib=gib, num_frames=num_frames, chunk=chunk)
    try:
        plan: ClipPlan | None = plan_clips(SHAPE, asked)
    except OutOfMemoryError as error:
        plan = None
        least = error.required_bytes or 0
    else:
        least = plan.estimated_bytes
    assert (least > asked.memory_bytes) is (plan is None)
    if plan is None:
        return
    assert plan.chunk_overlap <= plan.chunk_len // 2
    assert chunk in (None, plan.chunk_len)
    while plan is not None:
        layout = plan.layout()
        factor, _ = SHAPE.factor_for((height, width), (asked.out_height, asked.out_width))
        if layout.rows * layout.cols > 1:
            assert layout.rows * layout.height >= height * factor
            assert layout.cols * layout.width >= width * factor
        assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
        smaller = plan.smaller()
        if smaller is not None:
            assert (smaller.chunk_len, smaller.chunk_overlap) == (plan.chunk_len, plan.chunk_overlap)
            now, then = (p.tile_height * p.tile_width or 10**9 for p in (plan, smaller))
            assert then < now
        plan = smaller
    assert shape_from_json(json.loads(json.dumps(shape_to_json(SHAPE)))) == SHAPE


def test_less_memory_means_shorter_chunks_then_tiles() -> None:
    sizes = []
    gib = 8.0
    while gib > 0.05:
        try:
            plan = plan_clips(SHAPE, request(540, 960, 2, gib=gib))
        except OutOfMemoryError:
            break
        sizes.append((plan.chunk_len, plan.layout().rows * plan.layout().cols))
        assert plan.chunk_overlap > 0
        gib *= 0.8
    assert sizes[0] == (CHUNK_LENGTHS[0], 1)
    assert sizes[-1][0] == CHUNK_LENGTHS[-1]
    assert sizes[-1][1] > 1
    assert all(length == CHUNK_LENGTHS[-1] for length, num_tiles in sizes if num_tiles > 1)


def test_wishes_are_planned_as_given() -> None:
    plan = plan_clips(SHAPE, request(180, 320, chunk=5, chunk_overlap=4, tile=256, gib=0.001))
    assert (plan.chunk_len, plan.chunk_overlap, plan.tile_height, plan.tile_width) == (5, 2, 64, 64)
