"""Plans of models that restore a chunk of frames together and carry states from frame to frame.

What such a model keeps grows with the frames of a chunk, so chunks are made shorter before frames are cut
into tiles: a tile repeats its margin, a short chunk only what chunks share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipelines.errors import OutOfMemoryError
from pipelines.planning.ladders import TileSize, halved_ladder, next_smaller
from pipelines.planning.plan import ChunkRequest, NetworkPart, TileLayout
from pipelines.planning.spans import TileGrid, disjoint_tiles

# Frames of a chunk, longest first.
CHUNK_LENGTHS = (24, 16, 8)
# The first frame of a chunk has no past, the last no future. What a frame gives falls by a third with each
# frame that it is carried on (measured with random fusions, before there were trained ones). Of three frames
# that fade over, the one without a neighbour on one side counts a sixth; a seventh of the work is done twice.
DEFAULT_OVERLAP = 3
MIN_TILE = 32

# Bytes, counted with `pipelines.memory_tracking` and rounded up: for a pixel of the body the motion to both
# neighbours (flow and confidence in float32), and what finding it takes; for a pixel of the source what the
# estimate of its levels takes, the pixel itself and its mean over time with the count of frames in it; for a
# pixel of the output the frame in work.
_MOTION_BYTES, _MOTION_WORK_BYTES = 2 * 3 * 4, 2 * 100
_LEVELS_BYTES, _SOURCE_BYTES = 96, 3 * 4 + 4 * 4
_OUTPUT_BYTES = 3 * 3 * 4
# States of one frame that are alive at once while one is carried on: in their dtype, and in float32.
_WORK_STATES, _WARPED_STATES = 3, 2


@dataclass(frozen=True)
class ClipShape:
    """What the planner needs to know of a model that carries states through a chunk.

    Attributes:
        channels: Values of a state for each pixel of the body.
        element_size: Bytes of such a value.
        factors: Native factors, smallest first, each with the source pixels along a side of a body pixel.
        margin: Body pixels around a tile that its result depends on.
        waiting_size: Bytes on the device of a value that waits for other tiles; 0 where it waits on the host.
        kind: Tells shapes apart where they are JSON.
    """

    channels: int
    element_size: int
    factors: tuple[tuple[int, int], ...]
    margin: int = 0
    waiting_size: int = 2
    kind: Literal["clips"] = "clips"

    def factor_for(self, size: TileSize, out_size: TileSize) -> tuple[int, int]:
        """The smallest native factor that reaches a size (height, width), else the largest, and its ratio."""
        reaching = (
            (scale, ratio)
            for scale, ratio in self.factors
            if scale * size[0] >= out_size[0] and scale * size[1] >= out_size[1]
        )
        return next(reaching, self.factors[-1])


@dataclass(frozen=True)
class ClipPlan:
    """Sizes of chunks and tiles.

    Attributes:
        chunk_len: Frames of a chunk; 0 for all.
        chunk_overlap: Frames that neighbouring chunks share and fade over.
        tile_height: Height of a tile in body pixels, without its margin; 0 for the whole frame (so is 0 for
            the width).
        tile_width: Width of a tile.
        num_frames: Most frames that a chunk can have.
        height: Of the source.
        width: Of the source.
        out_height: Of the output.
        out_width: Of the output.
        estimated_bytes: Estimated peak of activations and of the chunk's source, without weights.
        shape: Of the model; None for a plan written by hand, which has no smaller one.
        kind: Tells plans apart where they are JSON.
    """

    chunk_len: int = CHUNK_LENGTHS[0]
    chunk_overlap: int = DEFAULT_OVERLAP
    tile_height: int = 0
    tile_width: int = 0
    num_frames: int = CHUNK_LENGTHS[0]
    height: int = 0
    width: int = 0
    out_height: int = 0
    out_width: int = 0
    estimated_bytes: int = 0
    shape: ClipShape | None = None
    kind: Literal["clips"] = "clips"

    def tile_grid(self, height: int, width: int) -> TileGrid:
        """Tiles of a frame of so many body pixels, without margins."""
        return disjoint_tiles((height, width), (self.tile_height, self.tile_width))

    def layout(self) -> TileLayout:
        """The tiles of a frame."""
        if self.shape is None or not self.tile_height:
            return TileLayout(1, 1, self.out_height, self.out_width)
        scale, ratio = _factor(self, self.shape)
        grid = self.tile_grid(*_body_size(self, self.shape))
        row, col = grid.tiles[0]
        return TileLayout(len(grid.rows), len(grid.cols), row.size * ratio * scale, col.size * ratio * scale)

    def describe(self) -> str:
        """See `ChunkPlan.describe`."""
        layout = self.layout()
        return (
            f"{self.num_frames} frames in {layout.rows}x{layout.cols} tiles of {layout.width}x{layout.height}"
        )

    def smaller(self, part: NetworkPart | None = None) -> ClipPlan | None:
        """See `ChunkPlan.smaller`: smaller tiles, whatever the part."""
        if self.shape is None:
            return None
        frame = _body_size(self, self.shape)
        tile = (self.tile_height, self.tile_width) if self.tile_height else frame
        below = next_smaller(_ladder(self.shape, frame), tile)
        return None if below is None else _sized(self, self.shape, below)


def plan_clips(shape: ClipShape, request: ChunkRequest) -> ClipPlan:
    """Chooses chunks and tiles: as long and as large as the memory allows.

    Raises:
        OutOfMemoryError: If the smallest plan is estimated not to fit.
    """
    lengths = CHUNK_LENGTHS if request.chunk is None else (request.chunk,)
    bases = [_base(shape, request, length) for length in lengths]
    frame = _body_size(bases[0], shape)
    if request.tile_sides is not None:
        tile = _wanted_tile(bases[0], shape, request.tile_sides)
        plans = [_sized(base, shape, tile) for base in bases]
        return next((plan for plan in plans if plan.estimated_bytes <= request.memory_bytes), plans[-1])
    plans = [_sized(base, shape, frame) for base in bases]
    plans += [_sized(bases[-1], shape, tile) for tile in _ladder(shape, frame)[1:]]
    for plan in plans:
        if plan.estimated_bytes <= request.memory_bytes:
            return plan
    least = min(plan.estimated_bytes for plan in plans)
    raise OutOfMemoryError(
        f"{request.out_width}x{request.out_height} output needs about {least / 2**30:.2f} GiB even in short "
        f"chunks and the smallest tiles, {request.memory_bytes / 2**30:.2f} GiB are free; choose a smaller "
        "target, shorter chunks, a lower-precision dtype or a device with more memory",
        required_bytes=least,
        available_bytes=request.memory_bytes,
    )


def _base(shape: ClipShape, request: ChunkRequest, chunk_len: int) -> ClipPlan:
    num_frames = min(chunk_len or request.num_frames, request.num_frames)
    overlap = DEFAULT_OVERLAP if request.chunk_overlap is None else request.chunk_overlap
    return ClipPlan(
        chunk_len=chunk_len,
        chunk_overlap=min(overlap, chunk_len // 2),
        num_frames=num_frames,
        height=request.height,
        width=request.width,
        out_height=request.out_height,
        out_width=request.out_width,
        shape=shape,
    )


def _factor(plan: ClipPlan, shape: ClipShape) -> tuple[int, int]:
    return shape.factor_for((plan.height, plan.width), (plan.out_height, plan.out_width))


def _body_size(plan: ClipPlan, shape: ClipShape) -> TileSize:
    _, ratio = _factor(plan, shape)
    return -(-plan.height // ratio), -(-plan.width // ratio)


def _wanted_tile(plan: ClipPlan, shape: ClipShape, sides: TileSize) -> TileSize:
    """The tile that was asked for, from output pixels to body pixels; (0, ...) is the whole frame."""
    frame = _body_size(plan, shape)
    if min(sides) == 0:
        return frame
    scale, ratio = _factor(plan, shape)
    height, width = (
        min(-(-side // (scale * ratio)), length) for side, length in zip(sides, frame, strict=True)
    )
    return height, width


def _ladder(shape: ClipShape, frame: TileSize) -> list[TileSize]:
    # A smaller tile would be mostly margin.
    return halved_ladder(frame, max(MIN_TILE, shape.margin))


def _sized(plan: ClipPlan, shape: ClipShape, tile: TileSize) -> ClipPlan:
    frame = _body_size(plan, shape)
    height, width = (0, 0) if tile == frame else tile
    sized = replace(plan, tile_height=height, tile_width=width)
    return replace(sized, estimated_bytes=_estimated_bytes(sized, shape, tile))


def _estimated_bytes(plan: ClipPlan, shape: ClipShape, tile: TileSize) -> int:
    scale, ratio = _factor(plan, shape)
    frame = _body_size(plan, shape)
    body_pixels = frame[0] * frame[1]
    rows, cols = (min(side + 2 * shape.margin, length) for side, length in zip(tile, frame, strict=True))
    tile_pixels = rows * cols
    source_pixels, grid_values = plan.height * plan.width, 3 * (scale * ratio) ** 2
    chunk = plan.num_frames * (source_pixels * _SOURCE_BYTES + body_pixels * _MOTION_BYTES)
    if tile != frame:
        chunk += plan.num_frames * body_pixels * grid_values * shape.waiting_size
    state = tile_pixels * shape.channels * shape.element_size
    states = (plan.num_frames + _WORK_STATES) * state
    work = tile_pixels * (_WARPED_STATES * shape.channels * 4 + 2 * grid_values * shape.element_size)
    output = max(body_pixels * (scale * ratio) ** 2, plan.out_height * plan.out_width) * _OUTPUT_BYTES
    preparing = max(body_pixels * _MOTION_WORK_BYTES, source_pixels * _LEVELS_BYTES)
    return chunk + max(preparing, states + work + output)
