"""Makes a table of routed heads for a checkpoint with full attention, from what they do on some clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from pipelines.dove.attention.calibration import LOCAL_ROUTES, RouteTable, agreement, measured_heads
from pipelines.dove.description import DESCRIPTION_NAME, transformer_digest
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.patterns import FullAttention, RoutedAttention, TokenGrid
from training.errors import TrainingConfigError, TrainingDataError
from training.video_coding import decode_frames

RouteRule = Callable[[torch.Tensor, Sequence[float]], RouteTable]
"""Makes a table of heads' losses, (layers, routes, heads), and the share of keys of these local routes."""


@dataclass(frozen=True)
class Calibration:
    """Routes of a checkpoint's heads, and how far they can be trusted.

    Attributes:
        heads: Routes by layer and head.
        divergence: (layers, routes, heads), KL(local || global) in nats, mean over all clips; routes in the
            order of `LOCAL_ROUTES`.
        pairs: Share of full attention's pairs that is left, on the grids of the clips.
        window: Frames, rows and columns that a local head sees at least.
        tile: Frames, rows and columns of queries that share a box of keys.
        agreement: Share of heads to which two halves of the clips, every other one, give the same route.
    """

    heads: RouteTable
    divergence: torch.Tensor
    pairs: float
    window: TokenGrid
    tile: TokenGrid
    agreement: float


def calibrate(
    pipeline: DovePipeline,
    clips: Sequence[Path],
    *,
    assign: RouteRule,
    window: TokenGrid = (3, 5, 5),
    tile: TokenGrid = (1, 8, 8),
    max_frames: int = 33,
    num_queries: int = 256,
    seed: int = 0,
) -> Calibration:
    """Measures all heads on clips, which are upscaled as they would be in use.

    Args:
        pipeline: Full attention in all layers.
        clips: Low-resolution sources; two at least.
        assign: Which heads become local: `routes_within_budget` or `routes_below_threshold`, with its limit.
        window: Frames, rows and columns that a local head sees at least.
        tile: Frames, rows and columns of queries that share a box of keys.
        max_frames: Frames of each clip.
        num_queries: Queries looked at in each layer and transformer call.
        seed: Of the draw of queries.

    Raises:
        TrainingDataError: If there are fewer than two clips.
        TrainingConfigError: If the checkpoint has another pattern than full attention.
    """
    if len(clips) < 2:
        raise TrainingDataError("routes need two clips at least: halves of them are compared")
    if any(not isinstance(layer, FullAttention) for layer in pipeline.description.attention.root):
        raise TrainingConfigError("heads are measured on a checkpoint with full attention in all layers")
    measured, costs = list[torch.Tensor](), list[list[float]]()
    with measured_heads(
        pipeline.transformer, window=window, tile=tile, num_queries=num_queries, seed=seed
    ) as layers:
        for path in clips:
            clip = torch.from_numpy(decode_frames(path, max_frames)).permute(0, 3, 1, 2).contiguous()
            height, width = (side * pipeline.description.scale for side in clip.shape[-2:])
            pipeline(clip, height=height, width=width)
            measured.append(torch.stack([layer.take() for layer in layers]))
            costs.append(_route_costs(layers[0].grid, window, tile))
    per_clip, mean_costs = torch.stack(measured), torch.tensor(costs).mean(dim=0).tolist()
    mean = per_clip.mean(dim=0)
    heads = assign(mean, mean_costs)
    halves = [assign(half.mean(dim=0), mean_costs) for half in (per_clip[::2], per_clip[1::2])]
    share = {"global": 1.0, **dict(zip(LOCAL_ROUTES, mean_costs, strict=True))}
    routes = [route for layer in heads for route in layer]
    pairs = sum(share[route] for route in routes) / len(routes)
    return Calibration(heads, mean, pairs, window, tile, agreement(*halves))


def _route_costs(grid: TokenGrid, window: TokenGrid, tile: TokenGrid) -> list[float]:
    """Keys of each local route as a share of all."""
    return [
        RoutedAttention(heads=((route,),), window=window, tile=tile).keys_per_token(grid, 0) / prod(grid)
        for route in LOCAL_ROUTES
    ]


def write_routes(folder: Path, calibration: Calibration) -> None:
    """Writes the table into the checkpoint's description, bound to its weights; the rest of it stays.

    Args:
        folder: The checkpoint's.
        calibration: Of this checkpoint.
    """
    path = folder / DESCRIPTION_NAME
    description = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"name": folder.name}
    attention = RoutedAttention(
        heads=calibration.heads,
        window=calibration.window,
        tile=calibration.tile,
        weights_sha256=transformer_digest(folder),
    )
    description["attention"] = attention.model_dump(mode="json")
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    partial.rename(path)
