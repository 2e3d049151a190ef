"""A space-to-depth checkpoint from source frames to restored ones, without a tensor of the latents' size.

Its encoder only rearranges upsampled frames, so upsampling, encoding and patch embedding are one linear map:
a strided convolution of the source frames. Behind the transformer, the last projection, the one-step rule and
the way into the decoder concern two frames at a time, and run right before these are decoded. In a clip of
16 frames of 720p that leaves out nine tensors of 177 MB (float32), and the result is that of the separate
steps up to rounding. For untiled chunks, where no latents are fused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from pipelines.codecs.offloading import wake
from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder
from pipelines.dove.one_step import num_leading_copies, rotary_embedding, token_grid
from pipelines.dove.options import Upsample
from pipelines.dove.windowed import WindowedTransformer
from pipelines.planning.slices import frames_per_batch

# Source pixels beyond a pixel that an interpolation looks at.
REACH: dict[Upsample, int] = {"bilinear": 1, "bicubic": 2}


class WholeNetwork(Protocol):
    """A checkpoint whose parts work on whole frames as one."""

    @property
    def device(self) -> torch.device: ...

    def restore_tokens(self, lq: torch.Tensor, upsample: Upsample) -> torch.Tensor: ...

    def render(
        self, tokens: torch.Tensor, lq: torch.Tensor, upsample: Upsample
    ) -> Iterator[torch.Tensor]: ...


class StreamedNetwork:
    """All parts of a space-to-depth checkpoint as one.

    Args:
        vae: The autoencoder.
        transformer: With temporal patches (`patch_size_t`).
        scheduler: Holds alpha_bar.
        timestep: Timestep of the one-step rule.
    """

    def __init__(
        self, vae: SpaceToDepthAutoencoder, transformer: WindowedTransformer, scheduler: Any, *, timestep: int
    ) -> None:
        # diffusers has no type hints, and what inherits from it has none either.
        self.vae: Any = vae
        self.transformer = transformer
        self._folded: dict[tuple[torch.device, Upsample], torch.Tensor] = {}
        alpha_bar = float(scheduler.alphas_cumprod[timestep])
        self._keep, self._subtract = alpha_bar**0.5, (1 - alpha_bar) ** 0.5

    @staticmethod
    def supports(vae: Any, transformer: Any) -> bool:
        """Whether a checkpoint's parts are as the constructor wants them."""
        return (
            isinstance(vae, SpaceToDepthAutoencoder)
            and bool(transformer.config.patch_size_t)
            and WindowedTransformer.supports(transformer)
        )

    @property
    def device(self) -> torch.device:
        """Where it runs; with offloading, where its parts are moved to."""
        hook = getattr(self.transformer.transformer, "_hf_hook", None)
        if hook is not None and hook.execution_device is not None:
            return torch.device(hook.execution_device)
        return torch.device(self.transformer.transformer.device)

    def restore_tokens(self, lq: torch.Tensor, upsample: Upsample) -> torch.Tensor:
        """The transformer on a whole chunk.

        Args:
            lq: (F, 3, h, w), source frames, float32, [-1, 1].
            upsample: Interpolation of the network's input.

        Returns:
            (T, H, W, D), what the last projection takes.
        """
        wake(self.transformer.transformer)
        config = self.transformer.config
        num_copies = num_leading_copies(lq.shape[0], config.patch_size_t)
        tokens = self._embed(torch.cat([lq[:1].expand(num_copies, -1, -1, -1), lq]), upsample)
        ratio = self.vae.ratio // self.vae.scale
        grid = token_grid(lq.shape[0] + num_copies, lq.shape[2] // ratio, lq.shape[3] // ratio, config)
        rotary = rotary_embedding(grid, config, lq.device)
        assert rotary is not None
        return self.transformer.run_blocks(tokens, rotary)

    def render(self, tokens: torch.Tensor, lq: torch.Tensor, upsample: Upsample) -> Iterator[torch.Tensor]:
        """Decodes what `restore_tokens` made of `lq` to frames (f, 3, H, W), float32, about [-1, 1]."""
        patch_size_t = self.transformer.config.patch_size_t
        num_frames = lq.shape[0]
        first = num_leading_copies(num_frames, patch_size_t)
        projection = self._projection()
        wake(self.vae)
        step = max(frames_per_batch(*lq.shape[-2:]) // patch_size_t, 1)
        for start in range(0, tokens.shape[0], step):
            low = max(start * patch_size_t - first, 0)
            high = min((start + step) * patch_size_t - first, num_frames)
            velocity = self._velocity(tokens[start : start + step], projection)[low - high :]
            yield self.vae.render(self._decoder_input(velocity, lq, low, high, upsample), lq[low:high])

    def _embed(self, lq: torch.Tensor, upsample: Upsample) -> torch.Tensor:
        """(F, 3, h, w) to tokens (T, H, W, D)."""
        proj = self.transformer.transformer.patch_embed.proj
        config, reach = self.transformer.config, REACH[upsample]
        key = proj.weight.device, upsample
        if key not in self._folded:
            self._folded[key] = fold_upsampling(
                proj.weight, self.vae, config.patch_size, config.patch_size_t, upsample
            )
        weight = self._folded[key]
        padded = F.pad(lq, (reach, reach, reach, reach), mode="replicate").to(proj.weight.dtype)
        clips = padded.reshape(-1, 3 * config.patch_size_t, *padded.shape[-2:])
        side = config.patch_size * self.vae.ratio // self.vae.scale
        embedded = F.conv2d(
            clips.contiguous(memory_format=torch.channels_last), weight, proj.bias, stride=side
        )
        return embedded.permute(0, 2, 3, 1).contiguous()

    def _projection(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the last projection, times the velocity's factor, in the decoder's order.

        Channels of a token come as (C, pt, py, px), and those of a latent pixel, C, as (features, y, x) in
        source pixels. The decoder takes them as (pt, py, y, px, x, features).
        """
        proj, config = self.transformer.transformer.proj_out, self.transformer.config
        inner, patch = self.vae.ratio // self.vae.scale, config.patch_size
        shape = (-1, inner, inner, config.patch_size_t, patch, patch)
        order = (3, 4, 1, 5, 2, 0)
        weight = (proj.weight.float() * self._subtract).unflatten(0, shape).permute(*order, 6)
        bias = (proj.bias.float() * self._subtract).unflatten(0, shape).permute(order)
        dtype = proj.weight.dtype
        return weight.reshape(-1, proj.weight.shape[1]).to(dtype), bias.reshape(-1).to(dtype)

    def _velocity(self, tokens: torch.Tensor, projection: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Tokens (t, H, W, D) to the velocity's share of the decoder's input, (f, h, w, features)."""
        config = self.transformer.config
        side = config.patch_size * self.vae.ratio // self.vae.scale
        velocity = F.linear(tokens, *projection)
        velocity = velocity.reshape(*tokens.shape[:3], config.patch_size_t, side, side, -1)
        return velocity.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3).flatten(0, 1)

    def _decoder_input(
        self, velocity: torch.Tensor, lq: torch.Tensor, low: int, high: int, upsample: Upsample
    ) -> torch.Tensor:
        """(f, channels, h, w) of `SpaceToDepthAutoencoder.render`: restored latents, and source frames."""
        frames = lq[low:high]
        scale, inner = self.vae.scale, self.vae.ratio // self.vae.scale
        sample = F.interpolate(frames, scale_factor=scale, mode=upsample, align_corners=False)
        latents = F.pixel_shuffle(F.pixel_unshuffle(sample.mul_(self._keep), self.vae.ratio), inner)
        features = latents.shape[1]
        hidden = torch.empty(
            high - low,
            self.vae.conv_in.in_channels,
            *frames.shape[-2:],
            dtype=velocity.dtype,
            device=velocity.device,
            memory_format=torch.channels_last,
        )
        torch.sub(latents.permute(0, 2, 3, 1), velocity, out=hidden[:, :features].permute(0, 2, 3, 1))
        reach = self.vae.num_lq_frames // 2
        for number in range(self.vae.num_lq_frames):
            index = torch.arange(low, high, device=lq.device).add_(number - reach).clamp_(0, lq.shape[0] - 1)
            first = features + 3 * number
            hidden[:, first : first + 3] = lq[index]
        return hidden


def fold_upsampling(
    weight: torch.Tensor,
    vae: SpaceToDepthAutoencoder,
    patch_size: int,
    patch_size_t: int,
    upsample: Upsample,
) -> torch.Tensor:
    """The patch embedding of space-to-depth latents as a convolution of the source frames.

    Args:
        weight: (D, C * pt * p * p) of the patch embedding.
        vae: The autoencoder.
        patch_size: Latent pixels per token side, p.
        patch_size_t: Latent frames per token, pt.
        upsample: Interpolation before encoding.

    Returns:
        (D, pt * 3, k, k), for frames continued by their edge pixels, with the stride of a token.
    """
    ratio, scale, reach = vae.ratio, vae.scale, REACH[upsample]
    pixels = weight.float().reshape(-1, 3, ratio, ratio, patch_size_t, patch_size, patch_size)
    # (D, pt, 3, rows, cols) in pixels of the output: latent pixels outside, their channels inside
    pixels = pixels.permute(0, 4, 1, 5, 2, 6, 3).flatten(5, 6).flatten(3, 4)
    side = patch_size * ratio // scale
    # Rows of a token as interpolated from single rows of the source, one lit at a time.
    lit = torch.eye(3 * side, device=weight.device)[None, :, :, None]
    rows = F.interpolate(lit, size=(3 * side * scale, 1), mode=upsample, align_corners=False)[0, ..., 0]
    matrix = rows[side - reach : 2 * side + reach, side * scale : 2 * side * scale]
    folded = torch.einsum("dtcyx,iy,jx->dtcij", pixels, matrix, matrix)
    return folded.flatten(1, 2).to(weight.dtype)
