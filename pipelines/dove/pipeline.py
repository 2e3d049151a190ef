"""DovePipeline: a low-resolution clip in, a restored clip of the wanted size out, one transformer call.

The method is DOVE's (arXiv 2505.16239); `DoveOptions.reference()` gives its script's bits
(https://github.com/zhengchen1999/DOVE/blob/ad649cc/inference_script.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipelines.chunks import Chunk, clip_chunks, reference_chunks
from pipelines.clip_checks import check_clip
from pipelines.clips import stream_chunks
from pipelines.dove.components import DoveComponents
from pipelines.dove.geometry import make_geometry
from pipelines.dove.options import DoveOptions, DoveOutput
from pipelines.errors import UnsupportedSizeError
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion


class DovePipeline(DoveComponents):
    """One-step diffusion video super-resolution with a checkpoint's components."""

    def plan(self, request: ChunkRequest) -> DiffusionPlan:
        """Chooses chunks and tiles for this checkpoint; see `plan_diffusion`."""
        return plan_diffusion(self.model_shape, request)

    def chunks(self, num_frames: int, plan: DiffusionPlan, options: DoveOptions) -> list[Chunk]:
        """The chunks of a whole clip. DOVE's own may reach past its end, where the last frame stands in.

        Raises:
            UnsupportedSizeError: If the overlap leaves no stride.
        """
        if options.segmentation == "equal":
            return clip_chunks(num_frames, plan.chunk_len, plan.chunk_overlap)
        try:
            return reference_chunks(
                self.model_shape.padded_frames(num_frames), plan.chunk_len, plan.chunk_overlap
            )
        except ValueError as error:
            raise UnsupportedSizeError(f"chunks do not fit: {error}") from error

    def __call__(
        self,
        clip: torch.Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: DiffusionPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> DoveOutput:
        """Upscales a clip, in one attempt (`pipelines.clips.restore_clip` goes on where memory ends).

        Args:
            clip: (F, 3, h, w), R'G'B' code values, float with [0, 1] or uint8; any device. Interpolation runs
                there.
            height: Target height in pixels.
            width: Target width in pixels.
            options: Defaults to the recommended ones.
            plan: Chunks and tiles; by default chosen from the free memory.
            generator: Source of noise for latent rule `sample` and `noise_step`; None is torch's global one.

        Raises:
            UnsupportedSizeError: If a size cannot be processed.
            InvalidOptionError: If clip or options are not as described.
            OutOfMemoryError: If even the smallest plan does not fit.
        """
        options = options or DoveOptions()
        check_clip(clip)
        plan = plan or self.plan(
            ChunkRequest(
                num_frames=clip.shape[0],
                height=clip.shape[-2],
                width=clip.shape[-1],
                out_height=height,
                out_width=width,
                memory_bytes=self.free_memory(),
            )
        )

        def restore(frames: torch.Tensor) -> Iterator[torch.Tensor]:
            return self.restore_chunk(frames, (height, width), options, plan, generator)

        chunks = self.chunks(clip.shape[0], plan, options)
        frames = stream_chunks(clip, chunks, restore, blend=options.chunk_blend)
        return DoveOutput(torch.stack(list(frames)), quantization=options.quantization)

    @torch.no_grad()
    def restore_chunk(
        self,
        clip: torch.Tensor,
        size: tuple[int, int],
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None = None,
    ) -> Iterator[torch.Tensor]:
        """Restores one chunk; arguments and errors are those of `__call__`, memory may end.

        Yields:
            (f, 3, *size), float32, [0, 1], on the clip's device, while later frames are decoded.
        """
        check_clip(clip)
        geometry = make_geometry((clip.shape[-2], clip.shape[-1]), size, self.model_shape, options)
        plan.check(geometry.padded, model=self.model_shape, segmentation=options.segmentation)
        upsample = options.upsample or self.description.upsample
        yield from self.restorer.restore(clip, geometry, options, plan, generator, upsample)
        self.maybe_free_model_hooks()
