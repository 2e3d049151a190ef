"""CogVideoX's VAE with less memory and the same bits.

Three changes, each bit-identical on the CPU in float32 and bfloat16 (tests/pipelines/test_cogvideox_vae.py):

* 1x1x1 convolutions keep no cache. diffusers clones their whole input (`[-1 + 1:]` is `[0:]`) and never reads
  it: 21 % of the decoder's peak.
* The spatial norm's 1x1x1 convolutions run on the latents and their result is upsampled, instead of the other
  way round; nearest upsampling commutes with a pointwise map. Another 15 % of the peak.
* Convolutions over large inputs are split in time into pieces that are never shorter than the kernel.
  diffusers' split makes pieces of two frames and then fails above 1.7 Mpx (decode) and 3.4 Mpx (encode).

`encode_moments` and `decode_batches` walk a clip in the VAE's own time batches. The batch sizes are part of
the numbers, because GroupNorm spans a batch; going batch by batch is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXSpatialNorm3D,
)
from torch import nn

from pipelines.planning.spans import TileGrid
from pipelines.tiling import TileFusion

# diffusers splits above 2 GiB of 2-byte elements because cuDNN then falls back to slow kernels; same limit.
MAX_CONV_ELEMENTS = 2**30

ConvCache = dict[str, Any]


class CausalConv3d(nn.Module):
    """A CogVideoX causal convolution that caches only what it will read.

    Args:
        conv: The convolution, without padding in time and with stride 1 there.
        max_elements: Largest input (with its leading frames) that goes through the kernel in one call.
    """

    def __init__(self, conv: nn.Conv3d, *, max_elements: int = MAX_CONV_ELEMENTS) -> None:
        super().__init__()
        self.conv = conv
        self.max_elements = max_elements

    @property
    def time_kernel_size(self) -> int:
        return self.conv.kernel_size[0]

    def forward(
        self, inputs: torch.Tensor, conv_cache: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Convolves (B, C, F, H, W); the cache is the end of the batch before, kernel size - 1 frames."""
        reach = self.time_kernel_size - 1
        if reach == 0:
            return self.convolve(inputs), None
        head = [conv_cache] if conv_cache is not None else [inputs[:, :, :1]] * reach
        inputs = torch.cat([*head, inputs], dim=2)
        return self.convolve(inputs), inputs[:, :, -reach:].clone()

    def convolve(self, inputs: torch.Tensor) -> torch.Tensor:
        """The plain convolution, in pieces of time where the input is large."""
        num_frames = inputs.shape[2] - self.time_kernel_size + 1
        if inputs.numel() <= self.max_elements or num_frames == 1:
            return self._kernel(inputs)
        per_frame = inputs.numel() // inputs.shape[2]
        step = max(1, self.max_elements // per_frame - self.time_kernel_size + 1)
        output: torch.Tensor | None = None
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            piece = self._kernel(inputs[:, :, start : stop + self.time_kernel_size - 1])
            if output is None:
                output = piece.new_empty(*piece.shape[:2], num_frames, *piece.shape[3:])
            output[:, :, start:stop] = piece
        assert output is not None
        return output

    def _kernel(self, inputs: torch.Tensor) -> torch.Tensor:
        # Not self.conv(...): diffusers' subclass would split the input itself.
        return F.conv3d(inputs, self.conv.weight, self.conv.bias, self.conv.stride, self.conv.padding)


class LatentResolutionNorm(nn.Module):
    """CogVideoX's spatial norm, norm(f) * y(z) + b(z), with y and b computed at the latents' resolution.

    Args:
        norm: The group norm of the features.
        conv_y: Pointwise map of the latents to the gain.
        conv_b: Pointwise map of the latents to the bias.
    """

    def __init__(self, norm: nn.GroupNorm, conv_y: nn.Conv3d, conv_b: nn.Conv3d) -> None:
        super().__init__()
        self.norm_layer = norm
        self.conv_y = CausalConv3d(conv_y)
        self.conv_b = CausalConv3d(conv_b)

    def forward(
        self, f: torch.Tensor, zq: torch.Tensor, conv_cache: ConvCache | None = None
    ) -> tuple[torch.Tensor, ConvCache]:
        """Normalises f (B, C, F, H, W) with the latents zq (B, Z, t, h, w)."""
        gain = _upsample_latents(self.conv_y.convolve(zq), f)
        # In place on the normalised features: they are ours, and this is the largest tensor of the decoder.
        output = self.norm_layer(f).mul_(gain) if not torch.is_grad_enabled() else self.norm_layer(f) * gain
        del gain
        bias = _upsample_latents(self.conv_b.convolve(zq), f)
        return (output.add_(bias) if not torch.is_grad_enabled() else output + bias), {}


def _upsample_latents(latents: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Nearest upsampling to the size of `like`; the first frame of an odd batch stands for itself alone."""
    size = like.shape[-3:]
    if size[0] > 1 and size[0] % 2 == 1:
        first = F.interpolate(latents[:, :, :1], size=(1, *size[1:]))
        rest = F.interpolate(latents[:, :, 1:], size=(size[0] - 1, *size[1:]))
        return torch.cat([first, rest], dim=2)
    return F.interpolate(latents, size=size)


def prepare_vae(vae: Any, *, max_conv_elements: int = MAX_CONV_ELEMENTS) -> None:
    """Replaces the modules named above inside an `AutoencoderKLCogVideoX`; weights are shared, not copied.

    A prepared VAE decodes and encodes like before but cannot be saved under its old parameter names.
    """
    for name, module in list(vae.named_modules()):
        if isinstance(module, CogVideoXSpatialNorm3D):
            norm = LatentResolutionNorm(module.norm_layer, module.conv_y.conv, module.conv_b.conv)
            norm.conv_y.max_elements = norm.conv_b.max_elements = max_conv_elements
            _replace(vae, name, norm)
    for name, module in list(vae.named_modules()):
        if isinstance(module, CogVideoXCausalConv3d) and module.pad_mode != "replicate":
            _replace(vae, name, CausalConv3d(module.conv, max_elements=max_conv_elements))


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module.train(root.training))


def time_batches(num_frames: int, batch_size: int) -> list[tuple[int, int]]:
    """The VAE's ranges of frames: batches of `batch_size`, the first takes the remainder as well."""
    remainder = num_frames % batch_size
    count = max(num_frames // batch_size, 1)
    ends = [min(remainder + batch_size * (index + 1), num_frames) for index in range(count)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def encode_moments(vae: Any, sample: torch.Tensor, grid: TileGrid | None = None) -> torch.Tensor:
    """Encodes a clip to the posterior's mean and log-variance.

    Args:
        vae: An `AutoencoderKLCogVideoX`, prepared or not.
        sample: (B, 3, F, H, W) in [-1, 1], any device and dtype; moved to the VAE's piece by piece.
        grid: Tiles in sample pixels, multiples of 8; encoded one by one and faded into each other. None
            encodes whole frames.

    Returns:
        (B, 2 * latent_channels, T, H / 8, W / 8), on the VAE's device in its dtype.
    """
    if grid is None or len(grid) == 1:
        return _encode_tile(vae, sample)
    fusion = TileFusion(grid.scaled(1, _spatial_ratio(vae)), "fade")
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


def decode_batches(vae: Any, latents: torch.Tensor, grid: TileGrid | None = None) -> Iterator[torch.Tensor]:
    """Decodes latents in time batches, yielding frames as soon as they are final.

    Args:
        vae: An `AutoencoderKLCogVideoX`, prepared or not.
        latents: (B, latent_channels, T, h, w), already divided by the scaling factor.
        grid: Tiles in latent pixels. Each is decoded over the whole clip before the next, because the
            convolution caches of a tile (about 7 GB for a 720p frame in bfloat16) weigh far more than its
            frames; so tiled frames leave together at the end of the clip. None decodes whole frames.

    Yields:
        (B, 3, f, H, W), the VAE's dtype; f is 8 or 9 for whole frames (1 for a single image).
    """
    if grid is None or len(grid) == 1:
        yield from _decode_tile(vae, latents)
        return
    fusion = TileFusion(grid.scaled(_spatial_ratio(vae)), "fade")
    for index, (row, col) in enumerate(grid.tiles):
        tile = latents[..., row.slice, col.slice]
        fusion.add(index, torch.cat(list(_decode_tile(vae, tile)), dim=2))
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
