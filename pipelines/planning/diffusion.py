"""How a clip is cut into chunks and tiles so that it fits the memory at hand. Pure: sizes in, a plan out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.errors import InvalidOptionError, OutOfMemoryError, UnsupportedSizeError
from pipelines.planning.ladders import TileSize, chunk_ladder, next_smaller, round_up, tile_ladder, vae_ladder
from pipelines.planning.shapes import ModelShape
from pipelines.planning.spans import Span, TileGrid, equal_spans, reference_spans

__all__ = ["ModelShape", "PlanRequest", "Segmentation", "Stage", "UpscalePlan", "plan_upscale"]

Segmentation = Literal["equal", "reference"]
Stage = Literal["vae", "transformer"]

# Above this a chunk's transformer pass is cut even where memory would allow it: attention is quadratic, and
# 1088x1920 with 33 frames (41 k tokens) is already past the size DOVE was trained and evaluated at.
MAX_TOKENS = 42_000
# Frames per chunk and smallest overlap where the checkpoint does not say: DOVE was evaluated on 33 frames,
# the small checkpoints were trained on short clips.
DEFAULT_CHUNK: dict[str, tuple[int, int]] = {"cogvideox": (33, 9), "space_to_depth": (16, 2)}
DEFAULT_OVERLAP = 64
VAE_OVERLAP = 64
MAX_TILE_BATCH = 4


@dataclass(frozen=True)
class PlanRequest:
    """The arguments of `plan_upscale`, kept by a plan so that it can make a smaller one."""

    num_frames: int
    height: int
    width: int
    model: ModelShape
    memory_bytes: int
    overlap: int
    chunk_overlap: int
    tile: TileSize | None

    @property
    def frame(self) -> TileSize:
        """The padded frame."""
        return self.height, self.width

    @property
    def vae_overlap(self) -> int:
        # The space-to-depth decoder takes its margin itself and is exact; there is nothing to fade.
        return VAE_OVERLAP if self.model.autoencoder == "cogvideox" else 0

    @property
    def tiles(self) -> list[TileSize]:
        """Transformer tiles to choose from, largest first."""
        return tile_ladder(self.model, self.frame, self.overlap, self.tile)

    @property
    def vae_tiles(self) -> list[TileSize]:
        """VAE tiles to choose from, largest first; (0, 0) is the whole frame."""
        return vae_ladder(self.model, self.frame, self.vae_overlap)

    def chunk_bytes(self, chunk_len: int) -> int:
        """Buffers that live through a chunk."""
        return self.model.chunk_bytes(chunk_len, self.height, self.width)

    def vae_bytes(self, vae_tile: TileSize) -> int:
        """Activation peak of the VAE on one of `vae_tiles`."""
        return self.model.vae_bytes(vae_tile[0] or self.height, vae_tile[1] or self.width)


@dataclass(frozen=True)
class UpscalePlan:
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
        estimated_bytes: Estimated peak of activations, without weights.
        request: What the plan was made for; None for a plan written by hand, which has no smaller one.
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
    estimated_bytes: int = 0
    request: PlanRequest | None = None

    @property
    def overlap(self) -> int:
        """The larger of the two tile overlaps."""
        return max(self.overlap_height, self.overlap_width)

    def chunks(self, num_frames: int, model: ModelShape, segmentation: Segmentation = "equal") -> list[Span]:
        """Chunks of a padded clip.

        `equal` chunks have one size, 8k + 1 frames for CogVideoX, and start at multiples of 8, where the
        VAE's latent frames start as well. `reference` is DOVE's rule, which shifts time for some sizes.
        """
        if segmentation == "reference":
            return reference_spans(num_frames, self.chunk_len, self.chunk_overlap)
        quantum, lead = model.frame_quantum, model.leading_frames
        size = model.chunk_frames(self.chunk_len) if self.chunk_len else num_frames
        if size >= num_frames:
            return [Span(0, num_frames)]
        # Without the leading frame the axis is one of whole quanta.
        overlap = max(self.chunk_overlap - lead, 0)
        spans = equal_spans(num_frames - lead, size - lead, overlap, multiple=quantum)
        return [Span(span.start, span.stop + lead) for span in spans]

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

    def check(
        self, num_frames: int, frame: TileSize, *, model: ModelShape, segmentation: Segmentation
    ) -> None:
        """Finds out now whether all chunks and tiles of a padded frame fall on whole latents and tokens.

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
            self.chunks(model.padded_frames(num_frames), model, segmentation)
            self.tile_grid(height, width, multiple=align, segmentation=segmentation).scaled(1, align)
        except ValueError as error:
            raise UnsupportedSizeError(
                f"tiles of {self.tile_width}x{self.tile_height} with overlap {self.overlap} and chunks of "
                f"{self.chunk_len} with overlap {self.chunk_overlap} do not fit the network: {error}; tile "
                f"sizes and overlaps must be multiples of {align}, and sizes larger than overlaps"
            ) from error

    def smaller(self, stage: Stage | None = None) -> UpscalePlan | None:
        """The next plan to try when this one ran out of memory, or None if there is none.

        Args:
            stage: Where the memory ended, if known; its tiles shrink first. Otherwise what is estimated to
                need most does: the transformer's batch and tiles, the VAE's tiles or the chunk.
        """
        if self.request is None:
            return None
        return next(_shrunk(self, self.request, stage), None)


def _grid(
    height: int, width: int, tile: tuple[int, int], overlap: tuple[int, int], multiple: int
) -> TileGrid:
    axes = []
    for length, size, shared in zip((height, width), tile, overlap, strict=True):
        size = min(round_up(size, multiple), length)
        # A tile the user made as small as the overlap still moves on by one unit.
        axes.append(tuple(equal_spans(length, size, min(shared, size - multiple), multiple=multiple)))
    return TileGrid(axes[0], axes[1])


def plan_upscale(
    *,
    num_frames: int,
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    model: ModelShape,
    memory_bytes: int,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    chunk: int | None = None,
    chunk_overlap: int | None = None,
) -> UpscalePlan:
    """Chooses chunks and tiles: as few and as large as the memory allows.

    Args:
        num_frames: Frames of the clip.
        height: Source height in pixels.
        width: Source width in pixels.
        out_height: Target height in pixels.
        out_width: Target width in pixels.
        model: The checkpoint's shape.
        memory_bytes: Memory free for activations, the weights being loaded already.
        tile: Tile side, or (height, width), in pixels of the network's output; rounded up to whole tokens. It
            is taken as given even where it is estimated not to fit. 0 asks for whole frames.
        overlap: Smallest overlap of tiles in pixels; half the tile gives PatchVSR's joint modulation.
        chunk: Frames per chunk, rounded up to the model's rhythm; 0 asks for all frames at once.
        chunk_overlap: Smallest overlap of chunks in frames.

    Raises:
        InvalidOptionError: If a size is not positive or an overlap leaves no stride.
        OutOfMemoryError: If the smallest plan is estimated not to fit.
    """
    if min(num_frames, height, width, out_height, out_width) < 1:
        raise InvalidOptionError(
            f"sizes must be positive, got {num_frames} frames, {width}x{height} -> {out_width}x{out_height}"
        )
    work_height, work_width = model.working_size(height, width, out_height, out_width)
    padded = round_up(work_height, model.alignment), round_up(work_width, model.alignment)
    request = PlanRequest(
        num_frames=model.padded_frames(num_frames),
        height=padded[0],
        width=padded[1],
        model=model,
        memory_bytes=memory_bytes,
        overlap=DEFAULT_OVERLAP if overlap is None else overlap,
        chunk_overlap=DEFAULT_CHUNK[model.autoencoder][1] if chunk_overlap is None else chunk_overlap,
        tile=_tile_pair(tile, padded, model.alignment),
    )
    _check_overlaps(request, chunk)
    wanted = chunk if chunk is not None else model.clip_length or DEFAULT_CHUNK[model.autoencoder][0]
    chunks = chunk_ladder(model, request.num_frames, wanted)
    if chunk is not None:
        chunks = chunks[:1]
    for chunk_len in chunks:
        plan = _fit(request, chunk_len)
        if plan is not None:
            return plan
    smallest = _build(request, chunks[-1], request.tiles[-1], request.vae_tiles[-1], 1)
    raise OutOfMemoryError(
        f"{padded[1]}x{padded[0]} output needs about {smallest.estimated_bytes / 2**30:.2f} GiB even in the "
        f"smallest tiles and chunks, {memory_bytes / 2**30:.2f} GiB are free; choose a smaller target, a "
        "lower-precision dtype or a device with more memory",
        required_bytes=smallest.estimated_bytes,
        available_bytes=memory_bytes,
    )


def _tile_pair(
    tile: int | tuple[int, int] | None, padded: tuple[int, int], alignment: int
) -> tuple[int, int] | None:
    if tile is None:
        return None
    pair = (tile, tile) if isinstance(tile, int) else tile
    if min(pair) < 0:
        raise InvalidOptionError(f"tile sides must not be negative, got {pair}")
    if min(pair) == 0:
        return padded
    return min(round_up(pair[0], alignment), padded[0]), min(round_up(pair[1], alignment), padded[1])


def _check_overlaps(request: PlanRequest, chunk: int | None) -> None:
    if request.overlap < 0 or request.chunk_overlap < 0:
        raise InvalidOptionError(
            f"overlaps must not be negative, got {request.overlap} and {request.chunk_overlap}"
        )
    if request.tile is not None:
        for side, length in zip(request.tile, (request.height, request.width), strict=True):
            if side < length and side - request.overlap < request.model.alignment:
                raise InvalidOptionError(
                    f"a tile of {side} pixels and an overlap of {request.overlap} leave no stride; the "
                    f"overlap must be at least {request.model.alignment} pixels smaller than the tile"
                )
    if chunk is not None and chunk < 0:
        raise InvalidOptionError(f"a chunk has at least one frame (0 for all), got {chunk}")


def _build(
    request: PlanRequest, chunk_len: int, tile: TileSize, vae_tile: TileSize, tile_batch: int
) -> UpscalePlan:
    model = request.model
    plan = UpscalePlan(
        chunk_len=chunk_len,
        chunk_overlap=min(request.chunk_overlap, max(chunk_len - model.frame_quantum, 0)),
        tile_height=tile[0],
        tile_width=tile[1],
        overlap_height=request.overlap,
        overlap_width=request.overlap,
        tile_batch=tile_batch,
        vae_tile_height=vae_tile[0],
        vae_tile_width=vae_tile[1],
        vae_overlap=request.vae_overlap,
        request=request,
    )
    grid = plan.tile_grid(request.height, request.width, multiple=model.alignment)
    transformer = model.transformer_bytes(chunk_len, *tile, batch=tile_batch)
    return replace(
        plan,
        rows=len(grid.rows),
        cols=len(grid.cols),
        estimated_bytes=request.chunk_bytes(chunk_len) + max(transformer, request.vae_bytes(vae_tile)),
    )


def _fit(request: PlanRequest, chunk_len: int) -> UpscalePlan | None:
    """The largest tiles that fit next to a chunk's buffers, or None."""
    model = request.model
    budget = request.memory_bytes - request.chunk_bytes(chunk_len)
    vae_tile = next((size for size in request.vae_tiles if request.vae_bytes(size) <= budget), None)
    tile = request.tile or _largest_tile(request, chunk_len, budget)
    if vae_tile is None or tile is None:
        return None
    single = _build(request, chunk_len, tile, vae_tile, 1)
    batch = min(
        single.rows * single.cols,
        budget // max(model.transformer_bytes(chunk_len, *tile), 1),
        MAX_TOKENS // max(model.num_tokens(chunk_len, *tile), 1),
        MAX_TILE_BATCH,
    )
    return _build(request, chunk_len, tile, vae_tile, max(batch, 1))


def _largest_tile(request: PlanRequest, chunk_len: int, budget: int) -> TileSize | None:
    model = request.model
    for tile in request.tiles:
        is_quick = model.is_windowed or model.num_tokens(chunk_len, *tile) <= MAX_TOKENS
        if is_quick and model.transformer_bytes(chunk_len, *tile) <= budget:
            return tile
    return None


def _shrunk(plan: UpscalePlan, request: PlanRequest, stage: Stage | None) -> Iterator[UpscalePlan]:
    """Plans below `plan`, the most promising first."""
    tile, vae_tile = (plan.tile_height, plan.tile_width), (plan.vae_tile_height, plan.vae_tile_width)
    transformer: list[UpscalePlan] = []
    if plan.tile_batch > 1:
        transformer.append(_build(request, plan.chunk_len, tile, vae_tile, plan.tile_batch // 2))
    if smaller_tile := next_smaller(request.tiles, tile):
        transformer.append(_build(request, plan.chunk_len, smaller_tile, vae_tile, 1))
    vae: list[UpscalePlan] = []
    if smaller_vae := next_smaller(request.vae_tiles, vae_tile):
        vae.append(_build(request, plan.chunk_len, tile, smaller_vae, plan.tile_batch))
    chunks = [
        _build(request, chunk_len, tile, vae_tile, plan.tile_batch)
        for chunk_len in chunk_ladder(request.model, request.num_frames, plan.chunk_len)[1:2]
    ]
    needed = request.model.transformer_bytes(plan.chunk_len, *tile, batch=plan.tile_batch)
    ways = [
        (stage == "transformer", needed, transformer),
        (stage == "vae", request.vae_bytes(vae_tile), vae),
        (False, request.chunk_bytes(plan.chunk_len), chunks),
    ]
    for _, _, plans in sorted(ways, key=lambda way: way[:2], reverse=True):
        yield from plans
