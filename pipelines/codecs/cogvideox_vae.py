"""CogVideoX's VAE, walked in its own time batches.

`prepare_vae` puts in the layers of `cogvideox_layers`, which need less memory and less work for the same
bits. `encode_moments` and `decode_batches` walk a clip in the VAE's own time batches. The batch sizes are
part of the numbers, because GroupNorm spans a batch; going batch by batch is not.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any, Literal, cast, get_args

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXResnetBlock3D,
    CogVideoXSpatialNorm3D,
)
from diffusers.models.downsampling import CogVideoXDownsample3D
from diffusers.models.upsampling import CogVideoXUpsample3D
from torch import nn

from pipelines.codecs.cogvideox_layers import (
    MAX_CONV_ELEMENTS,
    CausalConv3d,
    ConvCache,
    LatentResolutionNorm,
    ResnetBlock,
)
from pipelines.codecs.cogvideox_resampling import Downsample, Upsample
from pipelines.codecs.shared_norms import SharedGroupNorm, shared_statistics, spread_patches
from pipelines.planning.spans import TileGrid
from pipelines.tiling import TileFusion

Saving = Literal["norm", "convolution", "block", "upsample", "downsample"]
SAVINGS: tuple[Saving, ...] = get_args(Saving)


def prepare_vae(
    vae: Any, *, max_conv_elements: int = MAX_CONV_ELEMENTS, savings: Collection[Saving] = SAVINGS
) -> None:
    """Replaces layers of an `AutoencoderKLCogVideoX` by those of `cogvideox_layers`, for inference alone.

    Weights are shared, not copied. A prepared VAE decodes and encodes like before but cannot be saved under
    its old parameter names.

    Args:
        vae: Changed in place.
        max_conv_elements: Largest input or output that goes through a convolution in one call.
        savings: Kinds of layers to replace; blocks are replaced only if their convolutions are.
    """
    for name, module in list(vae.named_modules()):
        if type(module) is nn.GroupNorm:
            _replace(vae, name, SharedGroupNorm(module))
    for saving in SAVINGS:  # in this order: a block takes over the norms and convolutions that it finds
        if saving in savings:
            for name, module in list(vae.named_modules()):
                replacement = _replacement(saving, module, max_conv_elements)
                if replacement is not None:
                    _replace(vae, name, replacement)


def _replacement(saving: Saving, module: Any, max_elements: int) -> nn.Module | None:
    """The layer of ours for one of diffusers', if it is of this kind."""
    match saving, module:
        case "norm", CogVideoXSpatialNorm3D():
            return LatentResolutionNorm(
                module.norm_layer, module.conv_y.conv, module.conv_b.conv, max_elements=max_elements
            )
        case "convolution", CogVideoXCausalConv3d() if module.pad_mode != "replicate":
            return CausalConv3d(module.conv, max_elements=max_elements)
        case "block", CogVideoXResnetBlock3D() if _is_supported(module):
            return ResnetBlock(module)
        case "upsample", CogVideoXUpsample3D():
            return Upsample(module.conv, compress_time=bool(module.compress_time), max_elements=max_elements)
        case "downsample", CogVideoXDownsample3D():
            return Downsample(
                module.conv, compress_time=bool(module.compress_time), max_elements=max_elements
            )
    return None


def _is_supported(block: Any) -> bool:
    """Whether a residual block is as CogVideoX has them: causal, with SiLU, without time embedding."""
    return (
        isinstance(block.conv1, CausalConv3d)
        and isinstance(block.nonlinearity, nn.SiLU)
        and not hasattr(block, "temb_proj")
    )


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module.train(root.training))


def compile_vae_blocks(vae: Any) -> None:
    """Compiles the residual blocks of a prepared VAE, of both directions, at their first call for each shape.

    What lies between them (resampling, convolutions in pieces for large frames) is not compiled.
    """
    for module in vae.modules():
        if isinstance(module, ResnetBlock):
            module.compile()


def time_batches(num_frames: int, batch_size: int) -> list[tuple[int, int]]:
    """The VAE's ranges of frames: batches of `batch_size`, the first takes the remainder as well."""
    remainder = num_frames % batch_size
    count = max(num_frames // batch_size, 1)
    ends = [min(remainder + batch_size * (index + 1), num_frames) for index in range(count)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def encode_moments(
    vae: Any, sample: torch.Tensor, grid: TileGrid | None = None, *, shares_statistics: bool = False
) -> torch.Tensor:
    """Encodes a clip to the posterior's mean and log-variance.

    Args:
        vae: An `AutoencoderKLCogVideoX`, prepared or not.
        sample: (B, 3, F, H, W) in [-1, 1], any device and dtype; moved to the VAE's piece by piece.
        grid: Tiles in sample pixels, multiples of 8; encoded one by one and faded into each other. None
            encodes whole frames.
        shares_statistics: Whether group norms are those of patches from all over the frame, for all tiles of
            a prepared VAE, or each tile's own.

    Returns:
        (B, 2 * latent_channels, T, H / 8, W / 8), on the VAE's device in its dtype.
    """
    if grid is None or len(grid) == 1:
        return _encode_tile(vae, sample)
    ratio = _spatial_ratio(vae)
    fusion = TileFusion(grid.scaled(1, ratio), "fade")
    with contextlib.ExitStack() as stack:
        if shares_statistics:
            patches = spread_patches(sample, grid, multiple=ratio)
            stack.enter_context(shared_statistics(vae.encoder, lambda: _encode_tile(vae, patches)))
        for index, (row, col) in enumerate(grid.tiles):
            fusion.add(index, _encode_tile(vae, sample[..., row.slice, col.slice]))
    return fusion.result()


def _encode_tile(vae: Any, sample: torch.Tensor) -> torch.Tensor:
    cache: ConvCache | None = None
    moments: list[torch.Tensor] = []
    for start, stop in time_batches(sample.shape[2], vae.num_sample_frames_batch_size):
        batch = sample[:, :, start:stop].to(device=vae.device, dtype=vae.dtype)
        encoded, cache = vae.encoder(batch, conv_cache=cache)
        moments.append(encoded if vae.quant_conv is None else vae.quant_conv(encoded))
    return torch.cat(moments, dim=2)


def decode_batches(
    vae: Any, latents: torch.Tensor, grid: TileGrid | None = None, *, shares_statistics: bool = False
) -> Iterator[torch.Tensor]:
    """Decodes latents in time batches, yielding frames as soon as they are final.

    Args:
        vae: An `AutoencoderKLCogVideoX`, prepared or not.
        latents: (B, latent_channels, T, h, w), already divided by the scaling factor.
        grid: Tiles in latent pixels. Each is decoded over the whole clip before the next, because the
            convolution caches of a tile (about 7 GB for a 720p frame in bfloat16) weigh far more than its
            frames; so no frame leaves before the last tile. None decodes whole frames.
        shares_statistics: As for `encode_moments`.

    Yields:
        (B, 3, f, H, W), the VAE's dtype; f is 8 or 9 (1 for a single image).
    """
    if grid is None or len(grid) == 1:
        yield from _decode_tile(vae, latents)
        return
    # One sum for each time batch: tiles are added as they are decoded, and what was handed out is freed.
    empty = TileFusion(grid.scaled(_spatial_ratio(vae)), "fade")
    batches = time_batches(latents.shape[2], vae.num_latent_frames_batch_size)
    fusions = [empty.another() for _ in batches]
    with contextlib.ExitStack() as stack:
        if shares_statistics:
            patches = spread_patches(latents, grid)
            stack.enter_context(
                shared_statistics(vae.decoder, lambda: deque(_decode_tile(vae, patches), maxlen=0))
            )
        for index, (row, col) in enumerate(grid.tiles):
            decoded = _decode_tile(vae, latents[..., row.slice, col.slice])
            for fusion, frames in zip(fusions, decoded, strict=True):
                fusion.add(index, frames)
            del frames
    for fusion in fusions:
        yield fusion.result()


def _decode_tile(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    cache: ConvCache | None = None
    for start, stop in time_batches(latents.shape[2], vae.num_latent_frames_batch_size):
        batch = latents[:, :, start:stop]
        if vae.post_quant_conv is not None:
            batch = vae.post_quant_conv(batch)
        frames, cache = vae.decoder(batch, conv_cache=cache)
        yield frames


def _spatial_ratio(vae: Any) -> int:
    return cast(int, 2 ** (len(vae.config.block_out_channels) - 1))
