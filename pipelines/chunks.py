"""How a row of frames is cut into chunks and put together again. Pure; knows no model and no clock.

A shot begins at the first frame or at a scene cut. Chunks of one shot have `chunk_len` frames and share
`overlap` frames with the next one; across a cut they share none, so no scene leaks into another. Where a
chunk lies depends on frame numbers and cuts alone, so a run that is continued cuts as the first one would
have. A whole clip (`clip_chunks`) is cut like an endless row, so both give the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pipelines.planning.spans import reference_spans
from pipelines.tiling import Blend


@dataclass(frozen=True)
class Chunk:
    """Frames that pass the model at once, by their numbers.

    Attributes:
        start: First frame.
        stop: One past the last frame.
        lead: Frames at its start that the chunk before has as well.
        tail: Frames at its end that the next chunk may have as well. They are final only when that is known.
    """

    start: int
    stop: int
    lead: int = 0
    tail: int = 0

    @property
    def final_stop(self) -> int:
        """One past the last frame that no later chunk can change."""
        return self.stop - self.tail

    def __len__(self) -> int:
        return self.stop - self.start


class ChunkScheduler:
    """Closes chunks while frames arrive one by one.

    Args:
        chunk_len: Frames of a chunk, at least 1; fewer only at the end of a shot.
        overlap: Frames that neighbours share, at most half a chunk: at every frame at most two chunks meet.
        first_frame: Number of the first frame that will arrive.

    Raises:
        ValueError: If the sizes are not as above.
    """

    def __init__(self, chunk_len: int, overlap: int, *, first_frame: int = 0) -> None:
        if chunk_len < 1 or not 0 <= overlap <= chunk_len // 2:
            raise ValueError(
                f"chunks of {chunk_len} frames cannot overlap by {overlap}: at most half, at least 0"
            )
        self.chunk_len, self.overlap = chunk_len, overlap
        self.start = self._next = first_frame
        self._lead = 0

    def begin_frame(self, *, is_cut: bool) -> Chunk | None:
        """Announces the next frame.

        Args:
            is_cut: Whether a new shot begins with it.

        Returns:
            The chunk that ends right before this frame because of the cut, if there is one.
        """
        if not is_cut:
            return None
        chunk = self.finish()
        self.start, self._lead = self._next, 0
        return chunk

    def end_frame(self) -> Chunk | None:
        """Counts the announced frame in.

        Returns:
            The chunk that it completes, if it does.
        """
        self._next += 1
        if self._next - self.start < self.chunk_len:
            return None
        chunk = Chunk(self.start, self._next, self._lead, self.overlap)
        self.start, self._lead = self._next - self.overlap, self.overlap
        return chunk

    def finish(self) -> Chunk | None:
        """The last chunk of a shot, or None if no frame came since the chunk before."""
        if self._next == self.start + self._lead:
            return None
        return Chunk(self.start, self._next, self._lead)


def clip_chunks(num_frames: int, chunk_len: int, overlap: int) -> list[Chunk]:
    """The chunks of one shot that is known as a whole.

    Args:
        num_frames: Frames of the shot.
        chunk_len: Frames of a chunk; 0 for all.
        overlap: Frames that neighbours share; more than half a chunk counts as half.
    """
    length = min(chunk_len or num_frames, num_frames)
    scheduler = ChunkScheduler(length, min(overlap, length // 2))
    chunks: list[Chunk] = []
    for _ in range(num_frames):
        scheduler.begin_frame(is_cut=False)
        if chunk := scheduler.end_frame():
            chunks.append(chunk)
    if chunk := scheduler.finish():
        chunks.append(chunk)
    return _final(chunks)


def reference_chunks(num_frames: int, chunk_len: int, overlap: int) -> list[Chunk]:
    """DOVE's chunks of a padded clip, see `reference_spans`; the last one may be longer than the others.

    Raises:
        ValueError: If the overlap leaves no stride.
    """
    spans = reference_spans(num_frames, chunk_len, overlap)
    shared = [0, *(max(a.stop - b.start, 0) for a, b in pairwise(spans)), 0]
    return [
        Chunk(span.start, span.stop, lead, tail)
        for span, (lead, tail) in zip(spans, pairwise(shared), strict=True)
    ]


def _final(chunks: list[Chunk]) -> list[Chunk]:
    """Nothing comes after the last chunk, so it has no tail."""
    *before, last = chunks
    return [*before, Chunk(last.start, last.stop, last.lead)]


def fade_in(position: int, overlap: int) -> float:
    """Weight of the later chunk at a shared frame: a line through 0 and 1 at the ends of the overlap."""
    return (position + 0.5) / overlap


class ChunkJoiner:
    """Puts the frames of chunks together and hands out each one as soon as it is final.

    Frames that are in one chunk only pass unchanged, the same tensors.

    Args:
        blend: How shared frames are joined: `fade` crosses over; `cut` takes the earlier chunk's up to the
            middle of what is shared, as DOVE does, and needs to know each chunk's true tail.
    """

    def __init__(self, blend: Blend = "fade") -> None:
        self._blend = blend
        self._held: list[tuple[int, Tensor]] = []

    def join(self, chunk: Chunk, batches: Iterator[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Takes a chunk's result, as it comes.

        Args:
            chunk: Follows the one of the last call.
            batches: (f, 3, H, W) each, together as many frames as the chunk has.

        Yields:
            Number and image (3, H, W) of each frame that is final, in order.

        Raises:
            ValueError: If there are more or fewer frames.
        """
        if not chunk.lead:
            yield from self.flush()
        number = chunk.start
        for batch in batches:
            for image in batch:
                final = self._settle(chunk, number, image)
                if final is not None:
                    yield number, final
                number += 1
        if number != chunk.stop:
            raise ValueError(f"the model gave {number - chunk.start} frames for a chunk of {len(chunk)}")

    def flush(self) -> list[tuple[int, Tensor]]:
        """What was held for a next chunk that does not come."""
        held, self._held = self._held, []
        return held

    def _settle(self, chunk: Chunk, number: int, image: Tensor) -> Tensor | None:
        """The frame if it is final; otherwise it is held, or not this chunk's."""
        if self._blend == "cut":
            return image if _is_kept(chunk, number) else None
        position = number - chunk.start
        if position < chunk.lead and self._held:
            held_number, held = self._held.pop(0)
            assert held_number == number
            image = torch.lerp(held, image, fade_in(position, chunk.lead))
        if number < chunk.final_stop:
            return image
        # A copy: a slice would keep its whole batch alive until the next chunk comes.
        self._held.append((number, image.clone()))
        return None


def _is_kept(chunk: Chunk, number: int) -> bool:
    """Whether a frame is this chunk's where neighbours are cut in the middle of what they share."""
    return chunk.start + chunk.lead // 2 <= number < chunk.final_stop + chunk.tail // 2
