"""What every kind of model tells before it runs: how it will take a clip apart, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

from pipelines.errors import InvalidOptionError

NetworkPart = Literal["vae", "transformer", "network", "finish"]
"""Where memory can end: both directions of an autoencoder, the transformer, a network of one part, and colour
matching and resizing at the size of the output."""


@dataclass(frozen=True, kw_only=True)
class ChunkRequest:
    """What a plan is asked for.

    Attributes:
        num_frames: Frames of the clip, or as many as may come.
        height: Source height in pixels.
        width: Source width in pixels.
        out_height: Target height in pixels.
        out_width: Target width in pixels.
        memory_bytes: Memory free for activations, the weights being loaded already.
        tile: Tile side, or (height, width), in pixels of the network's output; rounded up to what the model
            can do. It is taken as given even where it is estimated not to fit. 0 asks for whole frames, None
            leaves it to the planner, like the next three.
        overlap: Smallest overlap of tiles in pixels; half the tile gives PatchVSR's joint modulation.
        chunk: Frames that pass the model at once; 0 asks for all frames.
        chunk_overlap: Smallest overlap of chunks in frames.

    Raises:
        InvalidOptionError: If a size is not positive, or an option negative.
    """

    num_frames: int
    height: int
    width: int
    out_height: int
    out_width: int
    memory_bytes: int
    tile: int | tuple[int, int] | None = None
    overlap: int | None = None
    chunk: int | None = None
    chunk_overlap: int | None = None

    def __post_init__(self) -> None:
        if min(self.num_frames, self.height, self.width, self.out_height, self.out_width) < 1:
            raise InvalidOptionError(
                f"sizes must be positive, got {self.num_frames} frames, {self.width}x{self.height} -> "
                f"{self.out_width}x{self.out_height}"
            )
        if self.chunk is not None and self.chunk < 0:
            raise InvalidOptionError(f"a chunk has at least one frame (0 for all), got {self.chunk}")
        if min(self.overlap or 0, self.chunk_overlap or 0) < 0:
            raise InvalidOptionError(
                f"overlaps must not be negative, got {self.overlap or 0} and {self.chunk_overlap or 0}"
            )
        if self.tile is not None and min(self.tile_sides or (0, 0)) < 0:
            raise InvalidOptionError(f"tile sides must not be negative, got {self.tile_sides}")

    @property
    def tile_sides(self) -> tuple[int, int] | None:
        """Height and width of the tile that was asked for."""
        if self.tile is None or isinstance(self.tile, tuple):
            return self.tile
        return self.tile, self.tile


@dataclass(frozen=True)
class TileLayout:
    """The tiles of a frame, for people.

    Attributes:
        rows: Tiles along height.
        cols: Tiles along width.
        height: Of a tile, in pixels of the network's output.
        width: Of a tile.
    """

    rows: int
    cols: int
    height: int
    width: int


class ChunkPlan(Protocol):
    """How a model takes a clip apart. Plans are values: they compare, hash and travel as JSON
    (`pipelines.planning.kinds`)."""

    @property
    def chunk_len(self) -> int:
        """Frames that pass the model at once; 0 for all. Never changes by `smaller`."""
        ...

    @property
    def chunk_overlap(self) -> int:
        """Frames that neighbouring chunks share."""
        ...

    @property
    def estimated_bytes(self) -> int:
        """Estimated peak of activations and buffers, without weights."""
        ...

    def layout(self) -> TileLayout:
        """The tiles of a frame."""
        ...

    def describe(self) -> str:
        """Its chunks and tiles in words, for messages."""
        ...

    def smaller(self, part: NetworkPart | None = None) -> Self | None:
        """The next plan to try when this one ran out of memory, with the same chunks; None if there is none.

        Args:
            part: Where the memory ended, if known; what it works on shrinks first.
        """
        ...
