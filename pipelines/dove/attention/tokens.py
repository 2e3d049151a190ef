"""What an attention pattern gets and gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from diffusers.models.embeddings import apply_rotary_emb

from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid

RotaryEmbedding = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, (T*H*W, head_dim) each; neighbouring channels are a pair and have one angle."""


@dataclass(frozen=True)
class JointTokens:
    """The tokens of a layer of joint attention, text first, then video in row-major (T, H, W) order.

    Attributes:
        query: (B, heads, L, d), normalised, not rotated; L = num_text + T*H*W.
        key: The same.
        value: (B, heads, L, d).
        states: (B, L, D), what was projected to them.
        num_text: Text tokens, which have no place in the grid and are never rotated; may be 0.
        grid: T, H, W; None where the caller did not say.
        rotary: Rotary tables of the video tokens; None without rotary positions.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    states: torch.Tensor
    num_text: int
    grid: TokenGrid | None = None
    rotary: RotaryEmbedding | None = None

    @property
    def text(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of the text, (B, heads, num_text, d) each."""
        query, key, value = (x[:, :, : self.num_text] for x in (self.query, self.key, self.value))
        return query, key, value

    @property
    def video(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query and key, rotated, and value of the video, (B, heads, T*H*W, d) each."""
        key, value = (x[:, :, self.num_text :] for x in (self.key, self.value))
        if self.rotary is not None:
            key = apply_rotary_emb(key, self.rotary)
        return self.video_query, key, value

    @property
    def video_query(self) -> torch.Tensor:
        """Query of the video, rotated, (B, heads, T*H*W, d)."""
        query = self.query[:, :, self.num_text :]
        return query if self.rotary is None else apply_rotary_emb(query, self.rotary)

    def frames(self, start: int, count: int) -> JointTokens:
        """The text, and a few frames of the video in their places; needs the grid.

        Args:
            start: First frame, in tokens.
            count: Frames.
        """
        _, height, width = self.checked_grid()
        first, length = start * height * width, count * height * width
        query, key, value = (
            torch.cat([x[:, :, : self.num_text], x.narrow(2, self.num_text + first, length)], dim=2)
            for x in (self.query, self.key, self.value)
        )
        video_states = self.states.narrow(1, self.num_text + first, length)
        return replace(
            self,
            query=query,
            key=key,
            value=value,
            states=torch.cat([self.states[:, : self.num_text], video_states], dim=1),
            grid=(count, height, width),
            rotary=self.rotary
            and (self.rotary[0].narrow(0, first, length), self.rotary[1].narrow(0, first, length)),
        )

    def checked_grid(self) -> TokenGrid:
        """The grid, for patterns that cannot do without.

        Raises:
            ValueError: If the caller did not say it, or it has not as many tokens as the video.
        """
        if self.grid is None:
            raise ValueError("this attention pattern needs the token grid")
        num_video = self.query.shape[2] - self.num_text
        if self.grid[0] * self.grid[1] * self.grid[2] != num_video:
            raise ValueError(f"a token grid of {self.grid} does not have the {num_video} tokens of the video")
        return self.grid


def rotate(x: torch.Tensor, rotary: RotaryEmbedding) -> torch.Tensor:
    """Rotates pairs of channels of (..., L, d) in its own precision, by tables that broadcast with it."""
    cos, sin = (table.to(device=x.device, dtype=x.dtype) for table in rotary)
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return x * cos + turned * sin


class AttentionPattern(Protocol):
    """Which keys a query attends to, and how. A pattern with weights is a module as well."""

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """Attends; returns (B, heads, L, d) in the tokens' order and dtype.

        Args:
            tokens: Of the layer.
            kernel: Dense softmax attention, for the calls a pattern consists of.
        """
        ...
