"""Windows with a global view, sparse, routed and unit attention against weighted attention over all pairs.

An oracle says for each head, query and key how often the query sees the key; that many times its exponential
counts. In float64. Shapes are random, so that boxes and cells seldom fit the grid.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.dove.attention import (
    AttentionPattern,
    FullPattern,
    JointTokens,
    UnitPattern,
    WindowPattern,
    axis_windows,
    set_attention,
)
from pipelines.dove.attention.global_windows import GlobalWindowPattern
from pipelines.dove.attention.routed import RoutedPattern
from pipelines.dove.attention.sparse import SparsePattern
from pipelines.dove.one_step import one_step
from pipelines.memory_tracking import peak_memory
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.patterns import RoutedAttention
from tests.pipelines.dove.test_attention import tiny_transformer
from tests.pipelines.dove.test_linear_attention import DIM, HEADS, make_tokens
from tests.pipelines.dove.test_one_step import make_scheduler

kernel = F.scaled_dot_product_attention
Grid = tuple[int, int, int]
sides, small = st.integers(1, 6), st.integers(1, 4)
grids, boxes = st.tuples(st.integers(1, 4), sides, sides), st.tuples(st.integers(1, 3), small, small)


def weighted(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """Attention in which each key counts so many times."""
    logits = query @ key.mT / query.shape[-1] ** 0.5 + times.log()
    return logits.softmax(dim=-1) @ value


def joint(tokens: JointTokens) -> list[torch.Tensor]:
    return [torch.cat(pair, dim=2) for pair in zip(tokens.text, tokens.video, strict=True)]


def owners(length: int, size: int, *, shifted: bool = False) -> list[range]:
    """For each token of an axis the window that it is read from."""
    axis = axis_windows(length, size, shifted=shifted)
    return [
        range(start, start + axis.size)
        for start, (low, high) in zip(axis.starts, axis.owned, strict=True)
        for _ in range(low, high)
    ]


def places(grid: Grid) -> list[Grid]:
    return list(product(*map(range, grid)))


def with_text(times: torch.Tensor, count: int, *, text_sees_all: bool = False) -> torch.Tensor:
    """Adds text keys for everyone, and text queries that see text, or all."""
    times = F.pad(times.double(), (count, 0, count, 0))
    times[..., :, :count] = 1
    if text_sees_all:
        times[..., :count, :] = 1
    return times


@settings(max_examples=20)
@given(
    grid=grids,
    window=st.tuples(small, small),
    pool=st.integers(1, 4),
    shifted=st.booleans(),
    count=st.integers(1, 3),
)
def test_windows_with_a_global_view(
    grid: Grid, window: tuple[int, int], pool: int, shifted: bool, count: int
) -> None:
    pattern = GlobalWindowPattern(HEADS, DIM, window=window, shifted=shifted, pool=pool).double()
    tokens = make_tokens(grid, count)
    local = WindowPattern(window, shifted=shifted)(tokens, kernel)
    torch.testing.assert_close(pattern(tokens, kernel), local, atol=1e-6, rtol=0)  # before training
    pattern.gate.data.fill_(0.3)
    query, key, value = joint(tokens)
    cells = [(t, y // pool, x // pool) for t, y, x in places(grid)]
    numbers = sorted(set(cells))
    # Averages over the tokens that a cell has.
    average = torch.tensor([[float(cell == number) for cell in cells] for number in numbers]).double()
    average /= average.sum(dim=1, keepdim=True)
    keys, values = (torch.cat([x[:, :, :count], average @ x[:, :, count:]], dim=2) for x in (key, value))
    everywhere = weighted(query[:, :, count:], keys, values, torch.ones(1).double())
    expected = torch.cat([local[:, :, :count], 0.7 * local[:, :, count:] + 0.3 * everywhere], dim=2)
    torch.testing.assert_close(pattern(tokens, kernel), expected, atol=1e-6, rtol=0)


def test_each_pooling_weight_is_that_of_its_channel_and_place() -> None:
    pattern, tokens = (
        GlobalWindowPattern(HEADS, DIM, window=(2, 2), shifted=False, pool=2).double(),
        make_tokens((2, 4, 6), 1),
    )
    with torch.no_grad():
        pattern.gate.fill_(1)
        pattern.pool_key.normal_()
        pattern.pool_value.normal_()
        query, key, value = joint(tokens)
        pooled = []
        for x, weight in ((key, pattern.pool_key), (value, pattern.pool_value)):
            frames = x[:, :, 1:].mT.reshape(2, HEADS * DIM, 2, 4, 6)
            kernels = weight.permute(0, 3, 1, 2).reshape(HEADS * DIM, 1, 1, 2, 2)
            cells = F.conv3d(frames, kernels, stride=(1, 2, 2), groups=HEADS * DIM)
            pooled.append(torch.cat([x[:, :, :1], cells.reshape(2, HEADS, DIM, -1).mT], dim=2))
        expected = weighted(query[:, :, 1:], *pooled, torch.ones(1).double())
        torch.testing.assert_close(pattern(tokens, kernel)[:, :, 1:], expected, atol=1e-6, rtol=0)


@settings(max_examples=20)
@given(grid=grids, window=boxes, num_similar=st.integers(0, 4), count=st.integers(1, 3))
@example(grid=(3, 5, 6), window=(2, 2, 3), num_similar=2, count=1)
def test_sparse(grid: Grid, window: Grid, num_similar: int, count: int) -> None:
    tokens = make_tokens(grid, count)
    query, key, value = joint(tokens)
    axes = [axis_windows(length, size, shifted=False) for length, size in zip(grid, window, strict=True)]
    all_boxes = list(product(*([range(s, s + axis.size) for s in axis.starts] for axis in axes)))
    index = {place: number for number, place in enumerate(places(grid))}
    members = [[count + index[place] for place in product(*box)] for box in all_boxes]
    reads = [owners(length, size) for length, size in zip(grid, window, strict=True)]
    times = torch.zeros(*query.shape[:2], len(index), len(index))
    for batch, head in product(range(query.shape[0]), range(HEADS)):
        means = [[x[batch, head, box].mean(dim=0) for box in members] for x in (query, key)]
        for (t, y, x), number in index.items():
            own = all_boxes.index((reads[0][t], reads[1][y], reads[2][x]))
            others = [other for other in range(len(members)) if other != own]
            others.sort(key=lambda other: -float(means[0][own] @ means[1][other]))
            for box in (own, *others[:num_similar]):
                for seen in members[box]:
                    times[batch, head, number, seen - count] += 1
    expected = weighted(query, key, value, with_text(times, count))
    got = SparsePattern(window, num_similar)(tokens, kernel)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


routes = st.sampled_from(["global", "frame", "window"])


@settings(max_examples=30)
@given(
    grid=grids,
    heads=st.tuples(*[routes] * HEADS),
    window=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    tile=boxes,
    count=st.integers(0, 3),
)
@example(grid=(4, 6, 5), heads=("window", "frame"), window=(3, 3, 1), tile=(1, 2, 1), count=2)
def test_routed(grid: Grid, heads: Any, window: Grid, tile: Grid, count: int) -> None:
    tokens = make_tokens(grid, count)
    query, key, value = joint(tokens)
    times = torch.zeros(HEADS, len(places(grid)), len(places(grid)))
    reads = [owners(length, size) for length, size in zip(grid, tile, strict=True)]
    for head, route in enumerate(heads):
        for (i, one), (j, other) in product(enumerate(places(grid)), repeat=2):
            if route == "frame":
                times[head, i, j] = one[0] == other[0]
                continue
            times[head, i, j] = route == "global" or all(
                other[axis] in box_of_keys(reads[axis][one[axis]], window[axis] // 2, grid[axis])
                for axis in range(3)
            )
            # Whatever the tiles, a query sees the window around it.
            if all(abs(one[axis] - other[axis]) <= window[axis] // 2 for axis in range(3)):
                assert times[head, i, j]
    expected = weighted(query, key, value, with_text(times, count, text_sees_all=True))
    got = RoutedPattern(heads, window, tile)(tokens, kernel)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def box_of_keys(tile: range, reach: int, length: int) -> range:
    size = min(len(tile) + 2 * reach, length)
    start = min(max(tile.start - reach, 0), length - size)
    return range(start, start + size)


@settings(max_examples=40)
@given(
    frames=st.integers(1, 11),
    height=small,
    width=small,
    unit=st.integers(1, 6),
    window=st.none() | st.tuples(small, small),
    shifted=st.booleans(),
    count=st.integers(0, 3),
)
@example(frames=7, height=3, width=4, unit=4, window=(2, 3), shifted=True, count=1)
def test_units(
    frames: int,
    height: int,
    width: int,
    unit: int,
    window: tuple[int, int] | None,
    shifted: bool,
    count: int,
) -> None:
    grid = frames, height, width
    tokens = make_tokens(grid, count)
    inside: AttentionPattern = WindowPattern(window, shifted=shifted) if window else FullPattern()
    reads = [
        owners(length, size, shifted=shifted)
        for length, size in zip(grid, (unit, *(window or (height, width))), strict=True)
    ]
    times = torch.tensor(
        [
            [all(other[axis] in reads[axis][one[axis]] for axis in range(3)) for other in places(grid)]
            for one in places(grid)
        ]
    )
    times = with_text(times, count)
    query, key, value = joint(tokens)
    expected = weighted(query, key, value, times)
    got = UnitPattern(unit, shifted, inside)(tokens, kernel)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_similar_boxes_are_looked_for_in_the_unit() -> None:
    tokens, inside = make_tokens((6, 3, 4), 2), SparsePattern((1, 2, 2), 2)
    got = UnitPattern(3, False, inside)(tokens, kernel)
    for start in (0, 3):
        alone = inside(tokens.frames(start, 3), kernel)[:, :, 2:]
        assert torch.equal(got[:, :, 2 + 12 * start : 2 + 12 * (start + 3)], alone)


def test_frames_of_two_units_meet_in_the_next_layer() -> None:
    latents, text = torch.randn(1, 12, 4, 4, 4), torch.randn(1, 2, 8)
    changed = latents.clone()
    changed[:, -1] += 1
    reached = []
    for num_layers in (1, 2, 3):
        transformer = tiny_transformer(num_layers)
        set_attention(transformer, AttentionSettings.model_validate({"pattern": "units", "unit": 2}))
        with torch.no_grad():
            one, other = (
                one_step(transformer, make_scheduler(), x, text, timestep=399) for x in (latents, changed)
            )
        # Two latent frames are a token.
        reached.append([t for t in range(6) if not torch.equal(one[:, 2 * t], other[:, 2 * t])])
    assert reached == [[4, 5], [3, 4, 5], [2, 3, 4, 5]]


@pytest.mark.parametrize("inside", [FullPattern(), WindowPattern((2, 2), shifted=True)])
def test_copies_are_made_of_one_unit_at_a_time(inside: AttentionPattern) -> None:
    working = set()
    for frames in (8, 20, 40):
        tokens = make_tokens((frames, 4, 4), 2)
        with peak_memory(torch.device("cpu")) as peak:
            UnitPattern(4, True, inside)(tokens, kernel)
        working.add(peak.num_bytes - tokens.query.nbytes)  # the result
    assert len(working) == 1


def test_all_global_is_full_attention_bit_for_bit() -> None:
    table = RoutedAttention(heads=(("global", "global"),) * 2)
    latents, text = torch.randn(1, 4, 4, 6, 10), torch.randn(1, 2, 8)
    outputs = []
    for attention in (AttentionSettings.model_validate("full"), AttentionSettings((table,))):
        transformer = tiny_transformer(2)
        set_attention(transformer, attention)
        with torch.no_grad():
            outputs.append(one_step(transformer, make_scheduler(), latents, text, timestep=399))
    assert torch.equal(*outputs)
    tokens = make_tokens((1, 2, 3), 1, torch.float32)
    assert torch.equal(
        RoutedPattern(("global",) * HEADS, (1, 1, 1), (1, 1, 1))(tokens, kernel),
        FullPattern()(tokens, kernel),
    )


def test_a_table_for_other_layers_or_heads_is_refused() -> None:
    for heads in ((("global", "frame"),), (("global",), ("global",))):
        with pytest.raises(ValueError, match="2 routed layers of 2"):
            set_attention(tiny_transformer(2), AttentionSettings((RoutedAttention(heads=heads),)))


@pytest.mark.parametrize(
    "attention",
    [
        {"pattern": "window+global", "window": [2, 2], "pool": 2},
        {"pattern": "sparse", "window": [1, 2, 2]},
        {"pattern": "routed", "heads": [["frame", "window"]], "tile": [1, 2, 2]},
        {"pattern": "units", "unit": 2, "inside": {"pattern": "window", "window": [2, 2]}},
    ],
)
def test_they_train(attention: Any) -> None:
    transformer = tiny_transformer(1).train()
    set_attention(transformer, AttentionSettings.model_validate(attention))
    restored = one_step(
        transformer, make_scheduler(), torch.randn(1, 2, 4, 6, 10), torch.randn(1, 2, 8), timestep=399
    )
    restored.square().sum().backward()
    trained = transformer.transformer_blocks[0].attn1
    for name, weight in trained.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0 or "pool" in name, name  # nothing yet while the gate is 0
