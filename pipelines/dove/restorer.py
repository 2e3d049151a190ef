"""One chunk: upsample, encode, one step per tile, fuse, decode, finish."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from pipelines.codecs.codec import Codec
from pipelines.dove.attention import ViewTokens
from pipelines.dove.geometry import Geometry, to_unit_range
from pipelines.dove.one_step import RotaryTables, num_leading_copies, one_step, token_grid
from pipelines.dove.options import DoveOptions, Upsample
from pipelines.dove.streamed import StreamedNetwork, WholeNetwork
from pipelines.dove.view import FrameView, downsize
from pipelines.dove.windowed import WindowedTransformer
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import NetworkPart
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.spans import Span, TileGrid
from pipelines.planning.view import view_size
from pipelines.tiling import TileFusion


class ChunkRestorer:
    """Restores chunks with a checkpoint's components.

    Args:
        codec: The autoencoder.
        transformer: `CogVideoXTransformer3DModel`.
        scheduler: Holds alpha_bar.
        prompt_embeds: (1, L, D) text embedding.
        model_shape: Shape of the checkpoint.
        timestep: Timestep of the one-step rule.
    """

    def __init__(
        self,
        codec: Codec,
        transformer: Any,
        scheduler: Any,
        *,
        prompt_embeds: torch.Tensor,
        model_shape: DiffusionShape,
        timestep: int,
    ) -> None:
        self.codec = codec
        self.transformer = transformer
        self.scheduler = scheduler
        self.prompt_embeds = prompt_embeds
        self.model_shape = model_shape
        self.timestep = timestep
        # What is running, or was when an error rose; tells a retry what to make smaller.
        self.part: NetworkPart = "vae"
        # The network in one piece, where the checkpoint allows it.
        self.streamed: WholeNetwork | None = None
        self._rotary = RotaryTables(transformer.config)

    def stream_whole_frames(self, vae: Any) -> None:
        """Runs whole frames through the network in one piece from now on, where the checkpoint allows it."""
        if StreamedNetwork.supports(vae, self.transformer):
            transformer = WindowedTransformer(self.transformer, self.prompt_embeds)
            self.streamed = StreamedNetwork(vae, transformer, self.scheduler, timestep=self.timestep)
            self.model_shape = replace(self.model_shape, is_streamed=True)

    def run_separate_steps(self) -> None:
        """Undoes `stream_whole_frames`."""
        self.streamed = None
        self.model_shape = replace(self.model_shape, is_streamed=False)

    def restore(
        self,
        clip: torch.Tensor,
        geometry: Geometry,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
        upsample: Upsample,
    ) -> Iterator[torch.Tensor]:
        """Restores one chunk.

        Args:
            clip: (F, 3, h, w), uint8, or float with [0, 1].
            geometry: Of the call.
            options: Of the call.
            plan: Tiles.
            generator: Source of noise.
            upsample: Interpolation to the network's size.

        Yields:
            (f, 3, *target), float32, [0, 1], on the clip's device, F in all.
        """
        num_left = clip.shape[0]
        # Up to the model's rhythm; the last frame stands in. DOVE does it for the whole clip.
        if options.segmentation == "equal":
            padded = self.model_shape.padded_frames(num_left)
            clip = clip[torch.arange(padded, device=clip.device).clamp(max=num_left - 1)]
        grid = plan.tile_grid(
            *geometry.padded, multiple=self.model_shape.alignment, segmentation=options.segmentation
        )
        levels = geometry.pad_source(clip)
        position = 0
        for decoded in self._decoded(levels, geometry, grid, options, plan, generator, upsample):
            self.part = "finish"
            stop = position + decoded.shape[2]
            source = levels[position:stop]
            for finished in geometry.finish(decoded, source, options, upsample, at_once=plan.finish_frames):
                if num_left > 0:
                    yield finished[:num_left]
                num_left -= finished.shape[0]
            position = stop
            del decoded
            self.part = "vae"

    def _decoded(
        self,
        levels: torch.Tensor,
        geometry: Geometry,
        grid: TileGrid,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
        upsample: Upsample,
    ) -> Iterator[torch.Tensor]:
        """Source levels (F, 3, h', w') to batches (1, 3, f, *padded), about [-1, 1]."""
        if self._is_streamed(geometry, grid, options, plan):
            yield from self._stream(levels, upsample)
            return
        lq = to_unit_range(levels.clone()).transpose(0, 1)[None]
        sample = geometry.upsample(levels, upsample)
        view = self._view(sample, grid, options, plan)
        if options.tile_fusion == "latent" or len(grid) == 1:
            latents = self._encode(sample, options, plan, generator)
            del sample
            latents = self._restore_latents(latents, grid, options, plan, generator, view)
            yield from self._decode(latents, lq, options, plan)
            return
        fusion = TileFusion(grid, "fade" if options.tile_fusion == "pixel" else "cut")
        for index, (row, col) in enumerate(grid.tiles):
            latents = self._encode(sample[..., row.slice, col.slice], options, plan, generator)
            place = view.in_spans([(row, col)], self.model_shape.alignment) if view else None
            latents = self._one_step(latents, options, generator, place)
            tile_lq = self._lq_tile(lq, row, col)
            fusion.add(index, torch.cat(list(self._decode(latents, tile_lq, options, plan)), dim=2))
        del sample
        yield fusion.result()

    def _is_streamed(
        self, geometry: Geometry, grid: TileGrid, options: DoveOptions, plan: DiffusionPlan
    ) -> bool:
        vae_grid = self._vae_grid(*geometry.padded, options, plan)
        return (
            self.streamed is not None
            and len(grid) == 1
            and (vae_grid is None or len(vae_grid) == 1)
            and not options.noise_step
        )

    def _stream(self, levels: torch.Tensor, upsample: Upsample) -> Iterator[torch.Tensor]:
        """`_decoded` for whole frames of a space-to-depth checkpoint."""
        assert self.streamed is not None
        self.part = "transformer"
        device = self.streamed.device
        lq = to_unit_range(levels.clone()).to(device)
        tokens = self.streamed.restore_tokens(lq, upsample)
        self.part = "vae"
        for frames in self.streamed.render(tokens, lq, upsample):
            yield frames.transpose(0, 1)[None]

    def _encode(
        self,
        sample: torch.Tensor,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        self.part = "vae"
        return self.codec.encode(
            sample,
            latent_rule=options.latent_rule,
            generator=generator,
            grid=self._vae_grid(sample.shape[-2], sample.shape[-1], options, plan),
            tiling=options.vae_tiling,
        )

    def _restore_latents(
        self,
        latents: torch.Tensor,
        grid: TileGrid,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
        view: FrameView | None,
    ) -> torch.Tensor:
        """The one step on every tile of (1, C, T, h, w), fused to (1, C, T, h, w) before the decode."""
        latent_grid = grid.scaled(1, self.codec.spatial_ratio)
        fusion = TileFusion(latent_grid, "fade")
        for start in range(0, len(latent_grid), plan.tile_batch):
            tiles = latent_grid.tiles[start : start + plan.tile_batch]
            batch = torch.cat([latents[..., row.slice, col.slice] for row, col in tiles])
            pixels = grid.tiles[start : start + plan.tile_batch]
            places = view.in_spans(pixels, self.model_shape.alignment) if view else None
            restored = self._one_step(batch, options, generator, places)
            for offset in range(len(tiles)):
                fusion.add(start + offset, restored[offset : offset + 1])
        return fusion.result()

    def _view(
        self, sample: torch.Tensor, grid: TileGrid, options: DoveOptions, plan: DiffusionPlan
    ) -> FrameView | None:
        """The view of whole frames (1, 3, F, H, W); None where one tile is the frame, or no layer looks."""
        tokens, alignment = self.model_shape.view_tokens, self.model_shape.alignment
        if not tokens or len(grid) == 1:
            return None
        size = view_size((grid.height, grid.width), tokens=tokens, alignment=alignment)
        # Never with noise: it is what tiles agree on.
        latents = self._encode(downsize(sample, size), replace(options, latent_rule="mode"), plan, None)
        self.part = "transformer"
        return FrameView.of(
            self.transformer,
            latents.transpose(1, 2),
            self.prompt_embeds.to(device=latents.device, dtype=latents.dtype),
            frame=(grid.height / alignment, grid.width / alignment),
        )

    def _one_step(
        self,
        latents: torch.Tensor,
        options: DoveOptions,
        generator: torch.Generator | None,
        view: ViewTokens | None = None,
    ) -> torch.Tensor:
        """The one-step rule on (B, C, T, h, w), with the view of the frame that they are tiles of."""
        self.part = "transformer"
        config = self.transformer.config
        num_copies = num_leading_copies(latents.shape[2], config.patch_size_t)
        grid = token_grid(latents.shape[2] + num_copies, latents.shape[3], latents.shape[4], config)
        if options.noise_step:
            latents = self._add_noise(latents, num_copies, options.noise_step, generator)
        latents = latents.transpose(1, 2)
        restored = one_step(
            self.transformer,
            self.scheduler,
            latents,
            self.prompt_embeds.to(device=latents.device, dtype=latents.dtype),
            timestep=self.timestep,
            rotary=self._rotary.of(grid, latents.device),
            view=view,
        )
        if options.noise_step:
            restored = restored[:, num_copies:]
        return restored.transpose(1, 2)

    def _add_noise(
        self, latents: torch.Tensor, num_copies: int, noise_step: int, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Puts the leading copies in front of (B, C, T, h, w), as the reference does before it adds noise."""
        latents = torch.cat([latents[:, :, :1].repeat(1, 1, num_copies, 1, 1), latents], dim=2)
        # Filled through the transposed view: torch draws other numbers for a contiguous tensor, and the
        # reference's is not.
        noise = torch.empty_like(latents).transpose(1, 2).normal_(generator=generator).transpose(1, 2)
        timesteps = torch.full((latents.shape[0],), noise_step, dtype=torch.long, device=latents.device)
        noisy: torch.Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    def _decode(
        self, latents: torch.Tensor, lq: torch.Tensor, options: DoveOptions, plan: DiffusionPlan
    ) -> Iterator[torch.Tensor]:
        self.part = "vae"
        ratio = self.codec.spatial_ratio
        grid = self._vae_grid(latents.shape[-2] * ratio, latents.shape[-1] * ratio, options, plan)
        return self.codec.decode(
            latents,
            lq,
            grid=grid.scaled(1, ratio) if grid else None,
            tiling=options.vae_tiling,
        )

    def _vae_grid(
        self, height: int, width: int, options: DoveOptions, plan: DiffusionPlan
    ) -> TileGrid | None:
        if options.vae_tiling not in ("plan", "joint"):
            return None
        return plan.vae_grid(height, width, multiple=self.model_shape.alignment)

    def _lq_tile(self, lq: torch.Tensor, row: Span, col: Span) -> torch.Tensor:
        scale = self.model_shape.native_scale
        if scale is None:  # the decoder does not look at it
            return lq
        return lq[..., row.scaled(1, scale).slice, col.scaled(1, scale).slice]
