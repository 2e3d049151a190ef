"""How a clip is cut into chunks and tiles so that it fits the memory at hand. Pure: sizes in, a plan out.

Memory of activations is estimated from counts on the real configurations (33 frames, bfloat16, flash
attention, with this package's lossless savings): the CogVideoX decoder needs 30.7 kB per pixel of a tile and
the encoder 21.3 kB, both linear from 720p to 2160p within 0.3 %; the 1.5-5B transformer 82 kB per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipelines.errors import InvalidOptionError, OutOfMemoryError
from pipelines.tiling import Span, TileGrid, equal_spans, reference_spans

Autoencoder = Literal["cogvideox", "space_to_depth"]
Segmentation = Literal["equal", "reference"]

# Elements per pixel of a VAE tile and per channel of its widest-resolution layer, for one time batch.
DECODE_ELEMENTS = 121
ENCODE_ELEMENTS = 84
# Elements per token and per hidden channel: full attention with a flash kernel; windows gather copies.
TOKEN_ELEMENTS = 14
WINDOW_TOKEN_ELEMENTS = 24
# Elements per LR pixel, frame and decoder channel of the space-to-depth decoder (measured: 4 live maps).
SPACE_TO_DEPTH_ELEMENTS = 5
# Bytes per output pixel, channel and frame of a chunk that stay alive: upsampled clip, fused frames.
CHUNK_BYTES = 8
# Above this a chunk's transformer pass is cut even where memory would allow it: attention is quadratic, and
# 1088x1920 with 33 frames (41 k tokens) is already past the size DOVE was trained and evaluated at.
MAX_TOKENS = 42_000
DEFAULT_CHUNK = 33
DEFAULT_CHUNK_OVERLAP = 9
DEFAULT_OVERLAP = 64
MIN_TILE = 128
VAE_OVERLAP = 64
MAX_TILE_BATCH = 4
SPACE_TO_DEPTH_BATCH = 16


@dataclass(frozen=True)
class ModelShape:
    """What the planner needs to know of a checkpoint.

    Attributes:
        autoencoder: Which kind of VAE.
        vae_channels: Channels of its widest layer at full resolution (of the whole decoder for nano).
        hidden_size: Channels of a token.
        patch_size: Latent pixels per token side.
        patch_size_t: Latent frames per token, or None.
        bytes_per_element: 2 for bfloat16 and float16, 4 for float32.
        spatial_ratio: Pixels per latent pixel.
        temporal_ratio: Frames per latent frame.
        native_scale: The decoder's fixed upscaling factor, or None.
        is_windowed: Whether attention is local, so that cost grows linearly with the frame.
        clip_length: Frames of the clips it was trained on, if known.
    """

    autoencoder: Autoencoder
    vae_channels: int
    hidden_size: int
    patch_size: int = 2
    patch_size_t: int | None = None
    bytes_per_element: int = 2
    spatial_ratio: int = 8
    temporal_ratio: int = 4
    native_scale: int | None = None
    is_windowed: bool = False
    clip_length: int | None = None

    @property
    def alignment(self) -> int:
        """Frame and tile sides are multiples of this many pixels."""
        return self.spatial_ratio * self.patch_size

    @property
    def frame_quantum(self) -> int:
        """Chunks start at multiples of this: twice the temporal ratio, the rhythm of the VAE's batches."""
        return 2 * self.temporal_ratio if self.temporal_ratio > 1 else 1

    @property
    def leading_frames(self) -> int:
        """Frames a chunk has beyond a multiple of the quantum: 1 for a causal VAE (8k + 1)."""
        return 1 if self.temporal_ratio > 1 else 0

    def padded_frames(self, num_frames: int) -> int:
        """Frames after repeating the last one up to the model's rhythm."""
        return num_frames + -(num_frames - self.leading_frames) % self.frame_quantum

    def working_size(self, height: int, width: int, out_height: int, out_width: int) -> tuple[int, int]:
        """Size at which the network runs, before padding: the target, or the source times the fixed scale."""
        if self.native_scale is None:
            return out_height, out_width
        return height * self.native_scale, width * self.native_scale

    def latent_frames(self, num_frames: int) -> int:
        return -(-num_frames // self.temporal_ratio)

    def num_tokens(self, num_frames: int, height: int, width: int) -> int:
        """Video tokens of a tile, sizes in pixels."""
        frames = -(-self.latent_frames(num_frames) // (self.patch_size_t or 1))
        return frames * (height // self.alignment) * (width // self.alignment)

    def transformer_bytes(self, num_frames: int, height: int, width: int, *, batch: int = 1) -> int:
        """Activation peak of one transformer call."""
        per_channel = WINDOW_TOKEN_ELEMENTS if self.is_windowed else TOKEN_ELEMENTS
        tokens = self.num_tokens(num_frames, height, width)
        return batch * tokens * self.hidden_size * per_channel * self.bytes_per_element

    def vae_bytes(self, height: int, width: int) -> int:
        """Activation peak of decoding (the larger of the two directions) one tile, sizes in pixels."""
        if self.autoencoder == "cogvideox":
            return height * width * self.vae_channels * DECODE_ELEMENTS * self.bytes_per_element
        scale = self.native_scale or 1
        pixels = height * width * SPACE_TO_DEPTH_BATCH
        hidden = pixels // scale**2 * self.vae_channels * SPACE_TO_DEPTH_ELEMENTS * self.bytes_per_element
        return hidden + pixels * 3 * 3 * 4  # base, residual and their sum in float32

    def chunk_bytes(self, num_frames: int, height: int, width: int) -> int:
        """Buffers that live through a whole chunk."""
        return num_frames * height * width * 3 * CHUNK_BYTES

    @classmethod
    def of(cls, vae: Any, transformer: Any, *, is_windowed: bool = False, clip_length: int | None = None) -> ModelShape:
        """Reads the shape off loaded modules (configurations and dtype only)."""
        config, vae_config = transformer.config, vae.config
        is_cogvideox = hasattr(vae_config, "block_out_channels")
        return cls(
            autoencoder="cogvideox" if is_cogvideox else "space_to_depth",
            vae_channels=vae_config.block_out_channels[0] if is_cogvideox else vae_config.channels,
            hidden_size=config.num_attention_heads * config.attention_head_dim,
            patch_size=config.patch_size,
            patch_size_t=config.patch_size_t,
            bytes_per_element=transformer.dtype.itemsize,
            spatial_ratio=(
                2 ** (len(vae_config.block_out_channels) - 1)
                if is_cogvideox
                else vae_config.spatial_compression_ratio
            ),
            temporal_ratio=int(vae_config.temporal_compression_ratio) if is_cogvideox else 1,
            native_scale=None if is_cogvideox else vae_config.scale,
            is_windowed=is_windowed,
            clip_length=clip_length,
        )


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
    tile: tuple[int, int] | None


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

        `equal` chunks have one size, 8k + 1 frames for CogVideoX, and start at multiples of 8, where the VAE's
        latent frames start as well. `reference` is DOVE's rule, which shifts time for some sizes.
        """
        if segmentation == "reference":
            return reference_spans(num_frames, self.chunk_len, self.chunk_overlap)
        quantum, lead = model.frame_quantum, model.leading_frames
        size = model.padded_frames(self.chunk_len) if self.chunk_len else num_frames
        if size >= num_frames:
            return [Span(0, num_frames)]
        # Without the leading frame the axis is one of whole quanta.
        overlap = max(self.chunk_overlap - lead, 0)
        spans = equal_spans(num_frames - lead, size - lead, overlap, multiple=quantum)
        return [Span(span.start, span.stop + lead) for span in spans]

    def tile_grid(self, height: int, width: int, *, multiple: int, segmentation: Segmentation = "equal") -> TileGrid:
        """Transformer tiles of a padded frame."""
        if not self.tile_height or not self.tile_width:
            return TileGrid((Span(0, height),), (Span(0, width),))
        if segmentation == "reference":
            return TileGrid(
                tuple(reference_spans(height, self.tile_height, self.overlap_height)),
                tuple(reference_spans(width, self.tile_width, self.overlap_width)),
            )
        return _grid(height, width, (self.tile_height, self.tile_width),
                     (self.overlap_height, self.overlap_width), multiple)

    def vae_grid(self, height: int, width: int, *, multiple: int) -> TileGrid | None:
        """VAE tiles of a padded frame or tile; None for the whole."""
        if not self.vae_tile_height or not self.vae_tile_width:
            return None
        return _grid(height, width, (self.vae_tile_height, self.vae_tile_width),
                     (self.vae_overlap, self.vae_overlap), multiple)

    def smaller(self) -> UpscalePlan | None:
        """The next plan to try when this one ran out of memory, or None if there is none.

        It shrinks what is estimated to need most: the transformer's batch and tiles or the VAE's tiles, then
        the chunk.
        """
        if self.request is None:
            return None
        for candidate in _shrunk(self, self.request):
            return candidate
        return None


def _grid(height: int, width: int, tile: tuple[int, int], overlap: tuple[int, int], multiple: int) -> TileGrid:
    axes = []
    for length, size, shared in zip((height, width), tile, overlap, strict=True):
        size = min(_round_up(size, multiple), length)
        # A tile the user made as small as the overlap still moves on by one unit.
        axes.append(tuple(equal_spans(length, size, min(shared, size - multiple), multiple=multiple)))
    return TileGrid(axes[0], axes[1])


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


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
    padded = _round_up(work_height, model.alignment), _round_up(work_width, model.alignment)
    request = PlanRequest(
        num_frames=model.padded_frames(num_frames),
        height=padded[0],
        width=padded[1],
        model=model,
        memory_bytes=memory_bytes,
        overlap=DEFAULT_OVERLAP if overlap is None else overlap,
        chunk_overlap=DEFAULT_CHUNK_OVERLAP if chunk_overlap is None else chunk_overlap,
        tile=_tile_pair(tile, padded, model.alignment),
    )
    _check_overlaps(request, chunk)
    for chunk_len in _chunk_ladder(request, chunk):
        plan = _fit(request, chunk_len)
        if plan is not None:
            return plan
    smallest = _smallest(request, chunk)
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
    return min(_round_up(pair[0], alignment), padded[0]), min(_round_up(pair[1], alignment), padded[1])


def _check_overlaps(request: PlanRequest, chunk: int | None) -> None:
    if request.overlap < 0 or request.chunk_overlap < 0:
        raise InvalidOptionError(f"overlaps must not be negative, got {request.overlap} and {request.chunk_overlap}")
    if request.tile is not None:
        for side, length in zip(request.tile, (request.height, request.width), strict=True):
            if side < length and side - request.overlap < request.model.alignment:
                raise InvalidOptionError(
                    f"a tile of {side} pixels and an overlap of {request.overlap} leave no stride; the overlap "
                    f"must be at least {request.model.alignment} pixels smaller than the tile"
                )
    if chunk is not None and chunk < 0:
        raise InvalidOptionError(f"a chunk has at least one frame (0 for all), got {chunk}")


def _chunk_ladder(request: PlanRequest, chunk: int | None) -> list[int]:
    """Chunk lengths to try, longest first: the wanted one, then what the rhythm allows below it."""
    model = request.model
    wanted = chunk if chunk is not None else model.clip_length or DEFAULT_CHUNK
    longest = min(model.padded_frames(wanted) if wanted else request.num_frames, request.num_frames)
    if chunk is not None:
        return [longest]
    step = max(model.frame_quantum, 4)
    shortest = min(longest, step + model.leading_frames)
    return list(range(longest, shortest, -step)) + [shortest]


def _tile_ladder(request: PlanRequest) -> list[tuple[int, int]]:
    """Tile sizes from the whole frame (or the wanted size) down, halving the number of pixels slowly."""
    model = request.model
    align = model.alignment
    floor = max(_round_up(MIN_TILE, align), _round_up(request.overlap, align) + align)
    if request.tile is not None:
        height, width = request.tile
        ladder = [(height, width)]
        while (smaller := (max(_round_up(height // 2, align), min(height, floor)),
                           max(_round_up(width // 2, align), min(width, floor)))) != (height, width):
            height, width = smaller
            ladder.append(smaller)
        return ladder
    return _split_ladder(request.height, request.width, request.overlap, align, floor)


def _split_ladder(height: int, width: int, overlap: int, align: int, floor: int) -> list[tuple[int, int]]:
    """Tiles of 1x1, then ever more splits of the longer side; sizes that cover with the given overlap."""
    rows = cols = 1
    ladder: list[tuple[int, int]] = []
    while True:
        tile = _split(height, rows, overlap, align), _split(width, cols, overlap, align)
        if not ladder or tile[0] * tile[1] < ladder[-1][0] * ladder[-1][1]:
            ladder.append(tile)
        if tile[0] >= tile[1] and tile[0] > floor:
            rows += 1
        elif tile[1] > floor:
            cols += 1
        elif tile[0] > floor:
            rows += 1
        else:
            return ladder
        if _split(height, rows, overlap, align) < floor and _split(width, cols, overlap, align) < floor:
            return ladder


def _split(length: int, parts: int, overlap: int, align: int) -> int:
    return min(length, _round_up(-(-(length + (parts - 1) * overlap) // parts), align))


def _vae_ladder(request: PlanRequest) -> list[tuple[int, int]]:
    """VAE tile sizes from the whole frame down; (0, 0) is the whole frame."""
    model = request.model
    overlap = _vae_overlap(model)
    floor = max(MIN_TILE, _round_up(overlap, model.alignment) + model.alignment)
    sizes = _split_ladder(request.height, request.width, overlap, model.alignment, floor)
    return [(0, 0), *sizes[1:]]


def _vae_overlap(model: ModelShape) -> int:
    # The space-to-depth decoder takes its margin itself and is exact; there is nothing to fade.
    return VAE_OVERLAP if model.autoencoder == "cogvideox" else 0


def _build(
    request: PlanRequest, chunk_len: int, tile: tuple[int, int], vae_tile: tuple[int, int], tile_batch: int
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
        vae_overlap=_vae_overlap(model),
        request=request,
    )
    grid = plan.tile_grid(request.height, request.width, multiple=model.alignment)
    return replace(
        plan,
        rows=len(grid.rows),
        cols=len(grid.cols),
        estimated_bytes=_chunk_bytes(request, chunk_len)
        + max(_transformer_bytes(plan, request), _vae_bytes(plan, request)),
    )


def _chunk_bytes(request: PlanRequest, chunk_len: int) -> int:
    return request.model.chunk_bytes(chunk_len, request.height, request.width)


def _transformer_bytes(plan: UpscalePlan, request: PlanRequest) -> int:
    return request.model.transformer_bytes(
        plan.chunk_len, plan.tile_height, plan.tile_width, batch=plan.tile_batch
    )


def _vae_bytes(plan: UpscalePlan, request: PlanRequest) -> int:
    return request.model.vae_bytes(
        plan.vae_tile_height or request.height, plan.vae_tile_width or request.width
    )


def _fit(request: PlanRequest, chunk_len: int) -> UpscalePlan | None:
    """The largest tiles that fit next to a chunk's buffers, or None."""
    model = request.model
    budget = request.memory_bytes - _chunk_bytes(request, chunk_len)
    vae_tiles = (
        size for size in _vae_ladder(request)
        if model.vae_bytes(size[0] or request.height, size[1] or request.width) <= budget
    )
    vae_tile = next(vae_tiles, None)
    tile = _largest_tile(request, chunk_len, budget)
    if vae_tile is None or tile is None:
        return None
    single = _build(request, chunk_len, tile, vae_tile, 1)
    one = max(model.transformer_bytes(chunk_len, *tile), 1)
    tokens = max(model.num_tokens(chunk_len, *tile), 1)
    batch = min(single.rows * single.cols, budget // one, MAX_TOKENS // tokens, MAX_TILE_BATCH)
    return _build(request, chunk_len, tile, vae_tile, max(int(batch), 1))


def _largest_tile(request: PlanRequest, chunk_len: int, budget: int) -> tuple[int, int] | None:
    if request.tile is not None:
        return request.tile
    model = request.model
    for tile in _tile_ladder(request):
        is_quick = model.is_windowed or model.num_tokens(chunk_len, *tile) <= MAX_TOKENS
        if is_quick and model.transformer_bytes(chunk_len, *tile) <= budget:
            return tile
    return None


def _smallest(request: PlanRequest, chunk: int | None) -> UpscalePlan:
    return _build(
        request, _chunk_ladder(request, chunk)[-1], _tile_ladder(request)[-1], _vae_ladder(request)[-1], 1
    )


def _shrunk(plan: UpscalePlan, request: PlanRequest) -> Iterator[UpscalePlan]:
    """Plans below `plan`, the most promising first."""
    tile, vae_tile = (plan.tile_height, plan.tile_width), (plan.vae_tile_height, plan.vae_tile_width)
    smaller_tile = _next(_tile_ladder(request), tile)
    smaller_vae = _next(_vae_ladder(request), vae_tile)
    transformer: list[UpscalePlan] = []
    if plan.tile_batch > 1:
        transformer.append(_build(request, plan.chunk_len, tile, vae_tile, plan.tile_batch // 2))
    if smaller_tile is not None:
        transformer.append(_build(request, plan.chunk_len, smaller_tile, vae_tile, 1))
    vae = [_build(request, plan.chunk_len, tile, smaller_vae, plan.tile_batch)] if smaller_vae else []
    if _transformer_bytes(plan, request) >= _vae_bytes(plan, request):
        yield from transformer
        yield from vae
    else:
        yield from vae
        yield from transformer
    for chunk_len in _chunk_ladder(request, None):
        if chunk_len < plan.chunk_len:
            yield _build(request, chunk_len, tile, vae_tile, plan.tile_batch)


def _next(ladder: list[tuple[int, int]], current: tuple[int, int]) -> tuple[int, int] | None:
    """The first rung with fewer pixels than the current one; (0, 0) counts as the top."""
    pixels = current[0] * current[1] or float("inf")
    return next((size for size in ladder if size != (0, 0) and size[0] * size[1] < pixels), None)
