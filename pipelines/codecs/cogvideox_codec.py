"""CogVideoX's VAE behind the codec's face: a posterior, a scaling factor and a rhythm of 8k + 1 frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from pipelines.codecs.cogvideox_vae import decode_batches, encode_moments
from pipelines.codecs.offloading import wake
from pipelines.dove.options import LatentRule, VaeTiling
from pipelines.planning.spans import TileGrid


class CogVideoXCodec:
    """AutoencoderKLCogVideoX as a `Codec`.

    Args:
        vae: An `AutoencoderKLCogVideoX`, prepared or not.
    """

    native_scale: int | None = None

    def __init__(self, vae: Any) -> None:
        self.vae: Any = vae
        self.spatial_ratio: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scaling_factor: float = vae.config.scaling_factor

    def encode(
        self,
        sample: torch.Tensor,
        *,
        latent_rule: LatentRule,
        generator: torch.Generator | None = None,
        grid: TileGrid | None = None,
        tiling: VaeTiling = "plan",
    ) -> torch.Tensor:
        """See `Codec.encode`; `sample` draws the posterior from `generator`, or torch's global one.

        `reference` tiles with diffusers' own grid and blending wherever the frame exceeds the VAE's tile, as
        `--is_vae_st` of the DOVE script does, instead of with `grid`.
        """
        wake(self.vae)
        vae = self.vae
        is_large = _exceeds(sample, vae.tile_sample_min_height, vae.tile_sample_min_width)
        if tiling == "reference" and is_large:
            moments = vae.tiled_encode(sample.to(device=vae.device, dtype=vae.dtype))
        else:
            moments = encode_moments(vae, sample, grid, shares_statistics=tiling == "joint")
        posterior = DiagonalGaussianDistribution(moments)
        latents = posterior.sample(generator) if latent_rule == "sample" else posterior.mode()
        scaled: torch.Tensor = latents * self.scaling_factor
        return scaled

    def decode(
        self,
        latents: torch.Tensor,
        lq: torch.Tensor,
        *,
        grid: TileGrid | None = None,
        tiling: VaeTiling = "plan",
    ) -> Iterator[torch.Tensor]:
        """See `Codec.decode`; `lq` is not used."""
        wake(self.vae)
        vae = self.vae
        # The reference multiplies by the reciprocal; a division rounds differently.
        latents = 1 / self.scaling_factor * latents
        is_large = _exceeds(latents, vae.tile_latent_min_height, vae.tile_latent_min_width)
        if tiling == "reference" and is_large:
            yield vae.tiled_decode(latents).sample
        else:
            yield from decode_batches(vae, latents, grid, shares_statistics=tiling == "joint")


def _exceeds(tensor: torch.Tensor, height: int, width: int) -> bool:
    return bool(tensor.shape[-2] > height or tensor.shape[-1] > width)
