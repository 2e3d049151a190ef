"""The sizes the planner may choose from, largest first."""

from __future__ import annotations

from pipelines.planning.shapes import DiffusionShape

MIN_TILE = 128
MIN_CHUNK_STEP = 4

TileSize = tuple[int, int]


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def chunk_ladder(model: DiffusionShape, num_frames: int, longest: int) -> list[int]:
    """Chunk lengths from `longest` down in the model's rhythm.

    Args:
        model: The checkpoint's shape.
        num_frames: Frames of the padded clip.
        longest: First length to try; 0 for the whole clip.
    """
    longest = min(model.chunk_frames(longest) if longest else num_frames, num_frames)
    step = max(model.frame_quantum, MIN_CHUNK_STEP)
    shortest = min(longest, step + model.leading_frames)
    return [*range(longest, shortest, -step), shortest]


def tile_ladder(
    model: DiffusionShape, frame: TileSize, overlap: int, tile: TileSize | None
) -> list[TileSize]:
    """Transformer tiles from the whole frame, or from the tile that was asked for, down."""
    floor = smallest_tile(model, overlap)
    if tile is None:
        return split_ladder(frame, overlap, model.alignment, floor)
    ladder = [tile]
    while True:
        height, width = (min(side, max(round_up(side // 2, model.alignment), floor)) for side in ladder[-1])
        if (height, width) == ladder[-1]:
            return ladder
        ladder.append((height, width))


def vae_ladder(model: DiffusionShape, frame: TileSize, overlap: int) -> list[TileSize]:
    """VAE tiles from the whole frame, which is written (0, 0), down."""
    sizes = split_ladder(frame, overlap, model.alignment, smallest_tile(model, overlap))
    return [(0, 0), *sizes[1:]]


def smallest_tile(model: DiffusionShape, overlap: int) -> int:
    """Side of the smallest tile: large enough to show something, and to move on by one token."""
    return max(round_up(MIN_TILE, model.alignment), round_up(overlap, model.alignment) + model.alignment)


def split_ladder(frame: TileSize, overlap: int, align: int, floor: int) -> list[TileSize]:
    """Tiles of 1x1, 1x2, 2x2, ... equal parts: the longer side of the tile is cut once more each time.

    Sides stay at or above `floor` unless the frame is smaller.
    """
    parts = [1, 1]
    ladder = [frame]
    while True:
        tile = ladder[-1]
        axes = sorted((0, 1), key=lambda axis: -tile[axis])
        axis = next((axis for axis in axes if tile[axis] > floor), None)
        if axis is None:
            return ladder
        side = tile[axis]
        while side >= tile[axis]:  # one part more may not change the side after rounding
            parts[axis] += 1
            side = _part(frame[axis], parts[axis], overlap, align)
        side = max(side, floor)
        ladder.append((side, tile[1]) if axis == 0 else (tile[0], side))


def halved_ladder(frame: TileSize, floor: int) -> list[TileSize]:
    """Tiles from the whole frame down: the longer side is halved each time, to no less than `floor`."""
    ladder = [frame]
    while True:
        height, width = ladder[-1]
        if height >= width:
            below = min(height, max(-(-height // 2), floor)), width
        else:
            below = height, min(width, max(-(-width // 2), floor))
        if below == ladder[-1]:
            return ladder
        ladder.append(below)


def _part(length: int, parts: int, overlap: int, align: int) -> int:
    """Side of `parts` equal tiles that cover `length` with at least `overlap`."""
    return min(length, round_up(-(-(length + (parts - 1) * overlap) // parts), align))


def next_smaller(ladder: list[TileSize], current: TileSize) -> TileSize | None:
    """The first rung with at most two thirds of the current pixels, or the last rung; (0, 0) is the top.

    Every attempt that runs out of memory costs time, so retries take large steps.
    """
    below = [size for size in ladder if size != (0, 0)]
    if current == (0, 0):
        return below[0] if below else None
    pixels = current[0] * current[1]
    below = [size for size in below if size[0] * size[1] < pixels]
    return next((size for size in below if 3 * size[0] * size[1] <= 2 * pixels), below[-1] if below else None)
