"""A model at work on one chunk: smaller tiles where memory ends, and the frames on their way to the host.

Frames leave a device narrow, through pinned memory, while it works on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipelines.errors import OutOfMemoryError, is_out_of_memory
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan, NetworkPart

logger = logging.getLogger(__name__)

FrameDtype = Literal["uint8", "uint16", "float16", "float32"]
_LEVELS = {"uint8": 255, "uint16": 65535}
_DTYPES = {
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "float16": torch.float16,
    "float32": torch.float32,
}


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


@dataclass(frozen=True)
class _Pending:
    """A copy that may still be under way.

    Attributes:
        host: Where it goes; holds nothing valid before `done`.
        source: Kept until then, so that the device's allocator does not hand its memory out again.
        done: Recorded behind the copy; None for a copy that has ended.
    """

    host: Tensor
    source: Tensor
    done: torch.cuda.Event | None


class HostCopier:
    """Brings batches of frames to host memory, one batch behind the device.

    Args:
        dtype: Of the frames there. Integers hold code values in all their range, rounded; float16 differs
            from float32 by at most 2.5e-4.
    """

    def __init__(self, dtype: FrameDtype = "float32") -> None:
        self.dtype = dtype

    def copy(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Passes batches on in order.

        While the caller works on a batch, the device computes and copies the next one.

        Args:
            batches: (f, 3, H, W), float, [0, 1], on any device.

        Yields:
            (f, 3, H, W), `dtype`, on the host, each in memory of its own.
        """
        pending: _Pending | None = None
        for batch in batches:
            started = self._start(batch)
            if pending is not None:
                yield _wait(pending)
            pending = started
            if pending.done is None:  # nothing to wait for: do not hold it back
                yield pending.host
                pending = None
        if pending is not None:
            yield _wait(pending)

    def _start(self, batch: Tensor) -> _Pending:
        narrow = quantize(batch, self.dtype)
        if narrow.device.type != "cuda":
            return _Pending(narrow.cpu(), narrow, None)
        host = torch.empty(narrow.shape, dtype=narrow.dtype, pin_memory=True)
        host.copy_(narrow, non_blocking=True)
        # torch leaves events untyped.
        done: torch.cuda.Event = torch.cuda.current_stream(narrow.device).record_event()
        return _Pending(host, narrow, done)


def _wait(pending: _Pending) -> Tensor:
    if pending.done is not None:
        pending.done.synchronize()
    return pending.host


def quantize(frames: Tensor, dtype: FrameDtype) -> Tensor:
    """Frames in [0, 1] as `dtype`, on their device; integers are rounded code values.

    Args:
        frames: (f, 3, H, W), float, [0, 1].
        dtype: What is wanted.
    """
    if dtype in _LEVELS:
        return frames.float().mul(_LEVELS[dtype]).round_().to(_DTYPES[dtype])
    return frames.to(_DTYPES[dtype])


def dequantize(frames: Tensor) -> Tensor:
    """What `quantize` made of frames, as float32 in [0, 1]."""
    name = str(frames.dtype).removeprefix("torch.")
    return frames.float().div_(_LEVELS[name]) if name in _LEVELS else frames.float()
