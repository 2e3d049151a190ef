"""One face for the two autoencoders: samples in [-1, 1] to scaled latents, and latents to frames in batches.

The pipeline does not ask which VAE it has. What differs is here: CogVideoX's VAE has a posterior, a scaling
factor and a rhythm of 8k+1 frames; the space-to-depth autoencoder has none of these but wants the LR frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKLCogVideoX

from pipelines.codecs.cogvideox_codec import CogVideoXCodec
from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder, SpaceToDepthCodec
from pipelines.dove.options import LatentRule, VaeTiling
from pipelines.errors import CheckpointError
from pipelines.planning.spans import TileGrid


class Codec(Protocol):
    """What the pipeline needs of an autoencoder."""

    @property
    def spatial_ratio(self) -> int: ...

    @property
    def native_scale(self) -> int | None:
        """The one upscaling factor the decoder can do, or None if it does not depend on the source."""
        ...

    def encode(
        self,
        sample: torch.Tensor,
        *,
        latent_rule: LatentRule,
        generator: torch.Generator | None = None,
        grid: TileGrid | None = None,
        tiling: VaeTiling = "plan",
    ) -> torch.Tensor:
        """Encodes (B, 3, F, H, W) in [-1, 1] to scaled latents (B, C, T, h, w) on the VAE's device."""
        ...

    def decode(
        self,
        latents: torch.Tensor,
        lq: torch.Tensor,
        *,
        grid: TileGrid | None = None,
        tiling: VaeTiling = "plan",
    ) -> Iterator[torch.Tensor]:
        """Decodes scaled latents (B, C, T, h, w) to frames (B, 3, f, H, W), about [-1, 1], in order."""
        ...


def make_codec(vae: Any) -> Codec:
    """The codec of an autoencoder.

    Raises:
        CheckpointError: If the autoencoder is of neither kind.
    """
    if isinstance(vae, SpaceToDepthAutoencoder):
        return SpaceToDepthCodec(vae)
    if isinstance(vae, AutoencoderKLCogVideoX):
        return CogVideoXCodec(vae)
    raise CheckpointError(
        f"unknown autoencoder {type(vae).__name__}; known are AutoencoderKLCogVideoX and "
        "SpaceToDepthAutoencoder"
    )
