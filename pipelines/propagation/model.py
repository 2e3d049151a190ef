"""The restorer as a `Model`: chunks, tiles with a margin, native factors and the size that is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.clip_checks import check_chunk, to_float
from pipelines.devices import DtypeName, Quantize, choose_dtype
from pipelines.errors import InvalidOptionError
from pipelines.model import Model, ModelCard
from pipelines.planning.clip_plan import ClipPlan, ClipShape
from pipelines.planning.plan import ChunkPlan
from pipelines.planning.spans import Span
from pipelines.propagation.checkpoint import (
    DESCRIPTION_NAME,
    WEIGHTS_NAME,
    load_propagation,
    read_description,
)
from pipelines.propagation.conditioning import LEVEL_NAMES, check_strength, with_strength
from pipelines.propagation.interpolation import enlarge
from pipelines.propagation.network import (
    SMALLEST_SIDE,
    PropagationConfig,
    PropagationNet,
    shuffle_ratio,
    unshuffle_ratio,
)
from pipelines.propagation.noise_reduction import FrameAt, reduce_noise
from pipelines.propagation.quantized import can_quantize, quantize_body
from pipelines.propagation.streamed import estimate_levels, find_motion, stream_residuals

# Lucas-Kanade on four levels finds motion up to about so many body pixels.
LONGEST_MOTION = 16
TILES_NOTE = (
    "what is carried over several frames comes from farther than a tile's margin: where there is motion, "
    "tiles may differ slightly from whole frames near their borders"
)


class PropagationModel(Model):
    """Restores the frames of a chunk together, with states carried through them in both directions.

    The degradation of a chunk and the motion in it are found on whole frames, so that tiles agree on them.

    Args:
        network: On its device, with convolutions in `dtype`.
        card: What is said of it.
        device: Where it runs.
        dtype: Of the convolutions and states; motion, interpolation and the estimate are always float32.
        strength: How strongly noise and compression are cleaned, 0 to 1; None for what is estimated.

    Raises:
        InvalidOptionError: If the strength is outside [0, 1].
    """

    shape: ClipShape

    def __init__(
        self,
        network: PropagationNet,
        card: ModelCard,
        *,
        device: torch.device,
        dtype: torch.dtype,
        strength: float | None = None,
    ) -> None:
        check_strength(strength)
        super().__init__(card, _shape_of(network.config, device, dtype), device, dtype)
        self._network, self._strength = network, strength

    def restore(
        self,
        clip: Tensor,
        size: tuple[int, int],
        plan: ChunkPlan,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """See `Model.restore`; one frame at a time, the generator changes nothing."""
        check_chunk(clip, size)
        if not isinstance(plan, ClipPlan):
            raise InvalidOptionError(f"a propagating network needs a ClipPlan, got {type(plan).__name__}")
        return self._restore(clip, size, plan)

    @torch.inference_mode()
    def _restore(self, clip: Tensor, size: tuple[int, int], plan: ClipPlan) -> Iterator[Tensor]:
        num_frames, _, height, width = clip.shape
        scale, _ = self.shape.factor_for((height, width), size)
        clip = _extend(clip)
        frame_at = self._reader(clip)
        levels = estimate_levels(self._network, frame_at, num_frames)
        self.findings = dict(zip(LEVEL_NAMES, levels[0].tolist(), strict=True))
        levels = with_strength(levels, self._strength)
        motion = find_motion(frame_at, num_frames, scale=scale)
        if num_frames > 1:
            clip = torch.cat(reduce_noise(frame_at, motion[None, 0, :, :2], levels[:, 0] / 255))
            frame_at = self._reader(clip)
            levels = with_strength(estimate_levels(self._network, frame_at, num_frames), self._strength)
        modulation = self._network.modulation(levels)
        residuals = self._residuals(clip, plan, scale=scale, modulation=modulation, motion=motion)
        for index, residual in enumerate(residuals):
            native = enlarge(frame_at(index)[None], scale)[0] + residual.to(self.device)
            native = native[..., : height * scale, : width * scale]
            if native.shape[-2:] != size:
                native = F.interpolate(native, size=size, mode="bicubic", align_corners=False, antialias=True)
            yield native.clamp_(0, 1)

    def _residuals(
        self, clip: Tensor, plan: ClipPlan, *, scale: int, modulation: Tensor, motion: Tensor
    ) -> Iterator[Tensor]:
        """(1, 3, h * scale, w * scale) for each frame, tile after tile where the plan has them."""
        grid = plan.tile_grid(*motion.shape[-2:])
        if len(grid) == 1:
            yield from stream_residuals(
                self._network, self._reader(clip), scale=scale, modulation=modulation, motion=motion
            )
            return
        num_frames, _, height, width = clip.shape
        # float16 is off by less than a 2048th of the residual. The host has room where a GPU has none.
        canvas = torch.empty(num_frames, 3, height * scale, width * scale, dtype=torch.float16)
        entry, ratio = unshuffle_ratio(scale), shuffle_ratio(scale)
        for row, col in grid.tiles:
            rows, cols = self._around(row, motion.shape[-2]), self._around(col, motion.shape[-1])
            residuals = stream_residuals(
                self._network,
                self._reader(clip[..., rows.scaled(entry).slice, cols.scaled(entry).slice]),
                scale=scale,
                modulation=modulation,
                motion=motion[..., rows.slice, cols.slice],
            )
            target = canvas[..., row.scaled(ratio).slice, col.scaled(ratio).slice]
            top, left = (row.start - rows.start) * ratio, (col.start - cols.start) * ratio
            inner = slice(top, top + target.shape[-2]), slice(left, left + target.shape[-1])
            for index, residual in enumerate(residuals):
                target[index] = residual[0, :, inner[0], inner[1]]
        for index in range(num_frames):
            yield canvas[index : index + 1]

    def _reader(self, clip: Tensor) -> FrameAt:
        return lambda index: to_float(clip[index : index + 1], self.device)

    def _around(self, tile: Span, length: int) -> Span:
        """A tile with its margin, in body pixels."""
        return Span(max(tile.start - self.shape.margin, 0), min(tile.stop + self.shape.margin, length))


def load_propagation_model(
    folder: Path,
    *,
    name: str | None = None,
    device: torch.device,
    dtype: DtypeName = "auto",
    quantize: Quantize = "auto",
    licence: str = "",
    strength: float | None = None,
) -> PropagationModel:
    """Loads a folder with `propagation.json`.

    Args:
        folder: With the two files of a checkpoint.
        name: What to call it; None for the folder's name.
        device: Where it runs.
        dtype: "auto" for the fastest that is good enough on the device; float32 where 8 bits are asked.
        quantize: `int8` has the body in 8 bits where the device is an x86 processor, the dtype float32 and
            ranges are in the checkpoint; `auto` the same where the dtype is "auto" as well and the processor
            has no bfloat16. Otherwise nothing changes.
        licence: Of the weights, where the checkpoint does not say.
        strength: As in `PropagationModel`.

    Raises:
        CheckpointError: If a file is missing or damaged.
        InvalidOptionError: If strength or dtype have no such value.
    """
    check_strength(strength)
    can_be_int8 = can_quantize(device) and bool(read_description(folder).activation_ranges)
    chosen = choose_dtype(dtype, device)
    if dtype == "auto" and quantize == "int8" and can_be_int8:
        chosen = torch.float32
    network, description = load_propagation(folder, dtype=chosen)
    is_wanted = quantize == "int8" or (quantize == "auto" and dtype == "auto")
    is_int8 = is_wanted and can_be_int8 and chosen == torch.float32
    if is_int8:
        quantize_body(network, description.activation_ranges)
    scales = tuple(sorted(network.config.scales))
    card = ModelCard(
        name=name or folder.name,
        kind="propagation",
        scale=scales[-1],
        native_scales=scales,
        licence=description.licence or licence,
        source=description.source,
        fingerprint=_fingerprint(folder, strength, is_int8=is_int8),
        notes=(TILES_NOTE,),
    )
    return PropagationModel(network.to(device), card, device=device, dtype=chosen, strength=strength)


def _shape_of(config: PropagationConfig, device: torch.device, dtype: torch.dtype) -> ClipShape:
    """The margin is what the convolutions of a frame see (two to a block, the entry, the one before the exit
    and the exit), and the longest motion from a neighbour."""
    num_blocks = config.feature_blocks + config.backward_blocks + config.forward_blocks
    return ClipShape(
        channels=config.channels,
        element_size=dtype.itemsize,
        factors=tuple((scale, unshuffle_ratio(scale)) for scale in sorted(config.scales)),
        margin=2 * num_blocks + 3 + LONGEST_MOTION,
        waiting_size=torch.float16.itemsize if device.type == "cpu" else 0,
    )


def _fingerprint(folder: Path, strength: float | None, *, is_int8: bool) -> str:
    """A digest over both files, and with it what changes their result."""
    digest = hashlib.sha256()
    for name in (DESCRIPTION_NAME, WEIGHTS_NAME):
        digest.update((folder / name).read_bytes())
    options = "+int8" if is_int8 else ""
    return digest.hexdigest() + options + ("" if strength is None else f"+strength={float(strength)}")


def _extend(clip: Tensor) -> Tensor:
    """Repeats the last row and column up to the smallest size that the network takes."""
    missing = [max(SMALLEST_SIDE - side, 0) for side in clip.shape[-2:]]
    if not any(missing):
        return clip
    rows, cols = (
        torch.arange(side + more, device=clip.device).clamp(max=side - 1)
        for side, more in zip(clip.shape[-2:], missing, strict=True)
    )
    return clip[..., rows[:, None], cols]
