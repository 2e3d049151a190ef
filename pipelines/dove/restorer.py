"""One chunk through the network: encode, one step per tile, fuse, decode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pipelines.codecs.codec import Codec
from pipelines.dove.one_step import (
    RotaryEmbedding,
    TokenGrid,
    num_leading_copies,
    one_step,
    rotary_embedding,
    token_grid,
)
from pipelines.dove.options import DoveOptions
from pipelines.dove.runtime import AttentionBackend, attention_kernel
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import NetworkPart
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.spans import Span, TileGrid
from pipelines.tiling import TileFusion

# Equal tiles need one table, the reference's merged ones up to four per chunk length.
MAX_ROTARY_TABLES = 8


class ChunkRestorer:
    """Restores upsampled chunks with a checkpoint's components.

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
        self.attention_backend: AttentionBackend = "auto"
        # What is running, or was when an error rose; tells a retry what to make smaller.
        self.stage: NetworkPart = "vae"
        self._rotary: dict[tuple[TokenGrid, torch.device], RotaryEmbedding | None] = {}

    def restore(
        self,
        sample: torch.Tensor,
        lq: torch.Tensor,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
    ) -> Iterator[torch.Tensor]:
        """Restores one chunk: sample (1, 3, F, H, W) to batches (1, 3, f, H, W), both about [-1, 1]."""
        grid = plan.tile_grid(
            *sample.shape[-2:], multiple=self.model_shape.alignment, segmentation=options.segmentation
        )
        if options.tile_fusion == "latent" or len(grid) == 1:
            latents = self._encode(sample, options, plan, generator)
            latents = self._restore_latents(latents, grid, options, plan, generator)
            yield from self._decode(latents, lq, options, plan)
            return
        fusion = TileFusion(grid, "fade" if options.tile_fusion == "pixel" else "cut")
        for index, (row, col) in enumerate(grid.tiles):
            latents = self._encode(sample[..., row.slice, col.slice], options, plan, generator)
            latents = self._one_step(latents, options, generator)
            tile_lq = self._lq_tile(lq, row, col)
            fusion.add(index, torch.cat(list(self._decode(latents, tile_lq, options, plan)), dim=2))
        yield fusion.result()

    def _encode(
        self,
        sample: torch.Tensor,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        self.stage = "vae"
        return self.codec.encode(
            sample,
            latent_rule=options.latent_rule,
            generator=generator,
            grid=self._vae_grid(sample.shape[-2], sample.shape[-1], options, plan),
            use_reference_tiling=options.vae_tiling == "reference",
        )

    def _restore_latents(
        self,
        latents: torch.Tensor,
        grid: TileGrid,
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        """The one step on every tile of (1, C, T, h, w), fused to (1, C, T, h, w) before the decode."""
        latent_grid = grid.scaled(1, self.codec.spatial_ratio)
        fusion = TileFusion(latent_grid, "fade")
        for start in range(0, len(latent_grid), plan.tile_batch):
            tiles = latent_grid.tiles[start : start + plan.tile_batch]
            batch = torch.cat([latents[..., row.slice, col.slice] for row, col in tiles])
            restored = self._one_step(batch, options, generator)
            for offset in range(len(tiles)):
                fusion.add(start + offset, restored[offset : offset + 1])
        return fusion.result()

    def _one_step(
        self, latents: torch.Tensor, options: DoveOptions, generator: torch.Generator | None
    ) -> torch.Tensor:
        """The one-step rule on (B, C, T, h, w)."""
        self.stage = "transformer"
        config = self.transformer.config
        num_copies = num_leading_copies(latents.shape[2], config.patch_size_t)
        grid = token_grid(latents.shape[2] + num_copies, latents.shape[3], latents.shape[4], config)
        key = grid, latents.device
        if key not in self._rotary:
            if len(self._rotary) >= MAX_ROTARY_TABLES:
                self._rotary.clear()
            self._rotary[key] = rotary_embedding(grid, config, latents.device)
        if options.noise_step:
            latents = self._add_noise(latents, num_copies, options.noise_step, generator)
        latents = latents.transpose(1, 2)
        with attention_kernel(self.attention_backend):
            restored = one_step(
                self.transformer,
                self.scheduler,
                latents,
                self.prompt_embeds.to(device=latents.device, dtype=latents.dtype),
                timestep=self.timestep,
                rotary=self._rotary[key],
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
        self.stage = "vae"
        ratio = self.codec.spatial_ratio
        grid = self._vae_grid(latents.shape[-2] * ratio, latents.shape[-1] * ratio, options, plan)
        return self.codec.decode(
            latents,
            lq,
            grid=grid.scaled(1, ratio) if grid else None,
            use_reference_tiling=options.vae_tiling == "reference",
        )

    def _vae_grid(
        self, height: int, width: int, options: DoveOptions, plan: DiffusionPlan
    ) -> TileGrid | None:
        if options.vae_tiling != "plan":
            return None
        return plan.vae_grid(height, width, multiple=self.model_shape.alignment)

    def _lq_tile(self, lq: torch.Tensor, row: Span, col: Span) -> torch.Tensor:
        scale = self.model_shape.native_scale
        if scale is None:  # the decoder does not look at it
            return lq
        return lq[..., row.scaled(1, scale).slice, col.scaled(1, scale).slice]
