"""The autoencoder of small checkpoints: space-to-depth in, an LR-conditioned convolutional decoder out.

CogVideoX's VAE costs 71-78 % of DOVE's arithmetic. OASIS (arXiv 2509.23980) drops the encoder for a
pixel-unshuffle, FlashVSR (arXiv 2510.12747) replaces the decoder by a tiny one that also sees the LR frames.
Both fit here: the latents are the upsampled frames themselves, rearranged (spatial ratio 8, temporal ratio 1,
3 * 8 * 8 = 192 channels), so `encode` costs nothing and the latent loss of DOVE's first stage is a pixel
loss; the decoder works at LR resolution on the restored latents and on three LR frames, and adds its residual
to the bicubic upsampling of the LR frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from pipelines.codecs.offloading import wake
from pipelines.planning.slices import frames_per_batch
from pipelines.planning.spans import Span, TileGrid


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), both 3x3; the second starts at zero, so a new block is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(cast(torch.Tensor, self.conv2.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.conv1(x)
        # In place where nobody differentiates: a fresh tensor of this size costs as much as the arithmetic.
        hidden = self.conv2(F.silu(hidden, inplace=not torch.is_grad_enabled()))
        return x + hidden if torch.is_grad_enabled() else hidden.add_(x)


# diffusers has no type hints: its classes and decorators are Any to mypy.
class SpaceToDepthAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Latents by rearrangement, pixels by a conditional decoder.

    Args:
        channels: Width of the decoder.
        num_blocks: Residual blocks of the decoder.
        scale: Upscaling factor; the decoder works at 1/scale of the output size.
        spatial_compression_ratio: Output pixels per latent pixel.
        num_lq_frames: LR frames the decoder sees for each output frame, centred on it (odd).
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: int = 64,
        num_blocks: int = 6,
        scale: int = 4,
        spatial_compression_ratio: int = 8,
        num_lq_frames: int = 3,
    ) -> None:
        super().__init__()
        if spatial_compression_ratio % scale or num_lq_frames % 2 == 0:
            raise ValueError(
                f"the compression ratio must be a multiple of the scale and num_lq_frames odd, got ratio "
                f"{spatial_compression_ratio}, scale {scale}, num_lq_frames {num_lq_frames}"
            )
        self.scale = scale
        self.ratio = spatial_compression_ratio
        self.num_lq_frames = num_lq_frames
        pixel_channels = 3 * scale**2
        self.conv_in = nn.Conv2d(pixel_channels + 3 * num_lq_frames, channels, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(num_blocks))
        self.conv_mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, pixel_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(cast(torch.Tensor, self.conv_out.bias))

    @property
    def latent_channels(self) -> int:
        return 3 * self.ratio**2

    def encode(self, sample: torch.Tensor) -> torch.Tensor:
        """Rearranges an upsampled clip.

        Args:
            sample: (B, 3, F, H, W) in [-1, 1]; H and W multiples of the compression ratio.

        Returns:
            (B, 192, F, H / 8, W / 8), same dtype.
        """
        return F.pixel_unshuffle(sample.transpose(1, 2), self.ratio).transpose(1, 2)

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode`: (B, 192, F, H / 8, W / 8) as frames (B, 3, F, H, W)."""
        return F.pixel_shuffle(latents.transpose(1, 2), self.ratio).transpose(1, 2)

    def decode(self, latents: torch.Tensor, lq: torch.Tensor, *, lead: int = 0) -> torch.Tensor:
        """Renders frames from restored latents and the LR frames.

        Args:
            latents: (B, 192, F, H / 8, W / 8) as `encode` gives them.
            lq: (B, 3, lead + F or more, H / scale, W / scale) in [-1, 1], the LR frames with what comes
                before and after them.
            lead: Frames of `lq` before the first one that is rendered.

        Returns:
            (B, 3, F, H, W), about [-1, 1], not clamped; in the dtype of `lq`.
        """
        batch_size, num_frames = lq.shape[0], latents.shape[2]
        dtype = self.conv_in.weight.dtype
        rendered = slice(lead, lead + num_frames)
        frames = lq.transpose(1, 2)  # (B, F, 3, h, w)
        neighbours = self._neighbours(frames)[:, rendered]
        features = F.pixel_shuffle(latents.transpose(1, 2), self.ratio // self.scale)  # (B, F, 48, h, w)
        hidden = torch.cat([features.to(dtype), neighbours.to(dtype)], dim=2).flatten(0, 1)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        out = self.render(hidden, frames[:, rendered].flatten(0, 1).float())
        return out.to(lq.dtype).reshape(batch_size, num_frames, *out.shape[1:]).transpose(1, 2)

    def render(self, hidden: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """The decoder behind its inputs' rearrangement.

        Args:
            hidden: (N, 3 * scale^2 + 3 * num_lq_frames, h, w): restored latents at the size of the LR frame,
                then LR frames, in the decoder's dtype.
            frames: (N, 3, h, w), the LR frame of each, float32, [-1, 1].

        Returns:
            (N, 3, h * scale, w * scale), float32, about [-1, 1], not clamped.
        """
        is_inference = not torch.is_grad_enabled()
        skip = self.conv_in(hidden)
        hidden = skip
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.conv_mid(hidden)
        hidden = F.silu(hidden.add_(skip) if is_inference else hidden + skip, inplace=is_inference)
        residual = F.pixel_shuffle(self.conv_out(hidden), self.scale).float()
        base = F.interpolate(frames, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return base.add_(residual) if is_inference else base + residual

    def _neighbours(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, F, 3, h, w) -> (B, F, 3 * num_lq_frames, h, w): each frame with neighbours, ends repeated."""
        reach = self.num_lq_frames // 2
        num_frames = frames.shape[1]
        index = torch.arange(num_frames, device=frames.device)
        shifted = [frames[:, (index + d).clamp(0, num_frames - 1)] for d in range(-reach, reach + 1)]
        return torch.cat(shifted, dim=2)


class SpaceToDepthCodec:
    """SpaceToDepthAutoencoder as a `Codec`.

    The decoder is convolutional without normalisation over space, so tiles with a margin of its receptive
    field give the untiled result.

    Args:
        vae: The autoencoder.
    """

    def __init__(self, vae: SpaceToDepthAutoencoder) -> None:
        self.vae: Any = vae
        self.spatial_ratio: int = vae.ratio
        self.native_scale: int | None = vae.scale

    @property
    def margin(self) -> int:
        """Latent pixels beyond a tile that its frames depend on, rounded up."""
        # 3x3 convolutions at LR resolution: in, two per block, mid, out; bicubic reaches 2 and is narrower.
        lq_reach = 3 + 2 * len(self.vae.blocks)
        return int(-(-lq_reach * self.vae.scale // self.vae.ratio))

    def encode(
        self,
        sample: torch.Tensor,
        *,
        latent_rule: str,
        generator: torch.Generator | None = None,
        grid: TileGrid | None = None,
        tiling: str = "plan",
    ) -> torch.Tensor:
        """See `Codec.encode`; a rearrangement, so none of the options matters."""
        wake(self.vae)
        latents: torch.Tensor = self.vae.encode(sample.to(device=self.vae.device, dtype=self.vae.dtype))
        return latents

    def decode(
        self,
        latents: torch.Tensor,
        lq: torch.Tensor,
        *,
        grid: TileGrid | None = None,
        tiling: str = "plan",
    ) -> Iterator[torch.Tensor]:
        """See `Codec.decode`; `lq` (B, 3, F, H / scale, W / scale) in [-1, 1] is needed."""
        wake(self.vae)
        lq = lq.to(device=latents.device, dtype=torch.float32)
        reach = self.vae.num_lq_frames // 2
        num_frames = latents.shape[2]
        ratio = self.vae.ratio // self.vae.scale
        tile = latents.shape[-2:] if grid is None else (grid.rows[0].size, grid.cols[0].size)
        step = frames_per_batch(tile[0] * ratio, tile[1] * ratio)
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            low, high = max(start - reach, 0), min(stop + reach, num_frames)
            yield self._decode_frames(latents[:, :, start:stop], lq[:, :, low:high], start - low, grid)

    def _decode_frames(
        self, latents: torch.Tensor, lq: torch.Tensor, lead: int, grid: TileGrid | None
    ) -> torch.Tensor:
        if grid is None or len(grid) == 1:
            decoded: torch.Tensor = self.vae.decode(latents, lq, lead=lead)
            return decoded
        height, width = latents.shape[-2:]
        batch_size, _, num_frames = latents.shape[:3]
        ratio, lq_ratio = self.vae.ratio, self.vae.ratio // self.vae.scale
        output = lq.new_empty(batch_size, 3, num_frames, height * ratio, width * ratio)
        for row, col in grid.tiles:
            outer_row, outer_col = self._widened(row, height), self._widened(col, width)
            lq_row, lq_col = outer_row.scaled(lq_ratio), outer_col.scaled(lq_ratio)
            tile = self.vae.decode(
                latents[..., outer_row.slice, outer_col.slice],
                lq[..., lq_row.slice, lq_col.slice],
                lead=lead,
            )
            top, left = (row.start - outer_row.start) * ratio, (col.start - outer_col.start) * ratio
            output[..., row.scaled(ratio).slice, col.scaled(ratio).slice] = tile[
                ..., top : top + row.size * ratio, left : left + col.size * ratio
            ]
        return output

    def _widened(self, span: Span, length: int) -> Span:
        return Span(max(span.start - self.margin, 0), min(span.stop + self.margin, length))
