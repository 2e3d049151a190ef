"""A plan of the diffusion family: sizes of chunks and tiles, and the smaller plans below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.errors import UnsupportedSizeError
from pipelines.planning.diffusion_fit import DiffusionFit
from pipelines.planning.ladders import TileSize, next_smaller, round_up
from pipelines.planning.plan import NetworkPart, TileLayout
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.spans import Span, TileGrid, equal_spans, reference_spans

Segmentation = Literal["equal", "reference"]


@dataclass(frozen=True)
class DiffusionPlan:
    """Sizes of chunks and tiles; every size is in frames or in pixels of the network's output.

    Attributes:
        chunk_len: Frames that pass the network at once; 0 for all.
        chunk_overlap: Smallest overlap of neighbouring chunks.
        tile_height: Height of a transformer tile; 0 for the whole frame (so is 0 for the width).
        tile_width: Width of a transformer tile.
        overlap_height: Smallest overlap of tiles above each other.
        overlap_width: Smallest overlap of tiles side by side.
        rows: Tiles along height, informative.
        cols: Tiles along width, informative.
        tile_batch: Tiles that pass the transformer at once.
        vae_tile_height: Height of a VAE tile; 0 for the whole frame.
        vae_tile_width: Width of a VAE tile.
        vae_overlap: Smallest overlap of VAE tiles.
        finish_frames: Frames that are finished at once at most; 0 for a batch that is quick.
        estimated_bytes: Estimated peak of activations, without weights.
        fit: What the plan was made for; None for a plan written by hand, which has no smaller one.
        kind: Tells plans apart where they are JSON.
    """

    chunk_len: int = 0
    chunk_overlap: int = 0
    tile_height: int = 0
    tile_width: int = 0
    overlap_height: int = 0
    overlap_width: int = 0
    rows: int = 1
    cols: int = 1
    tile_batch: int = 1
    vae_tile_height: int = 0
    vae_tile_width: int = 0
    vae_overlap: int = 0
    finish_frames: int = 0
    estimated_bytes: int = 0
    fit: DiffusionFit | None = None
    kind: Literal["diffusion"] = "diffusion"

    @property
    def overlap(self) -> int:
        """The larger of the two tile overlaps."""
        return max(self.overlap_height, self.overlap_width)

    def layout(self) -> TileLayout:
        """The tiles of a frame; of a plan written by hand their nominal size."""
        if self.fit is None:
            return TileLayout(self.rows, self.cols, self.tile_height, self.tile_width)
        grid = self.tile_grid(self.fit.height, self.fit.width, multiple=self.fit.model.alignment)
        row, col = grid.tiles[0]
        return TileLayout(len(grid.rows), len(grid.cols), row.size, col.size)

    def tile_grid(
        self, height: int, width: int, *, multiple: int, segmentation: Segmentation = "equal"
    ) -> TileGrid:
        """Transformer tiles of a padded frame."""
        if not self.tile_height or not self.tile_width:
            return TileGrid((Span(0, height),), (Span(0, width),))
        if segmentation == "reference":
            return TileGrid(
                tuple(reference_spans(height, self.tile_height, self.overlap_height)),
                tuple(reference_spans(width, self.tile_width, self.overlap_width)),
            )
        return _grid(
            height,
            width,
            (self.tile_height, self.tile_width),
            (self.overlap_height, self.overlap_width),
            multiple,
        )

    def vae_grid(self, height: int, width: int, *, multiple: int) -> TileGrid | None:
        """VAE tiles of a padded frame or tile; None for the whole."""
        if not self.vae_tile_height or not self.vae_tile_width:
            return None
        return _grid(
            height,
            width,
            (self.vae_tile_height, self.vae_tile_width),
            (self.vae_overlap, self.vae_overlap),
            multiple,
        )

    def describe(self) -> str:
        """See `ChunkPlan.describe`."""
        layout = self.layout()
        decoded = f"{self.vae_tile_width}x{self.vae_tile_height}" if self.vae_tile_width else "whole frames"
        finished = f", finished {self.finish_frames} at once" if self.finish_frames else ""
        return (
            f"{self.chunk_len} frames in {layout.rows}x{layout.cols} tiles of {layout.width}x{layout.height} "
            f"({self.tile_batch} at once), decoded in {decoded}{finished}"
        )

    def check(self, frame: TileSize, *, model: DiffusionShape, segmentation: Segmentation) -> None:
        """Finds out now whether all tiles of a padded frame fall on whole latents and tokens.

        Raises:
            UnsupportedSizeError: If they do not.
        """
        height, width = frame
        align = model.alignment
        if height % align or width % align:
            raise UnsupportedSizeError(
                f"the network needs sides that are multiples of {align}, got {width}x{height}"
            )
        try:
            self.tile_grid(height, width, multiple=align, segmentation=segmentation).scaled(1, align)
        except ValueError as error:
            raise UnsupportedSizeError(
                f"tiles of {self.tile_width}x{self.tile_height} with overlap {self.overlap} do not fit the "
                f"network: {error}; tile sizes and overlaps must be multiples of {align}, and sizes larger "
                "than overlaps"
            ) from error

    def smaller(self, part: NetworkPart | None = None) -> DiffusionPlan | None:
        """See `ChunkPlan.smaller`; without a part, what is estimated to need most shrinks: the transformer's
        batch and tiles, or the VAE's tiles. Finishing goes down to single frames, then the VAE's tiles do,
        whose caches lie beside it.
        """
        if self.fit is None:
            return None
        finish_frames = self.finish_frames or self.fit.finish_frames(self.chunk_len)
        if part == "finish" and finish_frames > 1:
            return _with_sizes(self, self.fit, finish_frames=finish_frames // 2)
        plan = next(_shrunk(self, self.fit, part), None)
        tile, vae_tile = (self.tile_height, self.tile_width), (self.vae_tile_height, self.vae_tile_width)
        if self.fit.is_streamed(tile, vae_tile):
            # Tiles have buffers that whole frames do without: the first that are smaller may need more.
            while plan is not None and plan.estimated_bytes >= self.estimated_bytes:
                plan = next(_shrunk(plan, self.fit, part), None)
        return plan


def _grid(
    height: int, width: int, tile: tuple[int, int], overlap: tuple[int, int], multiple: int
) -> TileGrid:
    axes = []
    for length, size, shared in zip((height, width), tile, overlap, strict=True):
        size = min(round_up(size, multiple), length)
        # A tile the user made as small as the overlap still moves on by one unit.
        axes.append(tuple(equal_spans(length, size, min(shared, size - multiple), multiple=multiple)))
    return TileGrid(axes[0], axes[1])


def fitted_plan(
    fit: DiffusionFit,
    chunk_len: int,
    tile: TileSize,
    vae_tile: TileSize,
    tile_batch: int,
    finish_frames: int = 0,
) -> DiffusionPlan:
    """The plan with these sizes, and what it is estimated to take."""
    model = fit.model
    plan = DiffusionPlan(
        chunk_len=chunk_len,
        chunk_overlap=min(fit.chunk_overlap, max(chunk_len - model.frame_quantum, 0)),
        tile_height=tile[0],
        tile_width=tile[1],
        overlap_height=fit.overlap,
        overlap_width=fit.overlap,
        tile_batch=tile_batch,
        vae_tile_height=vae_tile[0],
        vae_tile_width=vae_tile[1],
        vae_overlap=fit.vae_overlap,
        finish_frames=finish_frames,
        fit=fit,
    )
    grid = plan.tile_grid(fit.height, fit.width, multiple=model.alignment)
    return replace(
        plan,
        rows=len(grid.rows),
        cols=len(grid.cols),
        estimated_bytes=fit.estimated_bytes(chunk_len, tile, vae_tile, tile_batch, finish_frames),
    )


def _with_sizes(
    plan: DiffusionPlan,
    fit: DiffusionFit,
    *,
    tile: TileSize | None = None,
    vae_tile: TileSize | None = None,
    tile_batch: int = 0,
    finish_frames: int = 0,
) -> DiffusionPlan:
    """The same chunks with other sizes where they are given."""
    return fitted_plan(
        fit,
        plan.chunk_len,
        tile or (plan.tile_height, plan.tile_width),
        vae_tile or (plan.vae_tile_height, plan.vae_tile_width),
        tile_batch or plan.tile_batch,
        finish_frames or plan.finish_frames,
    )


def _shrunk(plan: DiffusionPlan, fit: DiffusionFit, part: NetworkPart | None) -> Iterator[DiffusionPlan]:
    """Plans below `plan`, the most promising first."""
    tile, vae_tile = (plan.tile_height, plan.tile_width), (plan.vae_tile_height, plan.vae_tile_width)
    transformer: list[DiffusionPlan] = []
    if plan.tile_batch > 1:
        transformer.append(_with_sizes(plan, fit, tile_batch=plan.tile_batch // 2))
    if smaller_tile := next_smaller(fit.tiles, tile):
        transformer.append(_with_sizes(plan, fit, tile=smaller_tile, tile_batch=1))
    vae: list[DiffusionPlan] = []
    if smaller_vae := next_smaller(fit.vae_tiles, vae_tile):
        vae.append(_with_sizes(plan, fit, vae_tile=smaller_vae))
    if part == "finish":
        yield from vae
        return
    needed = fit.transformer_bytes(plan.chunk_len, tile, plan.tile_batch)
    ways = [
        (part == "transformer", needed, transformer),
        (part == "vae", fit.vae_bytes(vae_tile, plan.chunk_len), vae),
    ]
    for _, _, plans in sorted(ways, key=lambda way: way[:2], reverse=True):
        yield from plans
