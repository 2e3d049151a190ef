"""The view of the whole frame that tiles get: downsized, encoded, embedded, and placed in each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_1d_rotary_pos_embed

from pipelines.codecs.offloading import wake
from pipelines.dove.attention import RotaryEmbedding, ViewTokens
from pipelines.dove.one_step import token_grid, with_leading_copies
from pipelines.planning.patterns import TokenGrid
from pipelines.planning.slices import frames_per_slice
from pipelines.planning.spans import Span


@dataclass(frozen=True)
class FrameView:
    """A view of the whole frame of a chunk, as the layers of a transformer get it.

    Attributes:
        states: (B, T*H*W, D), embedded.
        grid: T, H, W of the view.
        frame: Tokens of the whole frame along height and width.
        head_dim: Channels of an attention head.
    """

    states: torch.Tensor
    grid: TokenGrid
    frame: tuple[float, float]
    head_dim: int

    @classmethod
    def of(
        cls,
        transformer: Any,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        *,
        frame: tuple[float, float],
    ) -> FrameView:
        """Embeds a view with the transformer's patch embedding.

        Args:
            transformer: A `CogVideoXTransformer3DModel` with rotary positions.
            latents: (B, T, C, h, w), scaled latents of the downsized frames.
            prompt_embeds: (1 or B, L, D), same dtype; the embedding takes both together.
            frame: Tokens of the whole frame along height and width.
        """
        wake(transformer)
        config = transformer.config
        latents = with_leading_copies(latents, config)
        embedded = transformer.patch_embed(prompt_embeds.expand(latents.shape[0], -1, -1), latents)
        grid = token_grid(latents.shape[1], latents.shape[3], latents.shape[4], config)
        states = embedded[:, prompt_embeds.shape[1] :]
        return cls(states, grid, frame, config.attention_head_dim)

    def for_tiles(self, origins: torch.Tensor) -> ViewTokens:
        """The view with its places in tiles.

        Args:
            origins: (N, 2), row and column at which tiles begin in the frame, tokens, any fraction. N is the
                batch of tiles; the view has one or as many frames.
        """
        origins = origins.to(device=self.states.device, dtype=torch.float32)
        rows, cols = (
            (torch.arange(count, device=origins.device) + 0.5) * (length / count) - 0.5 - origin[:, None]
            for count, length, origin in zip(self.grid[1:], self.frame, origins.T, strict=True)
        )
        times = torch.arange(self.grid[0], device=origins.device, dtype=torch.float32)
        return ViewTokens(self.states, rotary_at(times, rows, cols, self.head_dim))

    def in_spans(self, tiles: Sequence[tuple[Span, Span]], alignment: int) -> ViewTokens:
        """The view with its places in tiles, rows and columns in pixels, `alignment` pixels to a token."""
        return self.for_tiles(torch.tensor([[row.start, col.start] for row, col in tiles]) / alignment)


def rotary_at(times: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor, head_dim: int) -> RotaryEmbedding:
    """Rotary tables of token grids anywhere; at whole numbers those of `rotary_embedding`.

    Args:
        times: (T,), positions of frames.
        rows: (N, H), positions of rows in each of N grids.
        cols: (N, W).
        head_dim: Channels of a head.

    Returns:
        cos and sin, (N, T*H*W, head_dim) each, float32.
    """
    count, sizes = rows.shape[0], (times.shape[0], rows.shape[1], cols.shape[1])
    # CogVideoX gives a quarter of the channels to time.
    dims = head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3
    tables: list[list[torch.Tensor]] = [[], []]
    for axis, (positions, dim) in enumerate(zip((times.expand(count, -1), rows, cols), dims, strict=True)):
        shape = [count, 1, 1, 1, dim]
        shape[1 + axis] = sizes[axis]
        for table, part in zip(
            tables, get_1d_rotary_pos_embed(dim, positions.flatten(), use_real=True), strict=True
        ):
            table.append(part.reshape(shape).expand(count, *sizes, dim))
    cos, sin = (torch.cat(parts, dim=-1).flatten(1, 3) for parts in tables)
    return cos, sin


def downsize(sample: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Frames (B, 3, F, H, W) at a smaller size, antialiased: (B, 3, F, *size), float32, a few at a time."""
    if sample.shape[-2:] == size:
        return sample
    small = sample.new_empty(*sample.shape[:3], *size)
    step = frames_per_slice(sample.shape[-2], sample.shape[-1])
    for start in range(0, sample.shape[2], step):
        frames = sample[:, :, start : start + step].transpose(1, 2)
        resized = F.interpolate(frames.flatten(0, 1), size=size, mode="bilinear", antialias=True)
        small[:, :, start : start + step] = resized.reshape(*frames.shape[:3], *size).transpose(1, 2)
    return small
