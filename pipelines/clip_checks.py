"""What every model checks of a clip before it works on it."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.errors import InvalidOptionError, UnsupportedSizeError


def check_clip(clip: Tensor) -> None:
    """Refuses what is not a clip.

    Raises:
        InvalidOptionError: If shape or dtype are wrong.
    """
    if clip.ndim != 4 or clip.shape[1] != 3 or clip.shape[0] < 1:
        raise InvalidOptionError(f"a clip is (F, 3, h, w) with at least one frame, got {tuple(clip.shape)}")
    if not (clip.dtype == torch.uint8 or clip.dtype.is_floating_point):
        raise InvalidOptionError(f"a clip is uint8, or float with [0, 1], got {clip.dtype}")


def check_chunk(clip: Tensor, size: tuple[int, int]) -> None:
    """Refuses what is not a clip, and sizes that nothing can have.

    Raises:
        InvalidOptionError: If shape or dtype are wrong.
        UnsupportedSizeError: If the size (H, W) is not positive.
    """
    check_clip(clip)
    if min(size) < 1:
        raise UnsupportedSizeError(f"the target size must be positive, got {size[1]}x{size[0]}")


def to_float(frames: Tensor, device: torch.device) -> Tensor:
    """Frames as float32 with [0, 1] on a device, from uint8 or any float."""
    frames = frames.to(device)
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
