"""Which sizes diffusers' own VAE tiles can do. Pure.

Its tiles lie at multiples of a stride in pixels, and a fixed number of latent rows is kept of each. Where
tile and stride are no whole latents, rows are lost or doubled, and the transformer gets a frame of another
size.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import UnsupportedSizeError


def check_reference_tiling(vae: Any, height: int, width: int) -> None:
    """Finds out before any work whether `vae.tiled_encode` and `tiled_decode` give whole frames.

    Args:
        vae: An `AutoencoderKLCogVideoX`.
        height: Of the padded frame in pixels.
        width: Of the padded frame in pixels.

    Raises:
        UnsupportedSizeError: If they do not.
    """
    tiles = vae.tile_sample_min_height, vae.tile_sample_min_width
    if height <= tiles[0] and width <= tiles[1]:
        return
    num_halvings = len(vae.config.block_out_channels) - 1
    factors = vae.tile_overlap_factor_height, vae.tile_overlap_factor_width
    for length, tile, factor in zip((height, width), tiles, factors, strict=True):
        expected = length >> num_halvings
        found = _encoded_length(length, tile, factor, num_halvings)
        if found != expected:
            raise UnsupportedSizeError(
                f"the reference's VAE tiles of {tile} pixels make {found} latents of {length} pixels in "
                f"place of {expected}; choose another size, or leave the plain path out"
            )


def _encoded_length(length: int, tile: int, factor: float, num_halvings: int) -> int:
    """Latents along one axis, as diffusers cuts and joins them."""
    stride, latents = int(tile * (1 - factor)), tile >> num_halvings
    limit = latents - int(latents * factor)
    starts = range(0, length, stride)
    return sum(min(min(tile, length - start) >> num_halvings, limit) for start in starts)
