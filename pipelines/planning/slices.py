"""How many frames are worked on at once where that is free to choose, for the planner and for the work."""

from __future__ import annotations

# Source pixels that the space-to-depth decoder takes at once. On two cores, batches of two frames of 320x180
# took 4 % less time end to end than 16: their tensors come from the allocator's pool, while larger ones come
# from the system each time, page by page.
BATCH_PIXELS = 2**17
MAX_BATCH_FRAMES = 16
# Output pixels that are interpolated or finished at once: two frames of 720p, one of anything larger.
SLICE_PIXELS = 2**21


def frames_per_batch(height: int, width: int) -> int:
    """Frames of this size (of the source) that the space-to-depth decoder takes at once."""
    return min(max(BATCH_PIXELS // max(height * width, 1), 1), MAX_BATCH_FRAMES)


def frames_per_slice(height: int, width: int) -> int:
    """Frames of this size (of the output) that are interpolated or finished at once."""
    return max(SLICE_PIXELS // (height * width), 1)
