"""A per-frame network as a `Model`: tiles with a margin, sizes it takes, and the size that is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.clip_checks import check_chunk, to_float
from pipelines.errors import InvalidOptionError
from pipelines.model import Model, ModelCard
from pipelines.per_frame.network import Network
from pipelines.planning.frame_plan import FramePlan, FrameShape
from pipelines.planning.ladders import round_up
from pipelines.planning.plan import ChunkPlan
from pipelines.planning.spans import Span


class PerFrameModel(Model):
    """Restores frames one by one.

    A frame in tiles is the same as a whole one wherever the network looks no farther than the margin.

    Args:
        network: On its device.
        card: What is said of it.
        shape: Its scale, the sizes it takes, its margin and memory.
        device: Where it runs.
        dtype: Of weights and activations.
    """

    shape: FrameShape

    def __init__(
        self,
        network: Network,
        card: ModelCard,
        shape: FrameShape,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(card, shape, device, dtype)
        self._network = network

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
        if not isinstance(plan, FramePlan):
            raise InvalidOptionError(f"a per-frame network needs a FramePlan, got {type(plan).__name__}")
        for frame in clip:
            yield self._restore_frame(frame[None], size, plan)

    @torch.inference_mode()
    def _restore_frame(self, frame: Tensor, size: tuple[int, int], plan: FramePlan) -> Tensor:
        native = self._enlarge(to_float(frame, self.device), plan)
        if native.shape[-2:] != size:
            native = F.interpolate(native, size=size, mode="bicubic", align_corners=False, antialias=True)
        return native.clamp_(0, 1)

    def _enlarge(self, frame: Tensor, plan: FramePlan) -> Tensor:
        """(1, 3, h, w) to (1, 3, h * scale, w * scale), float32, not clamped."""
        scale = self.shape.scale or 1
        height, width = frame.shape[-2:]
        grid = plan.tile_grid(height, width)
        if len(grid) == 1:
            return self._run(frame, Span(0, height), Span(0, width))
        canvas = frame.new_empty(1, 3, height * scale, width * scale)
        for row, col in grid.tiles:
            canvas[..., row.scaled(scale).slice, col.scaled(scale).slice] = self._run(frame, row, col)
        return canvas

    def _run(self, frame: Tensor, row: Span, col: Span) -> Tensor:
        """The network's result for a tile, without what was around it."""
        scale = self.shape.scale or 1
        rows, cols = self._surroundings(row, frame.shape[-2]), self._surroundings(col, frame.shape[-1])
        given = _pad(frame[..., rows.slice, cols.slice], *self.shape.padded((rows.size, cols.size)))
        output = self._network(given)
        top, left = (row.start - rows.start) * scale, (col.start - cols.start) * scale
        return output[..., top : top + row.size * scale, left : left + col.size * scale]

    def _surroundings(self, tile: Span, length: int) -> Span:
        """A tile with its margin, from border to border of windows, and as many of the frame's pixels as the
        network asks for: only what a whole frame lacks as well is left to be padded."""
        shape = self.shape
        start = max(tile.start - shape.margin, 0) // shape.alignment * shape.alignment
        stop = min(round_up(tile.stop + shape.margin, shape.alignment), length)
        wanted, most = shape.padded((stop - start, length))
        if start + wanted > most:
            start = max(most - wanted, 0) // shape.alignment * shape.alignment
        return Span(start, min(max(start + wanted, stop), length))


def _pad(frame: Tensor, height: int, width: int) -> Tensor:
    """Repeats the last row and column up to a size."""
    rows, cols = height - frame.shape[-2], width - frame.shape[-1]
    return F.pad(frame, (0, cols, 0, rows), mode="replicate") if rows or cols else frame
