"""Chooses chunks and tiles of the diffusion family for the memory at hand."""

from __future__ import annotations

from pipelines.errors import InvalidOptionError, OutOfMemoryError
from pipelines.planning.diffusion_fit import DiffusionFit
from pipelines.planning.diffusion_plan import DiffusionPlan, fitted_plan
from pipelines.planning.ladders import TileSize, chunk_ladder, round_up
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.shapes import DiffusionShape

# Where queries are compared with more keys than this, and with more the larger the tile, the transformer's
# pass is cut even if memory would allow it: 1088x1920 with 33 frames (41 k tokens, full attention) is already
# past the size DOVE was trained and evaluated at.
MAX_KEYS_PER_TOKEN = 42_000
# Tiles of so many tokens in all go through the transformer together: more are no faster.
MAX_BATCH_TOKENS = 42_000
# Frames per chunk and smallest overlap where the checkpoint does not say: DOVE was evaluated on 33 frames,
# the small checkpoints were trained on short clips. Longer ones compute fewer frames twice (33/9: 1.375 times
# the work, 73/9: 1.14). A small checkpoint that was trained on clips of six frames does not mind: 0.008 dB
# better in 73/9 than in 33/9, no less steady (benchmarks/results/chunk_lengths.json). What one of billions
# makes of them has not been measured, so only who asks for them gets them.
DEFAULT_CHUNK: dict[str, tuple[int, int]] = {"cogvideox": (33, 9), "space_to_depth": (16, 2)}
# Where every frame is restored alone: what more take is memory.
PER_FRAME_CHUNK = (4, 0)
DEFAULT_OVERLAP = 64
MAX_TILE_BATCH = 4


def plan_diffusion(model: DiffusionShape, request: ChunkRequest) -> DiffusionPlan:
    """Chooses chunks and tiles: as few and as large as the memory allows.

    Args:
        model: The checkpoint's shape.
        request: Sizes, memory and wishes. Tiles are rounded up to whole tokens, chunks to the model's rhythm.

    Raises:
        InvalidOptionError: If an overlap leaves no stride.
        OutOfMemoryError: If the smallest plan is estimated not to fit.
    """
    fit = _fit_for(model, request)
    default_len, _ = _default_chunk(model)
    wanted = request.chunk if request.chunk is not None else model.clip_length or default_len
    chunks = chunk_ladder(model, fit.num_frames, wanted)
    if request.chunk is not None:
        chunks = chunks[:1]
    for chunk_len in chunks:
        plan = _largest_plan(fit, chunk_len)
        if plan is not None:
            return plan
    smallest = fitted_plan(fit, chunks[-1], fit.tiles[-1], fit.vae_tiles[-1], 1)
    raise OutOfMemoryError(
        f"{fit.width}x{fit.height} output needs about {smallest.estimated_bytes / 2**30:.2f} GiB even in the "
        f"smallest tiles and chunks, {fit.memory_bytes / 2**30:.2f} GiB are free; choose a smaller target, a "
        "lower-precision dtype or a device with more memory",
        required_bytes=smallest.estimated_bytes,
        available_bytes=fit.memory_bytes,
    )


def _fit_for(model: DiffusionShape, request: ChunkRequest) -> DiffusionFit:
    work = model.working_size(request.height, request.width, request.out_height, request.out_width)
    height, width = (round_up(side, model.alignment) for side in work)
    overlap = DEFAULT_OVERLAP if request.overlap is None else request.overlap
    _, default_overlap = _default_chunk(model)
    return DiffusionFit(
        num_frames=model.padded_frames(request.num_frames),
        height=height,
        width=width,
        model=model,
        memory_bytes=request.memory_bytes,
        overlap=overlap,
        chunk_overlap=default_overlap if request.chunk_overlap is None else request.chunk_overlap,
        tile=_tile_for(request.tile_sides, (height, width), overlap, model.alignment),
        source_pixels=request.height * request.width,
        out_size=(request.out_height, request.out_width),
    )


def _default_chunk(model: DiffusionShape) -> tuple[int, int]:
    return PER_FRAME_CHUNK if model.is_per_frame else DEFAULT_CHUNK[model.autoencoder]


def _tile_for(wanted: TileSize | None, frame: TileSize, overlap: int, alignment: int) -> TileSize | None:
    """The tile that was asked for, on whole tokens; (0, ...) is the whole frame.

    Raises:
        InvalidOptionError: If the overlap leaves no stride.
    """
    if wanted is None:
        return None
    if min(wanted) == 0:
        return frame
    height, width = (
        min(round_up(side, alignment), length) for side, length in zip(wanted, frame, strict=True)
    )
    for side, length in ((height, frame[0]), (width, frame[1])):
        if side < length and side - overlap < alignment:
            raise InvalidOptionError(
                f"a tile of {side} pixels and an overlap of {overlap} leave no stride; the overlap must be "
                f"at least {alignment} pixels smaller than the tile"
            )
    return height, width


def _largest_plan(fit: DiffusionFit, chunk_len: int) -> DiffusionPlan | None:
    """The largest tiles that fit next to a chunk's buffers, or None."""
    model = fit.model
    if (
        (fit.tile or fit.frame) == fit.frame
        and fit.is_streamed(fit.frame, (0, 0))
        and fit.estimated_bytes(chunk_len, fit.frame, (0, 0)) <= fit.memory_bytes
    ):
        return fitted_plan(fit, chunk_len, fit.frame, (0, 0), 1)
    budget = fit.memory_bytes - fit.chunk_bytes(chunk_len)
    if fit.finish_bytes(chunk_len) > budget:
        return None
    vae_tile = next((size for size in fit.vae_tiles if fit.vae_bytes(size, chunk_len) <= budget), None)
    tile = fit.tile or _largest_tile(fit, chunk_len, budget)
    if vae_tile is None or tile is None:
        return None
    single = fitted_plan(fit, chunk_len, tile, vae_tile, 1)
    batch = min(
        single.rows * single.cols,
        budget // max(fit.transformer_bytes(chunk_len, tile), 1),
        MAX_BATCH_TOKENS // max(model.num_tokens(chunk_len, *tile), 1),
        MAX_TILE_BATCH,
    )
    return fitted_plan(fit, chunk_len, tile, vae_tile, max(batch, 1))


def _largest_tile(fit: DiffusionFit, chunk_len: int, budget: int) -> TileSize | None:
    for tile in fit.tiles:
        if _is_quick(fit, chunk_len, tile) and fit.transformer_bytes(chunk_len, tile) <= budget:
            return tile
    return None


def _is_quick(fit: DiffusionFit, chunk_len: int, tile: TileSize) -> bool:
    """Whether smaller tiles would leave a query about as many keys, or there are few enough."""
    model = fit.model
    is_local = model.keys_per_token(chunk_len, 2 * tile[0], 2 * tile[1]) <= model.keys_per_token(
        chunk_len, *tile
    )
    return is_local or fit.keys_per_token(chunk_len, tile) <= MAX_KEYS_PER_TOKEN
