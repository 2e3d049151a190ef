"""Joins the frames of overlapping chunks, frame by frame, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.planning.spans import Span
from pipelines.tiling import Blend, blend_weights


class ChunkStitcher:
    """Takes chunks in order and gives back each frame as soon as no later chunk contributes to it.

    Frames that belong to one chunk alone pass through unchanged.

    Args:
        chunks: Spans in time, in order, covering `num_frames`.
        num_frames: Frames on the (padded) time axis.
        blend: How overlaps are joined.
        keep: Frames to hand out; others (padding, what was handed out before) are dropped.
    """

    def __init__(self, chunks: Sequence[Span], num_frames: int, blend: Blend, *, keep: Span) -> None:
        self.chunks = chunks
        self.keep = keep
        self._weights = [weights.tolist() for weights in blend_weights(chunks, num_frames, blend)]
        self._position = [chunk.start for chunk in chunks]
        self._last = [0] * num_frames
        for index, (chunk, weights) in enumerate(zip(chunks, self._weights, strict=True)):
            for frame, weight in zip(range(*chunk), weights, strict=True):
                if weight > 0:
                    self._last[frame] = index
        self._held: dict[int, torch.Tensor] = {}

    def needs(self, index: int) -> bool:
        """Whether a chunk contributes to any frame that will be handed out."""
        chunk = self.chunks[index]
        return chunk.stop > self.keep.start and chunk.start < self.keep.stop

    def add(self, index: int, frames: torch.Tensor) -> torch.Tensor | None:
        """Adds the next frames (f, ...) of a chunk.

        Returns:
            The frames that are final now, (g, ...), or None if there are none.
        """
        first = self._position[index]
        self._position[index] += frames.shape[0]
        ready: list[torch.Tensor] = []
        for offset, frame in enumerate(frames):
            number = first + offset
            weight = self._weights[index][number - self.chunks[index].start]
            if weight == 0 or not self.keep.start <= number < self.keep.stop:
                continue
            share = frame if weight == 1 else frame * weight
            if number in self._held:
                share = self._held.pop(number) + share
            if self._last[number] == index:
                ready.append(share)
            else:
                self._held[number] = share.clone()
        return torch.stack(ready) if ready else None
