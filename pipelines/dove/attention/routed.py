"""Attention specialization routing: each head is global, intra-frame or local, by a fixed table.

OASIS (arXiv 2509.23980, https://arxiv.org/abs/2509.23980): heads whose attention is local anyway are given a
local set of keys, decided once before training. No code was published; ours are the treatment of the text
(all its keys are seen by all heads, its queries see everything), and local windows: queries go in tiles,
whose keys are a box that holds the centred window of each of them, and somewhat more. Three dense calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipelines.dove.attention.boxes import Boxes, attend_in_boxes
from pipelines.dove.attention.full import FullPattern
from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import HeadRoute, TokenGrid


@dataclass(frozen=True)
class RoutedPattern:
    """Heads of one layer, each with its own set of keys.

    Attributes:
        heads: Route of each head: all tokens, those of the query's frame, or a box around it.
        window: Frames, rows and columns around a query that a `window` head sees at least; odd.
        tile: Frames, rows and columns of queries that share a box.
    """

    heads: tuple[HeadRoute, ...]
    window: TokenGrid
    tile: TokenGrid

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`. Only global heads give what full attention does, and with its bits.

        Raises:
            ValueError: If the grid is missing where a head needs it, or the table has another number of
                heads.
        """
        if len(self.heads) != tokens.query.shape[1]:
            raise ValueError(f"{len(self.heads)} heads are routed, the layer has {tokens.query.shape[1]}")
        if set(self.heads) == {"global"}:
            return FullPattern()(tokens, kernel)
        grid, count = tokens.checked_grid(), tokens.num_text
        video_query, video_key, _ = tokens.video
        query = torch.cat([tokens.text[0], video_query], dim=2)
        key = torch.cat([tokens.text[1], video_key], dim=2)
        parts, order = list[torch.Tensor](), list[int]()
        for route in ("global", "frame", "window"):
            members = [index for index, other in enumerate(self.heads) if other == route]
            if not members:
                continue
            order += members
            own = [x[:, members] for x in (query, key, tokens.value)]
            if route == "global":
                parts.append(kernel(*own))
                continue
            text = kernel(own[0][:, :, :count], own[1], own[2])
            boxes = route_boxes(route, grid, self.window, self.tile)
            video = [x[:, :, count:] for x in own]
            split = boxes.split(video[0]), boxes.split_keys(video[1]), boxes.split_keys(video[2])
            words = [x[:, :, :count] for x in own[1:]]
            parts.append(torch.cat([text, boxes.join(attend_in_boxes(kernel, *split, *words))], dim=2))
        places = torch.tensor(order, device=query.device).argsort()
        return torch.cat(parts, dim=1)[:, places]


def route_boxes(route: HeadRoute, grid: TokenGrid, window: TokenGrid, tile: TokenGrid) -> Boxes:
    """Tiles of queries of a local route, and the keys of each."""
    if route == "frame":
        return Boxes(grid, (1, grid[1], grid[2]))
    return Boxes(grid, tile, (window[0] // 2, window[1] // 2, window[2] // 2))
