"""Plans of models that restore frames one by one: interpolation, per-frame networks.

A convolutional network's output depends on the source no further than its reach, so tiles with a margin of
that many pixels, cropped, give the untiled result: there is nothing to blend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipelines.errors import InvalidOptionError, OutOfMemoryError
from pipelines.planning.ladders import TileSize, halved_ladder, next_smaller, round_up
from pipelines.planning.plan import ChunkRequest, NetworkPart, TileLayout
from pipelines.planning.spans import TileGrid, disjoint_tiles

# Frames are independent of one another, so chunks only bound the memory.
DEFAULT_CHUNK = 8
# Bytes per output pixel of the frame in work: float32 RGB of the network, resampled, and clamped.
OUTPUT_BYTES = 3 * 3 * 4


@dataclass(frozen=True)
class FrameShape:
    """What the planner needs to know of a model that restores frames one by one.

    Attributes:
        scale: Factor of the network; None where it reaches any size by itself (interpolation).
        bytes_per_pixel: Activation peak per source pixel of a tile.
        fixed_bytes: Of the activation peak, what no tile makes smaller.
        margin: Source pixels around a tile that its result depends on.
        multiple: Sides of what the network is given are multiples of this many source pixels.
        min_side: Shortest side the network takes, in source pixels.
        is_square: Whether the network takes squares only.
        alignment: What the network is given begins and ends at multiples of this many source pixels, itself a
            multiple of `multiple`: windows and unshuffled pixels then lie where they lie in the whole frame.
        kind: Tells shapes apart where they are JSON.
    """

    scale: int | None = None
    bytes_per_pixel: int = 0
    fixed_bytes: int = 0
    margin: int = 0
    multiple: int = 1
    min_side: int = 1
    is_square: bool = False
    alignment: int = 1
    kind: Literal["frames"] = "frames"

    def padded(self, size: TileSize) -> TileSize:
        """The smallest size (height, width) that the network takes and that holds this one."""
        height, width = (max(round_up(side, self.multiple), self.min_side) for side in size)
        return (max(height, width),) * 2 if self.is_square else (height, width)

    def network_bytes(self, tile: TileSize, frame: TileSize) -> int:
        """Activation peak of the network on a tile (height, width) with what lies around it.

        Args:
            tile: In source pixels, without its margin.
            frame: The frame it is cut from.
        """
        around = 2 * (self.margin + self.alignment - 1)
        # Networks with windows pad to whole ones on their own.
        height, width = self.padded(
            (
                round_up(min(tile[0] + around, frame[0]), self.alignment),
                round_up(min(tile[1] + around, frame[1]), self.alignment),
            )
        )
        return height * width * self.bytes_per_pixel + self.fixed_bytes

    @property
    def smallest_tile(self) -> int:
        """A smaller one would be mostly margin."""
        return max(round_up(max(32, self.margin), self.alignment), self.min_side)


@dataclass(frozen=True)
class FramePlan:
    """Sizes of chunks and tiles.

    Attributes:
        chunk_len: Frames of a chunk; 0 for all.
        chunk_overlap: Frames that neighbouring chunks share; they are the same in both.
        tile_height: Height of a tile in source pixels, without its margin; 0 for the whole frame (so is 0 for
            the width).
        tile_width: Width of a tile.
        height: Of the source.
        width: Of the source.
        out_height: Of the output.
        out_width: Of the output.
        estimated_bytes: Estimated peak of activations, without weights.
        shape: Of the model; None for a plan written by hand, which has no smaller one.
        kind: Tells plans apart where they are JSON.
    """

    chunk_len: int = DEFAULT_CHUNK
    chunk_overlap: int = 0
    tile_height: int = 0
    tile_width: int = 0
    height: int = 0
    width: int = 0
    out_height: int = 0
    out_width: int = 0
    estimated_bytes: int = 0
    shape: FrameShape | None = None
    kind: Literal["frames"] = "frames"

    def tile_grid(self, height: int, width: int) -> TileGrid:
        """Tiles of a frame, in source pixels, without margins."""
        return disjoint_tiles((height, width), (self.tile_height, self.tile_width))

    def layout(self) -> TileLayout:
        """The tiles of a frame."""
        scale = (self.shape.scale if self.shape else None) or 1
        grid = self.tile_grid(max(self.height, 1), max(self.width, 1))
        row, col = grid.tiles[0]
        if len(grid) == 1:
            return TileLayout(1, 1, self.out_height, self.out_width)
        return TileLayout(len(grid.rows), len(grid.cols), row.size * scale, col.size * scale)

    def describe(self) -> str:
        """See `ChunkPlan.describe`."""
        layout = self.layout()
        return f"{layout.rows}x{layout.cols} tiles of {layout.width}x{layout.height}"

    def smaller(self, part: NetworkPart | None = None) -> FramePlan | None:
        """See `ChunkPlan.smaller`: smaller tiles, whatever the part."""
        if self.shape is None:
            return None
        tile = self.tile_height or self.height, self.tile_width or self.width
        below = next_smaller(_ladder(self.shape, (self.height, self.width)), tile)
        return None if below is None else _sized(self, self.shape, below)


def plan_frames(shape: FrameShape, request: ChunkRequest) -> FramePlan:
    """Chooses tiles: as large as the memory allows.

    Raises:
        InvalidOptionError: If a wish makes no sense for the model.
        OutOfMemoryError: If the smallest plan is estimated not to fit.
    """
    base = FramePlan(
        chunk_len=DEFAULT_CHUNK if request.chunk is None else request.chunk,
        chunk_overlap=request.chunk_overlap or 0,
        height=request.height,
        width=request.width,
        out_height=request.out_height,
        out_width=request.out_width,
        shape=shape,
    )
    frame = request.height, request.width
    if request.tile_sides is not None:
        return _sized(base, shape, _wanted_tile(shape, request.tile_sides, frame))
    for tile in _ladder(shape, frame):
        plan = _sized(base, shape, tile)
        if plan.estimated_bytes <= request.memory_bytes:
            return plan
    raise OutOfMemoryError(
        f"{request.out_width}x{request.out_height} output needs about {plan.estimated_bytes / 2**30:.2f} GiB "
        f"even in the smallest tiles, {request.memory_bytes / 2**30:.2f} GiB are free; choose a smaller "
        "target, a lower-precision dtype or a device with more memory",
        required_bytes=plan.estimated_bytes,
        available_bytes=request.memory_bytes,
    )


def _wanted_tile(shape: FrameShape, sides: TileSize, frame: TileSize) -> TileSize:
    """The tile that was asked for, from output pixels to source pixels; (0, ...) is the whole frame."""
    if shape.scale is None or min(sides) == 0:
        return frame
    tile = tuple(min(-(-side // shape.scale), length) for side, length in zip(sides, frame, strict=True))
    if any(side < min(shape.multiple, length) for side, length in zip(tile, frame, strict=True)):
        smallest = shape.multiple * shape.scale
        raise InvalidOptionError(f"a tile of this model has at least {smallest} pixels, got {min(sides)}")
    return tile[0], tile[1]


def _ladder(shape: FrameShape, frame: TileSize) -> list[TileSize]:
    return [frame] if shape.scale is None else halved_ladder(frame, shape.smallest_tile)


def _sized(plan: FramePlan, shape: FrameShape, tile: TileSize) -> FramePlan:
    frame = plan.height, plan.width
    native = (shape.scale or 1) ** 2 * plan.height * plan.width if shape.scale else 0
    output = max(native, plan.out_height * plan.out_width) * OUTPUT_BYTES
    height, width = (0, 0) if tile == frame else tile
    return replace(
        plan,
        tile_height=height,
        tile_width=width,
        estimated_bytes=output + shape.network_bytes(tile, frame),
    )
