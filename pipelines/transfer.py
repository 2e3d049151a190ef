"""Frames on their way from a device to the host: narrow, through pinned memory, while the device works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

FrameDtype = Literal["uint8", "uint16", "float16", "float32"]
_LEVELS = {"uint8": 255, "uint16": 65535}
_DTYPES = {
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "float16": torch.float16,
    "float32": torch.float32,
}


@dataclass(frozen=True)
class _Pending:
    """A copy that may still be under way.

    Attributes:
        host: Where it goes; holds nothing valid before `done`.
        source: Kept until then, so that the device's allocator does not hand its memory out again.
        done: Recorded behind the copy; None for a copy that has ended.
    """

    host: torch.Tensor
    source: torch.Tensor
    done: torch.cuda.Event | None


class HostCopier:
    """Brings batches of frames to host memory, one batch behind the device.

    Args:
        dtype: Of the frames there. Integers hold code values in all their range, rounded; float16 differs
            from float32 by at most 2.5e-4.
    """

    def __init__(self, dtype: FrameDtype = "float32") -> None:
        self.dtype = dtype

    def copy(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
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

    def _start(self, batch: torch.Tensor) -> _Pending:
        narrow = quantize(batch, self.dtype)
        if narrow.device.type != "cuda":
            return _Pending(narrow.cpu(), narrow, None)
        host = torch.empty(narrow.shape, dtype=narrow.dtype, pin_memory=True)
        host.copy_(narrow, non_blocking=True)
        # torch leaves events untyped.
        done: torch.cuda.Event = torch.cuda.current_stream(narrow.device).record_event()
        return _Pending(host, narrow, done)


def _wait(pending: _Pending) -> torch.Tensor:
    if pending.done is not None:
        pending.done.synchronize()
    return pending.host


def quantize(frames: torch.Tensor, dtype: FrameDtype) -> torch.Tensor:
    """Frames in [0, 1] as `dtype`, on their device; integers are rounded code values.

    Args:
        frames: (f, 3, H, W), float, [0, 1].
        dtype: What is wanted.
    """
    if dtype in _LEVELS:
        return frames.float().mul(_LEVELS[dtype]).round_().to(_DTYPES[dtype])
    return frames.to(_DTYPES[dtype])


def dequantize(frames: torch.Tensor) -> torch.Tensor:
    """What `quantize` made of frames, as float32 in [0, 1]."""
    name = str(frames.dtype).removeprefix("torch.")
    return frames.float().div_(_LEVELS[name]) if name in _LEVELS else frames.float()
