"""The branch that lets tiles see the whole frame, and the view's way through the pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dove.attention import JointTokens, set_attention
from pipelines.dove.attention.view import ViewBranch
from pipelines.dove.one_step import one_step, rotary_embedding
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.view import FrameView, downsize, rotary_at
from pipelines.errors import CheckpointError
from pipelines.memory_tracking import peak_memory
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.plan import ChunkRequest
from tests.pipelines.dove.test_attention import tiny_transformer
from tests.pipelines.dove.test_one_step import make_scheduler
from tests.pipelines.tiny import make_clip, make_transformer, save_checkpoint, save_nano
from tests.training.test_attention_patterns import PATTERNS

kernel = F.scaled_dot_product_attention
HEADS, DIM = 2, 16
side = st.integers(1, 5)
place = st.floats(-3, 20, allow_nan=False)


class Layer(torch.nn.Module):
    """What the branch looks at of diffusers' attention."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.to_k, self.to_v = (torch.nn.Linear(HEADS * DIM, HEADS * DIM) for _ in range(2))
        self.norm_k = torch.nn.LayerNorm(DIM)


def turned(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Heads (L, d) as complex pairs, turned by the angles of places (L, 3)."""
    angles = []
    for axis, dim in enumerate((DIM // 4, DIM // 8 * 3, DIM // 8 * 3)):
        frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(places[:, axis, None] * frequencies)
    pairs = torch.view_as_complex(x.reshape(len(x), -1, 2))
    return pairs * torch.polar(torch.ones(()).double(), torch.cat(angles, dim=-1))


@settings(max_examples=20)
@given(
    tile=st.tuples(st.integers(1, 3), side, side),
    view=st.tuples(side, side),
    frame=st.tuples(st.integers(5, 30), st.integers(5, 30)),
    origins=st.lists(st.tuples(place, place), min_size=2, max_size=2),
    num_text=st.integers(0, 2),
)
def test_it_is_cross_attention_to_keys_at_their_places_in_the_tile(
    tile: tuple[int, int, int],
    view: tuple[int, int],
    frame: tuple[int, int],
    origins: list[tuple[float, float]],
    num_text: int,
) -> None:
    layer = Layer().double()
    branch = ViewBranch(layer)
    branch.gate.data.normal_()
    num_frames, height, width = tile
    length = num_text + num_frames * height * width
    query, key, value = torch.randn(3, 2, HEADS, length, DIM, dtype=torch.float64)
    states = torch.randn(1, num_frames * view[0] * view[1], HEADS * DIM, dtype=torch.float64)
    rotary = rotary_embedding(tile, tiny_transformer(1).config, "cpu")
    tokens = JointTokens(query, key, value, states, num_text, tile, rotary)
    placed = FrameView(states, (num_frames, *view), frame, DIM).for_tiles(torch.tensor(origins))
    with torch.no_grad():
        got = branch(tokens, placed, layer.norm_k, kernel)
        for number, (top, left) in enumerate(origins):
            for head in range(HEADS):
                channels = slice(head * DIM, (head + 1) * DIM)
                keys = layer.norm_k(layer.to_k(states)[0, :, channels])
                values = layer.to_v(states)[0, :, channels]
                of_keys = torch.tensor(
                    [
                        (
                            t,
                            (y + 0.5) * frame[0] / view[0] - 0.5 - top,
                            (x + 0.5) * frame[1] / view[1] - 0.5 - left,
                        )
                        for t in range(num_frames)
                        for y in range(view[0])
                        for x in range(view[1])
                    ]
                ).double()
                of_queries = torch.tensor(
                    [(t, y, x) for t in range(num_frames) for y in range(height) for x in range(width)]
                ).double()
                one = turned(query[number, head, num_text:], of_queries)
                other = turned(keys, of_keys)
                logits = (one @ other.conj().mT).real / DIM**0.5
                logits[of_queries[:, None, 0] != of_keys[None, :, 0]] = -torch.inf
                expected = branch.gate[head] * (logits.softmax(dim=-1) @ values)
                torch.testing.assert_close(got[number, head], expected, atol=1e-4, rtol=0)


@given(grid=st.tuples(st.integers(1, 3), side, side))
def test_places_at_whole_numbers_have_the_tables_of_tiles(grid: tuple[int, int, int]) -> None:
    config = tiny_transformer(1).config
    axes = [torch.arange(length).float() for length in grid]
    tables = rotary_at(axes[0], axes[1][None], axes[2][None], config.attention_head_dim)
    expected = rotary_embedding(grid, config, "cpu")
    assert expected is not None
    for got, table in zip(tables, expected, strict=True):
        assert torch.equal(got[0], table)


def restored(attention: Any, *, use_view: bool, gate: float = 0.0) -> torch.Tensor:
    transformer = tiny_transformer()
    set_attention(transformer, AttentionSettings.model_validate(attention), use_view=use_view)
    generator = torch.Generator().manual_seed(1)
    latents, text, small = (
        torch.randn(*shape, generator=generator) for shape in ((2, 4, 4, 6, 10), (1, 2, 8), (1, 4, 4, 4, 6))
    )
    with torch.no_grad():
        view = None
        if use_view:
            for block in transformer.transformer_blocks:
                block.attn1.view.gate.fill_(gate)
            whole = FrameView.of(transformer, small, text, frame=(6, 10))
            view = whole.for_tiles(torch.tensor([[0.0, 0.0], [3.0, 5.0]]))
        return one_step(transformer, make_scheduler(), latents, text, timestep=399, view=view)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_new_branch_changes_no_bit_of_any_pattern_and_a_trained_one_does(name: str) -> None:
    plain = restored(PATTERNS[name], use_view=False)
    assert torch.equal(restored(PATTERNS[name], use_view=True), plain)
    assert not torch.allclose(restored(PATTERNS[name], use_view=True, gate=1.0), plain, atol=1e-4)


def test_a_view_is_of_its_own_frame() -> None:
    transformer = tiny_transformer(1)
    units = {"pattern": "units", "unit": 2}
    set_attention(transformer, AttentionSettings.model_validate(units), use_view=True)
    transformer.transformer_blocks[0].attn1.view.gate.data.fill_(1)
    latents, text, small = torch.randn(1, 8, 4, 4, 4), torch.randn(1, 2, 8), torch.randn(1, 8, 4, 2, 4)
    changed = small.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        one, other = (
            one_step(
                transformer,
                make_scheduler(),
                latents,
                text,
                timestep=399,
                view=FrameView.of(transformer, x, text, frame=(4, 8)).for_tiles(torch.zeros(1, 2)),
            )
            for x in (small, changed)
        )
    # Two latent frames are a token.
    assert [t for t in range(8) if not torch.equal(one[:, t], other[:, t])] == [6, 7]


def test_frames_are_downsized_one_by_one_to_their_means() -> None:
    sample = torch.rand(2, 3, 5, 32, 48)
    small = downsize(sample, (1, 1))
    assert small.shape == (2, 3, 5, 1, 1)
    torch.testing.assert_close(small[..., 0, 0], sample.mean(dim=(-2, -1)), atol=0.02, rtol=0)
    assert downsize(sample, (32, 48)) is sample
    constant = torch.full((1, 3, 2, 32, 48), 0.3)
    torch.testing.assert_close(downsize(constant, (16, 16)), torch.full((1, 3, 2, 16, 16), 0.3))


def save_with_view(folder: Path, kind: str, *, gate: float, tokens: int = 6) -> Path:
    """A small checkpoint whose layers look at a view of so many tokens."""
    manifest = {"view": {"tokens": tokens}}
    if kind == "nano":
        save_nano(folder, **manifest)
        transformer = make_transformer(in_channels=192, temporal_compression_ratio=1)
        transformer.proj_out.weight.data.mul_(0.1)
    else:
        transformer = make_transformer()
        save_checkpoint(folder, manifest=manifest)
    set_attention(transformer, AttentionSettings.model_validate("full"), use_view=True)
    for block in transformer.transformer_blocks:
        block.attn1.view.gate.data.fill_(gate)
    transformer.save_pretrained(folder / "transformer")
    return folder


def request(clip: torch.Tensor, **wishes: Any) -> ChunkRequest:
    height, width = clip.shape[-2:]
    return ChunkRequest(
        num_frames=clip.shape[0],
        height=height,
        width=width,
        out_height=4 * height,
        out_width=4 * width,
        memory_bytes=1 << 33,
        overlap=16,
        **wishes,
    )


def frames(pipeline: DovePipeline, clip: torch.Tensor, options: DoveOptions, **wishes: Any) -> torch.Tensor:
    plan, size = pipeline.plan(request(clip, **wishes)), (4 * clip.shape[-2], 4 * clip.shape[-1])
    return pipeline(clip, height=size[0], width=size[1], options=options, plan=plan).frames


PLAIN = DoveOptions(color_match="none")


@pytest.mark.parametrize("kind", ["nano", "dove"])
def test_tiles_see_what_lies_outside_of_them_and_whole_frames_have_no_view(kind: str, tmp_path: Path) -> None:
    """With pixels fused at a cut, what changes beyond a tile's border reaches it by the view alone."""
    clip = make_clip(1, 24, 64)
    changed = clip.clone()
    changed[..., 40:] = 255 - changed[..., 40:]
    options = DoveOptions(color_match="none", tile_fusion="cut")
    by_gate = {}
    for gate in (0.0, 1.0):
        pipeline = DovePipeline.from_checkpoint(save_with_view(tmp_path / f"{gate}", kind, gate=gate))
        tiles = [frames(pipeline, x, options, tile=96) for x in (clip, changed)]
        by_gate[gate] = (tiles[0] - tiles[1])[..., :64].abs().max().item()
        whole = [frames(pipeline, clip, options)]
        other = DovePipeline.from_checkpoint(tmp_path / f"{0.0}")
        assert torch.equal(whole[0], frames(other, clip, options))
    assert by_gate[0.0] == 0
    assert by_gate[1.0] > 1e-4


@pytest.mark.parametrize("fusion", ["latent", "pixel"])
def test_savings_and_batches_of_tiles_change_nothing(fusion: Any, tmp_path: Path) -> None:
    clip, options = make_clip(3, 40, 48), DoveOptions(color_match="none", tile_fusion=fusion)
    folder = save_with_view(tmp_path / "nano", "nano", gate=0.5)
    results = []
    for use_lossless_savings, tile_batch in ((True, 1), (True, 3), (False, 1)):
        pipeline = DovePipeline.from_checkpoint(folder, use_lossless_savings=use_lossless_savings)
        plan = pipeline.plan(request(clip, tile=64))
        assert plan.rows * plan.cols > 1
        object.__setattr__(plan, "tile_batch", tile_batch)
        results.append(pipeline(clip, height=160, width=192, options=options, plan=plan).frames)
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", ["nano", "dove"])
@pytest.mark.parametrize(("shape", "tokens"), [((9, 24, 40), 30), ((9, 40, 24), 1000), ((1, 32, 64), 4)])
def test_no_more_memory_is_taken_than_was_planned(
    kind: str, shape: tuple[int, int, int], tokens: int, tmp_path: Path
) -> None:
    pipeline = DovePipeline.from_checkpoint(save_with_view(tmp_path, kind, gate=0.5, tokens=tokens))
    clip = make_clip(*shape)
    plan = pipeline.plan(request(clip, chunk=0, tile=64))
    assert plan.rows * plan.cols > 1
    with peak_memory(torch.device("cpu")) as peak:
        for _ in pipeline.restore_chunk(clip, (4 * shape[1], 4 * shape[2]), PLAIN, plan):
            pass
    assert peak.num_bytes <= plan.estimated_bytes


def test_contradictions_are_refused_when_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    folder = save_with_view(tmp_path / "view", "dove", gate=0.0)
    description = json.loads((folder / "dovetail.json").read_text())
    (folder / "dovetail.json").write_text(json.dumps(description | {"view": None}))
    with pytest.raises(
        CheckpointError, match=r"10 weights that dovetail\.json does not ask for, first .*view"
    ):
        DovePipeline.from_checkpoint(folder)
    (folder / "dovetail.json").write_text(json.dumps(description | {"view": {"tokens": 0}}))
    with pytest.raises(CheckpointError, match=r"view\.tokens: .*greater than 0"):
        DovePipeline.from_checkpoint(folder)
    without = save_checkpoint(tmp_path / "without", manifest={"view": {}})
    with pytest.raises(CheckpointError, match=r"lacks 10 weights .*attn1\.view\.gate"):
        DovePipeline.from_checkpoint(without)
    additive = save_checkpoint(tmp_path / "2b", "2b", manifest={"view": {}})
    with pytest.raises(CheckpointError, match="needs rotary positions"):
        DovePipeline.from_checkpoint(additive)


def test_projections_that_are_not_fused_start_as_the_layers() -> None:
    transformer = tiny_transformer(1)
    set_attention(transformer, AttentionSettings.model_validate("full"), use_view=True)
    attention = transformer.transformer_blocks[0].attn1
    assert torch.equal(attention.view.to_k.weight, attention.to_k.weight)
    assert torch.equal(attention.view.to_v.bias, attention.to_v.bias)
    assert not attention.view.gate.any()
