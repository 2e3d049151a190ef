"""Which heads are local anyway: measured on a checkpoint with full attention, for `RoutedPattern`.

OASIS (arXiv 2509.23980) routes by the divergence of a head's localised from its global distribution. For a
query with softmax p, and p^S its renormalisation on the keys S of a route,

    KL(p^S || p) = -log sum over j in S of p_j = LSE_all - LSE_S

with LSE the log-sum-exp of the logits; the other direction is infinite. Text keys are in every S.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from pipelines.dove.attention.full import FullPattern
from pipelines.dove.attention.joint import JointAttention
from pipelines.dove.attention.routed import route_boxes
from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import HeadRoute, TokenGrid

LOCAL_ROUTES: tuple[HeadRoute, ...] = ("window", "frame")
"""From the cheaper to the dearer one, as a rule."""
RouteTable = tuple[tuple[HeadRoute, ...], ...]
"""Routes by layer and head."""


class MeasuringPattern:
    """Full attention that adds up what each head would lose by each local route.

    Args:
        window: Frames, rows and columns that a local head sees at least.
        tile: Frames, rows and columns of queries that share a box of keys.
        num_queries: Video queries that are looked at in each call.
        generator: Draws them.

    Attributes:
        grid: Token grid of the last call.
    """

    def __init__(
        self, window: TokenGrid, tile: TokenGrid, *, num_queries: int, generator: torch.Generator
    ) -> None:
        self._window, self._tile = window, tile
        self._num_queries, self._generator = num_queries, generator
        self._measured: list[torch.Tensor] = []
        self.grid: TokenGrid = (0, 0, 0)

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`; the result is that of full attention."""
        self.grid = tokens.checked_grid()
        self._measured.append(
            divergences(
                tokens,
                window=self._window,
                tile=self._tile,
                num_queries=self._num_queries,
                generator=self._generator,
            )
        )
        return FullPattern()(tokens, kernel)

    def take(self) -> torch.Tensor:
        """Means over the calls since the last time, (routes, heads), float32, nats."""
        mean = torch.stack(self._measured).mean(dim=0)
        self._measured.clear()
        return mean


@torch.no_grad()
def divergences(
    tokens: JointTokens,
    *,
    window: TokenGrid,
    tile: TokenGrid,
    num_queries: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """KL(local || global) of each head, on average over sampled video queries, in float32.

    Args:
        tokens: Of a layer.
        window: Frames, rows and columns that a local head sees at least.
        tile: Frames, rows and columns of queries that share a box of keys.
        num_queries: Queries to look at; all where there are fewer.
        generator: Draws them; on the CPU.

    Returns:
        (routes, heads) in the order of `LOCAL_ROUTES`, on the CPU, nats.
    """
    grid, count = tokens.checked_grid(), tokens.num_text
    query, video_key, _ = tokens.video
    key = torch.cat([tokens.text[1], video_key], dim=2).float()
    chosen = torch.randperm(query.shape[2], generator=generator)[:num_queries]
    masks = [
        F.pad(route_boxes(route, grid, window, tile).keys_of(chosen), (count, 0), value=True)
        for route in LOCAL_ROUTES
    ]
    query = query[:, :, chosen.to(query.device)].float() / query.shape[-1] ** 0.5
    result = torch.empty(len(LOCAL_ROUTES), query.shape[1])
    for head in range(query.shape[1]):  # one at a time: all logits of a layer would be gigabytes
        logits = query[:, head] @ key[:, head].mT
        total = logits.logsumexp(dim=-1)
        for route, mask in enumerate(masks):
            local = logits.masked_fill(~mask.to(logits.device), -torch.inf).logsumexp(dim=-1)
            result[route, head] = (total - local).mean()
    return result


@contextmanager
def measured_heads(
    transformer: Any, *, window: TokenGrid, tile: TokenGrid, num_queries: int, seed: int
) -> Iterator[list[MeasuringPattern]]:
    """Lets every layer of a transformer measure its heads; inside the block all layers have full attention.

    Yields:
        The patterns, by layer.
    """
    processors: list[JointAttention] = [block.attn1.processor for block in transformer.transformer_blocks]
    before = [processor.pattern for processor in processors]
    generator = torch.Generator().manual_seed(seed)
    patterns = [
        MeasuringPattern(window, tile, num_queries=num_queries, generator=generator) for _ in processors
    ]
    for processor, pattern in zip(processors, patterns, strict=True):
        processor.pattern = pattern
    try:
        yield patterns
    finally:
        for processor, original in zip(processors, before, strict=True):
            processor.pattern = original


def routes_within_budget(divergence: torch.Tensor, costs: Sequence[float], budget: float) -> RouteTable:
    """Gives heads their local route, those that lose least first, until the budget is met.

    Heads are ranked over the whole network. Each takes the local route by which it loses less; routes that
    cost as much as global attention are left out.

    Args:
        divergence: (layers, routes, heads), in the order of `LOCAL_ROUTES`.
        costs: Keys of each of these routes, as a share of all.
        budget: Share of full attention's pairs that may be computed, (0, 1].

    Returns:
        Routes by layer and head; no global head where even local routes everywhere exceed the budget.
    """
    num_layers, _, num_heads = divergence.shape
    table: list[list[HeadRoute]] = [["global"] * num_heads for _ in range(num_layers)]
    useful = _useful_routes(costs)
    ranked = sorted(
        (*min((float(divergence[layer, route, head]), costs[route], route) for route in useful), layer, head)
        for layer in range(num_layers)
        for head in range(num_heads)
        if useful
    )
    spent, allowed = float(num_layers * num_heads), budget * num_layers * num_heads
    for _, cost, route, layer, head in ranked:
        if spent <= allowed:
            break
        table[layer][head] = LOCAL_ROUTES[route]
        spent -= 1 - cost
    return tuple(map(tuple, table))


def routes_below_threshold(divergence: torch.Tensor, costs: Sequence[float], threshold: float) -> RouteTable:
    """Gives every head that loses less than a threshold by a local route the cheapest such route.

    Args:
        divergence: (layers, routes, heads), in the order of `LOCAL_ROUTES`.
        costs: Keys of each of these routes, as a share of all; routes with all keys are left out.
        threshold: Nats; 0.7 keeps half of what a head attends to.

    Returns:
        Routes by layer and head.
    """
    cheapest_first = sorted(_useful_routes(costs), key=lambda route: costs[route])

    def route_of(losses: torch.Tensor) -> HeadRoute:
        below = (LOCAL_ROUTES[route] for route in cheapest_first if losses[route] < threshold)
        return next(below, "global")

    return tuple(tuple(map(route_of, layer.unbind(dim=1))) for layer in divergence)


def _useful_routes(costs: Sequence[float]) -> list[int]:
    return [route for route, cost in enumerate(costs) if cost < 1]


def agreement(one: Sequence[Sequence[HeadRoute]], other: Sequence[Sequence[HeadRoute]]) -> float:
    """Share of heads that two tables give the same route, [0, 1]."""
    pairs = [pair for rows in zip(one, other, strict=True) for pair in zip(*rows, strict=True)]
    return sum(left == right for left, right in pairs) / len(pairs)
