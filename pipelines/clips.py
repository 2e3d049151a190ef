"""Whole clips through a model, chunk by chunk, joined as a run over a file joins them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from pipelines.chunks import Chunk, ChunkJoiner
from pipelines.execution import restore_chunk
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from pipelines.tiling import Blend

RestoreFrames = Callable[[Tensor], Iterator[Tensor]]
"""Frames of one chunk (F, 3, h, w) to batches (f, 3, H, W), F frames in all."""


def stream_chunks(
    clip: Tensor, chunks: Iterable[Chunk], restore: RestoreFrames, *, blend: Blend = "fade"
) -> Iterator[Tensor]:
    """Restores a clip chunk by chunk.

    Args:
        clip: (F, 3, h, w).
        chunks: Of these frames, in order; past the end the last frame stands in.
        restore: Restores one chunk.
        blend: How frames that chunks share are joined.

    Yields:
        F times (3, H, W), as soon as it is final.
    """
    num_frames, joiner = clip.shape[0], ChunkJoiner(blend)
    for chunk in chunks:
        index = torch.arange(chunk.start, chunk.stop, device=clip.device).clamp(max=num_frames - 1)
        frames = clip[index] if chunk.stop > num_frames else clip[chunk.start : chunk.stop]
        for number, image in joiner.join(chunk, restore(frames)):
            if number < num_frames:
                yield image
    yield from (image for number, image in joiner.flush() if number < num_frames)


def restore_clip(
    model: Model,
    clip: Tensor,
    size: tuple[int, int],
    *,
    plan: ChunkPlan | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Restores a whole clip.

    Args:
        model: The model.
        clip: (F, 3, h, w), float with [0, 1] or uint8, any device.
        size: (H, W) of the result.
        plan: Chunks and tiles; by default chosen for the memory that is free.
        generator: Source of noise, on the model's device.

    Returns:
        (F, 3, H, W), float32, [0, 1], on the CPU.

    Raises:
        PipelineError: As `Model.plan` and `Model.restore`.
    """
    plan = plan or model.plan(num_frames=clip.shape[0], size=(clip.shape[-2], clip.shape[-1]), out_size=size)

    def restore(frames: Tensor) -> Iterator[Tensor]:
        for batch in restore_chunk(model, frames, size, plan, generator=generator):
            yield batch.to(device="cpu", dtype=torch.float32)

    chunks = model.chunks(clip.shape[0], plan)
    return torch.stack(list(stream_chunks(clip, chunks, restore, blend=model.blend)))
