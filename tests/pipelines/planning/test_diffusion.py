"""Plans fit the budget, cover everything, and shrink step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InvalidOptionError, OutOfMemoryError, UnsupportedSizeError
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion
from pipelines.planning.shapes import DiffusionShape
from tests.pipelines.tiny import make_nano, make_transformer, make_vae

GIB = 2**30
DOVE = DiffusionShape("cogvideox", vae_channels=128, hidden_size=3072, patch_size_t=2)
NANO = DiffusionShape(
    "space_to_depth",
    vae_channels=64,
    hidden_size=192,
    patch_size_t=2,
    bytes_per_element=4,
    temporal_ratio=1,
    native_scale=4,
    attention=AttentionSettings.model_validate("window"),
)


def plan_for(
    size: tuple[int, int] = (1080, 1920),
    *,
    model: DiffusionShape = DOVE,
    gib: float = 40,
    frames: int = 100,
    **kwargs: int,
) -> DiffusionPlan:
    request = ChunkRequest(
        num_frames=frames,
        height=size[0] // 4,
        width=size[1] // 4,
        out_height=size[0],
        out_width=size[1],
        memory_bytes=int(gib * GIB),
        **kwargs,
    )
    return plan_diffusion(model, request)


@pytest.mark.parametrize(
    ("height", "width", "decode_gib", "transformer_gib"),
    [(720, 1280, 18.9, 1.4), (1088, 1920, 42.8, 3.1), (2176, 3840, 167.6, 12.2)],
)
def test_estimates_match_the_counted_peaks(
    height: int, width: int, decode_gib: float, transformer_gib: float
) -> None:
    assert DOVE.vae_bytes(height, width) / GIB == pytest.approx(decode_gib, rel=0.08)
    assert DOVE.transformer_bytes(33, height, width) / GIB == pytest.approx(transformer_gib, rel=0.08)
    assert DOVE.num_tokens(33, 720, 1280) == 18000


def test_large_memory_needs_no_tiles() -> None:
    plan = plan_for((720, 1280), gib=80)
    assert (plan.rows, plan.cols, plan.vae_tile_height) == (1, 1, 0)
    assert plan.chunk_len == 33


def test_attention_is_cut_where_it_would_be_quadratic_even_with_memory() -> None:
    plan = plan_for((2160, 3840), gib=400)
    assert plan.rows * plan.cols > 1
    assert plan.vae_tile_height == 0


@pytest.mark.parametrize(
    ("model", "size", "gib", "frames", "expected"),
    [
        (DOVE, (480, 640), 16, 100, (33, 480, 640, 1, 7_130_082_304)),
        (DOVE, (1080, 1920), 40, 100, (33, 1088, 1920, 1, 25_713_381_632)),
        (DOVE, (2160, 3840), 400, 33, (33, 1120, 1328, 1, 192_403_170_304)),
        (NANO, (1080, 1920), 1, 100, (16, 416, 384, 1, 1_069_420_544)),
        (NANO, (1080, 1920), 4, 5, (5, 1088, 1920, 1, 1_092_891_904)),
        (NANO, (2160, 3840), 4, 100, (16, 768, 1008, 1, 4_292_952_064)),
    ],
)
def test_plans_are_those_from_before_patterns_told_their_cost(
    model: DiffusionShape, size: tuple[int, int], gib: float, frames: int, expected: tuple[int, ...]
) -> None:
    """Resumed runs and jobs of other workers hold such plans."""
    plan = plan_for(size, model=model, gib=gib, frames=frames)
    got = plan.chunk_len, plan.tile_height, plan.tile_width, plan.tile_batch, plan.estimated_bytes
    assert got == expected


@pytest.mark.parametrize(
    ("attention", "is_whole"),
    [
        ("window", True),
        ("window+global", True),
        ("sparse", True),
        ({"pattern": "linear", "blocks": [1, 5, 8]}, True),
        ({"pattern": "routed", "heads": [["window", "frame"]]}, True),
        ({"pattern": "routed", "heads": [["window", "global"]]}, False),
        (["full", {"pattern": "linear", "blocks": [1, 5, 8]}], False),
        ({"pattern": "units", "unit": 2, "inside": "window"}, True),
        ({"pattern": "units", "unit": 2}, False),
    ],
)
def test_2160p_is_left_whole_where_a_query_has_few_keys(attention: Any, is_whole: bool) -> None:
    model = replace(DOVE, attention=AttentionSettings.model_validate(attention))
    plan = plan_for((2160, 3840), model=model, gib=400)
    assert (plan.rows * plan.cols == 1) is is_whole


def test_a_long_clip_in_units_is_left_whole() -> None:
    """201 frames of 720p have 93,600 tokens, and a query 7,200 or 18,000 keys."""
    for unit, is_whole in ((None, False), (2, True), (5, True)):
        attention: Any = {"pattern": "units", "unit": unit} if unit else "full"
        model = replace(DOVE, attention=AttentionSettings.model_validate(attention))
        plan = plan_for((720, 1280), model=model, gib=100, frames=201, chunk=0)
        assert plan.chunk_len == 201
        assert (plan.rows * plan.cols == 1) is is_whole


@given(
    st.integers(64, 2160),
    st.integers(64, 3840),
    st.floats(1, 100),
    st.floats(1, 4),
    st.sampled_from([DOVE, NANO]),
)
def test_more_memory_never_means_smaller_pieces_and_the_budget_is_kept(
    height: int, width: int, gib: float, factor: float, model: DiffusionShape
) -> None:
    try:
        small = plan_for((height, width), model=model, gib=gib)
    except OutOfMemoryError as refusal:
        if refusal.required_bytes is None or refusal.required_bytes <= gib * GIB:
            raise
        return
    large = plan_for((height, width), model=model, gib=gib * factor)
    assert small.estimated_bytes <= gib * GIB
    assert large.estimated_bytes <= gib * factor * GIB
    assert large.chunk_len >= small.chunk_len
    if large.chunk_len == small.chunk_len:
        assert large.tile_height * large.tile_width >= small.tile_height * small.tile_width


@given(st.integers(1, 400), st.integers(1, 70), st.integers(0, 30))
def test_chunks_have_8k_plus_1_frames(num_frames: int, chunk: int, overlap: int) -> None:
    padded = DOVE.padded_frames(num_frames)
    assert padded >= num_frames
    assert padded % 8 == 1
    plan = plan_for(frames=num_frames, chunk=chunk, chunk_overlap=overlap)
    assert plan.chunk_len % 8 == 1
    assert plan.chunk_len >= min(chunk, padded)
    assert plan.chunk_overlap <= overlap


@given(st.integers(16, 2000), st.integers(16, 2000), st.integers(16, 700), st.integers(0, 100))
def test_tiles_lie_on_whole_tokens_have_one_size_and_cover_the_frame(
    height: int, width: int, tile: int, overlap: int
) -> None:
    try:
        plan = plan_for((height, width), tile=tile, overlap=overlap)
    except InvalidOptionError:
        assert tile - overlap < 32
        return
    padded = height + -height % 16, width + -width % 16
    grid = plan.tile_grid(*padded, multiple=16)
    assert (len(grid.rows), len(grid.cols)) == (plan.rows, plan.cols)
    assert (grid.height, grid.width) == padded
    assert len({(row.size, col.size) for row, col in grid.tiles}) == 1
    assert all(end % 16 == 0 for pair in grid.tiles for span in pair for end in span)


def test_smaller_plans_end_and_each_is_smaller() -> None:
    plan: DiffusionPlan | None = plan_for((2160, 3840), gib=60)
    steps = 0
    while plan is not None and (smaller := plan.smaller()) is not None:
        before, after = (
            (p.chunk_len, p.tile_height * p.tile_width * p.tile_batch, p.vae_tile_height * p.vae_tile_width)
            for p in (plan, smaller)
        )
        assert after != before
        assert smaller.estimated_bytes <= plan.estimated_bytes
        plan, steps = smaller, steps + 1
    assert 3 < steps < 40
    assert plan is not None
    assert (plan.chunk_len, plan.tile_height, plan.vae_tile_height) == (33, 128, 128)


def test_stage_that_failed_shrinks_first() -> None:
    plan = plan_for((1080, 1920), gib=100)
    vae, transformer = plan.smaller("vae"), plan.smaller("transformer")
    assert vae is not None
    assert transformer is not None
    assert (vae.vae_tile_height > 0, vae.tile_height) == (True, plan.tile_height)
    assert (transformer.vae_tile_height, transformer.tile_width < plan.tile_width) == (0, True)


def test_finishing_goes_down_to_single_frames_before_the_decoder_shrinks() -> None:
    plan = plan_for((360, 640), gib=100)
    sizes: list[tuple[int, int]] = []
    smaller: DiffusionPlan | None = plan
    while (smaller := smaller.smaller("finish")) is not None:
        assert replace(smaller, finish_frames=0, vae_tile_height=0, vae_tile_width=0, estimated_bytes=0) == (
            replace(plan, estimated_bytes=0)
        )
        assert smaller.estimated_bytes <= plan.estimated_bytes
        sizes.append((smaller.finish_frames, smaller.vae_tile_height))
    assert sizes[:3] == [(4, 0), (2, 0), (1, 0)]
    assert sizes[3] == (1, 368)
    large = plan_for((720, 1280), gib=100).smaller("finish")
    assert large is not None
    assert "finished 1 at once" in large.describe()


def test_finishing_of_frames_in_one_piece_has_a_size_too() -> None:
    plan = plan_for((720, 1280), model=replace(NANO, is_streamed=True), gib=8)
    smaller = plan.smaller("finish")
    assert smaller is not None
    assert (plan.tile_height, smaller.tile_height, smaller.finish_frames) == (720, 720, 1)


def test_plan_written_by_hand_has_no_smaller_one() -> None:
    assert DiffusionPlan(chunk_len=9).smaller() is None


def test_wishes_are_kept() -> None:
    plan = plan_for((720, 1280), gib=80, tile=320, overlap=160, chunk=17)
    assert (plan.tile_height, plan.tile_width, plan.overlap, plan.chunk_len) == (320, 320, 160, 17)
    assert plan_for((720, 1280), gib=80, tile=0).tile_height == 720
    assert plan_for((720, 1280), gib=80, chunk=0, frames=41).chunk_len == 41


def test_longer_chunks_are_made_for_who_asks_for_them() -> None:
    assert plan_for((720, 1280), gib=400).chunk_len == 33
    plan = plan_for((720, 1280), gib=40, chunk=73)
    assert (plan.chunk_len, plan.chunk_overlap, plan.rows * plan.cols) == (73, 9, 1)
    with pytest.raises(OutOfMemoryError):
        plan_for((720, 1280), gib=1.5, chunk=73)


def test_small_tiles_pass_the_transformer_together() -> None:
    assert plan_for((720, 1280), gib=80, tile=320).tile_batch == 4


@pytest.mark.parametrize(
    "wish", [{"tile": -1}, {"overlap": -1}, {"chunk": -1}, {"tile": 64, "overlap": 64}, {"frames": 0}]
)
def test_impossible_wishes_are_refused(wish: dict[str, int]) -> None:
    with pytest.raises(InvalidOptionError):
        plan_for(**wish)


def test_too_little_memory_is_said_before_the_work_starts() -> None:
    with pytest.raises(OutOfMemoryError, match="GiB are free") as caught:
        plan_for((2160, 3840), gib=0.5)
    assert caught.value.code == "out_of_memory"


def test_fixed_scale_networks_are_planned_at_their_own_size() -> None:
    request = ChunkRequest(
        num_frames=5, height=50, width=60, out_height=999, out_width=999, memory_bytes=8 * GIB
    )
    plan = plan_diffusion(NANO, request)
    assert (plan.tile_height, plan.tile_width) == (208, 240)


ALONE = {
    "attention": AttentionSettings.model_validate({"pattern": "units", "unit": 1, "inside": "window"}),
    "patch_size_t": 1,
    "decoder_sees_neighbours": False,
}


@pytest.mark.parametrize("left_out", [*ALONE, None])
def test_chunks_share_no_frames_where_each_is_restored_alone(left_out: str | None) -> None:
    alone: dict[str, Any] = {name: value for name, value in ALONE.items() if name != left_out}
    plan = plan_for((128, 128), model=replace(NANO, **alone))
    assert (plan.chunk_len, plan.chunk_overlap) == ((4, 0) if left_out is None else (16, 2))


def test_model_shape_is_read_off_loaded_modules() -> None:
    shape = DiffusionShape.of(make_vae(), make_transformer())
    assert shape == DiffusionShape("cogvideox", 4, 32, patch_size_t=2, bytes_per_element=4, head_dim=16)
    nano = DiffusionShape.of(make_nano(), make_transformer(in_channels=192))
    assert (nano.native_scale, nano.temporal_ratio, nano.alignment) == (4, 1, 16)
    assert nano.decoder_sees_neighbours


def test_unaligned_reference_tiles_are_refused() -> None:
    plan = replace(DiffusionPlan(), tile_height=64, tile_width=64, overlap_height=24, overlap_width=24)
    with pytest.raises(UnsupportedSizeError, match="multiples of 16"):
        plan.check((128, 128), model=DOVE, segmentation="reference")
