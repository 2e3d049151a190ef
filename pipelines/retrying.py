"""What happens where memory ends in the middle of a chunk: smaller tiles, and a note of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.errors import OutOfMemoryError, is_out_of_memory
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan, NetworkPart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryRetry:
    """An attempt that ran out of memory.

    Attributes:
        part: Where.
        plan: That did not fit.
        smaller: That was tried next.
    """

    part: NetworkPart
    plan: ChunkPlan
    smaller: ChunkPlan

    def __str__(self) -> str:
        return (
            f"memory did not suffice ({self.part}) for {self.plan.describe()}; went on with "
            f"{self.smaller.describe()}: slower, and tiles may show"
        )


def restore_chunk(
    model: Model,
    clip: Tensor,
    size: tuple[int, int],
    plan: ChunkPlan,
    *,
    generator: torch.Generator | None = None,
    on_retry: Callable[[MemoryRetry], None] = lambda retry: None,
) -> Iterator[Tensor]:
    """`Model.restore`, again with the next smaller plan wherever memory ends.

    Frames that were handed out stay; the model remembers the smaller plan for its next chunk. Which chunks
    there are never changes.

    Args:
        model: The model.
        clip: As for `Model.restore`, like the next three.
        size: (H, W) of the result.
        plan: Chunks and tiles.
        generator: Source of noise; each attempt draws the same.
        on_retry: Told of each attempt that failed.

    Raises:
        OutOfMemoryError: If the smallest plan does not fit either.
        PipelineError: As `Model.restore`.
    """
    state = None if generator is None else generator.get_state()
    num_done = 0
    while plan in model.replaced_plans:
        plan = model.replaced_plans[plan]
    while True:
        try:
            for frames in _skip(model.restore(clip, size, plan, generator=generator), num_done):
                num_done += frames.shape[0]
                yield frames
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            smaller = plan.smaller(model.part)
            if smaller is None:
                raise _give_up(plan, error) from error
            retry = MemoryRetry(model.part, plan, smaller)
        # Out of the handler, so that the traceback no longer holds the failed attempt's tensors.
        logger.warning("%s", retry)
        model.replaced_plans[plan] = smaller
        plan = smaller
        on_retry(retry)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        if generator is not None and state is not None:
            generator.set_state(state)


def _skip(batches: Iterator[Tensor], num_frames: int) -> Iterator[Tensor]:
    """Drops the first frames of batches."""
    for batch in batches:
        dropped = min(num_frames, batch.shape[0])
        num_frames -= dropped
        if dropped < batch.shape[0]:
            yield batch[dropped:]


def _give_up(plan: ChunkPlan, error: BaseException) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"out of memory with the smallest plan ({plan.describe()}): {error}; choose a smaller target, "
        "shorter chunks, a lower-precision dtype or a device with more memory",
        required_bytes=plan.estimated_bytes,
    )
