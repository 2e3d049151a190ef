"""MHLA against its quadratic form, the authors' outputs, and its promises."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from pipelines.dove.attention import JointTokens, set_attention
from pipelines.dove.attention.linear import LinearPattern, initial_mixing
from pipelines.dove.one_step import one_step
from pipelines.memory_tracking import peak_memory
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.patterns import LinearAttention
from tests import parity_mhla
from tests.pipelines.dove.test_attention import tiny_transformer
from tests.pipelines.dove.test_one_step import make_scheduler

HEADS, DIM = 2, 6
kernel = F.scaled_dot_product_attention


def make_pattern(blocks: tuple[int, int, int], **options: Any) -> LinearPattern:
    pattern = LinearPattern(HEADS, DIM, blocks=blocks, eps=1e-2, **options).double()
    with torch.no_grad():
        for weight in pattern.parameters():
            weight.add_(0.2 * torch.rand_like(weight))
    return pattern.requires_grad_(False)


def make_tokens(grid: tuple[int, int, int], num_text: int, dtype: torch.dtype = torch.float64) -> JointTokens:
    num_video = grid[0] * grid[1] * grid[2]
    heads = (torch.randn(2, HEADS, num_text + num_video, DIM, dtype=dtype) for _ in range(3))
    states = torch.randn(2, num_text + num_video, HEADS * DIM, dtype=dtype)
    angles = torch.rand(num_video, DIM // 2, dtype=torch.float64).repeat_interleave(2, -1)
    return JointTokens(*heads, states, num_text, grid, (angles.cos(), angles.sin()))


def block_numbers(grid: tuple[int, int, int], blocks: tuple[int, int, int]) -> list[int]:
    sizes = [-(-axis // count) for axis, count in zip(grid, blocks, strict=True)]
    return [
        ((t // sizes[0]) * blocks[1] + y // sizes[1]) * blocks[2] + x // sizes[2]
        for t in range(grid[0])
        for y in range(grid[1])
        for x in range(grid[2])
    ]


def quadratic_form(pattern: LinearPattern, tokens: JointTokens) -> torch.Tensor:
    """Weights of all pairs, one by one, then the norm and the gate."""
    assert tokens.rotary is not None
    assert tokens.grid is not None
    count, num_blocks = tokens.num_text, len(pattern.mixing)
    query, key = (x.clamp(min=0) + pattern.eps for x in (tokens.query, tokens.key))
    turned = []
    for features in (query, key):
        pairs = torch.view_as_complex(features[:, :, count:].unflatten(-1, (-1, 2)).contiguous())
        angles = torch.complex(tokens.rotary[0][:, ::2], tokens.rotary[1][:, ::2])
        turned.append(torch.cat([features[:, :, :count], torch.view_as_real(pairs * angles).flatten(-2)], 2))
    numbers = torch.tensor(block_numbers(tokens.grid, pattern.blocks))
    weights = torch.full([query.shape[2]] * 2, 1 / num_blocks, dtype=torch.float64)
    weights[count:, count:] = pattern.mixing[numbers][:, numbers]
    weights[count:, :count] = pattern.text_mixing[numbers][:, None]
    out = (weights * (turned[0] @ turned[1].mT)) @ tokens.value
    if pattern.normalizer == "paper":
        out = out / ((weights * (query @ key.mT)).sum(-1, keepdim=True) + pattern.eps)
    out = out / (out.square().mean(-1, keepdim=True) + pattern.eps).sqrt() * pattern.norm
    gate = F.silu(pattern.gate(tokens.states)) if pattern.gate else torch.ones_like(tokens.states)
    return out * gate.unflatten(-1, (HEADS, DIM)).transpose(1, 2)


sides = st.integers(1, 5)


@settings(max_examples=25)
@given(
    grid=st.tuples(sides, sides, sides),
    blocks=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    num_text=st.integers(0, 3),
    normalizer=st.sampled_from(["paper", "none"]),
    use_gate=st.booleans(),
)
def test_it_equals_the_quadratic_form_on_any_grid(
    grid: tuple[int, int, int], blocks: tuple[int, int, int], num_text: int, normalizer: Any, use_gate: bool
) -> None:
    """Blocks that the grid leaves smaller, or empty, hold the tokens that they have."""
    pattern = make_pattern(blocks, normalizer=normalizer, use_gate=use_gate)
    tokens = make_tokens(grid, num_text)
    torch.testing.assert_close(
        pattern(tokens, kernel), quadratic_form(pattern, tokens), atol=1e-10, rtol=1e-10
    )


@pytest.mark.needs_shared
@pytest.mark.parametrize("normalizer", ["same_offset", "paper"])
@pytest.mark.parametrize("number", range(1, 8))
def test_golden_case(number: int, normalizer: str, shared_dir: Path) -> None:
    check(next((shared_dir / "parity-mhla" / "open").glob(f"o0{number}-*.json")), normalizer)


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["v04-masked-padding", "v05-masked-padding-divided"])
def test_golden_case_of_a_grid_that_is_not_whole_blocks(name: str, shared_dir: Path) -> None:
    check(shared_dir / "parity-mhla" / "variants" / f"{name}.json", "paper")


def check(path: Path, normalizer: str) -> None:
    options, case = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    expected = case["output"]
    if normalizer == "paper" and "output.paper_normalizer" in case:
        options["normalizer"], expected = "paper", case["output.paper_normalizer"]
    with torch.no_grad():
        output = parity_mhla.run(case, options)
    assert (output - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.needs_shared
def test_golden_initial_matrices(shared_dir: Path) -> None:
    path = shared_dir / "parity-mhla" / "open" / "o08-initial-mixing.json"
    stored = load_file(path.with_suffix(".safetensors"))
    for entry in json.loads(path.read_text())["entries"]:
        made = parity_mhla.run({}, {"kind": "mixing_init", **entry})
        torch.testing.assert_close(made, stored[entry["tensor"]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("start", ["linear", "cos", "exp", "local", "gaussian"])
def test_a_single_block_mixes_with_itself_alone(start: Any) -> None:
    assert initial_mixing((1, 1, 1), start).tolist() == [[1.0]]


def test_order_inside_a_block_is_all_the_same_without_positions() -> None:
    pattern, tokens = make_pattern((1, 2, 2)), replace(make_tokens((1, 4, 4), 0), rotary=None)
    order = torch.arange(16)
    order[[0, 1, 4, 5]] = order[[5, 4, 1, 0]]  # the first block
    moved = replace(tokens, key=tokens.key[:, :, order], value=tokens.value[:, :, order])
    torch.testing.assert_close(pattern(moved, kernel), pattern(tokens, kernel))


def measured(num_frames: int) -> tuple[int, int]:
    pattern, tokens = make_pattern((1, 2, 2)).float(), make_tokens((num_frames, 8, 8), 2, torch.float32)
    with FlopCounterMode(display=False) as flops:
        pattern(tokens, kernel)
    with peak_memory(torch.device("cpu")) as peak:
        pattern(tokens, kernel)
    return flops.get_total_flops(), peak.num_bytes


def test_work_and_memory_grow_linearly_with_the_tokens() -> None:
    """Each of two equal steps costs as much more; the states of blocks are there once."""
    (few, few_bytes), (more, more_bytes), (most, most_bytes) = map(measured, (4, 8, 12))
    assert more - few == most - more > 0
    assert abs((most_bytes - more_bytes) - (more_bytes - few_bytes)) <= 64
    settings = LinearAttention(blocks=(1, 2, 2))
    estimate = settings.token_elements * 2 * HEADS * DIM * 2 * (12 * 64 + 2)
    assert most_bytes <= estimate + 2 * 4 * settings.constant_elements(HEADS * DIM, DIM)
    assert estimate <= 2 * most_bytes


def test_hybrid_trains_in_the_whole_transformer() -> None:
    """Every weight of the linear layers gets a gradient through the one-step rule."""
    transformer = tiny_transformer(3).train()
    linear = {"pattern": "linear", "blocks": [1, 2, 2], "use_lepe": True}
    set_attention(transformer, AttentionSettings.model_validate(["full", linear, linear]))
    restored = one_step(
        transformer, make_scheduler(), torch.randn(1, 2, 4, 6, 10), torch.randn(1, 2, 8), timestep=399
    )
    restored.square().sum().backward()
    names = [name for name, _ in transformer.named_parameters() if ".attn1.pattern." in name]
    assert len(names) == 2 * len(
        ["mixing", "text_mixing", "norm", "gate.weight", "gate.bias", "lepe", "bias"]
    )
    for name, weight in transformer.named_parameters():
        if ".attn1.pattern." in name:
            assert weight.grad is not None, name
            assert weight.grad.abs().max() > 0, name
