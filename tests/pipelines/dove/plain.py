"""The DOVE script's computation in its plainest form, with diffusers' own modules untouched.

Shares nothing with the pipeline but the weights: whole clips in memory, no savings, its own alpha table, its
own rotary table, its own way of cutting. Used to hold the pipeline to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from safetensors.torch import load_file


@dataclass(frozen=True)
class Settings:
    """The script's command line."""

    scale: int = 4
    upsample: str = "bilinear"
    rule: str = "sample"
    seed: int = 42
    timestep: int = 399
    noise_step: int = 0
    has_vae_tiling: bool = False
    tile: tuple[int, int] = (0, 0)
    overlap: tuple[int, int] = (32, 32)
    chunk: int = 0
    chunk_overlap: int = 8


def alpha_bar(config: dict[str, Any]) -> torch.Tensor:
    """Scaled-linear betas, SNR shift, zero terminal SNR; float64."""
    ends = config["beta_start"] ** 0.5, config["beta_end"] ** 0.5
    alphas = (1 - torch.linspace(*ends, config["num_train_timesteps"], dtype=torch.float64) ** 2).cumprod(0)
    shift = config["snr_shift_scale"]
    alphas = alphas / (shift + (1 - shift) * alphas)
    roots = alphas.sqrt()
    return ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2


def rotary(head_dim: int, frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles of integer positions; a quarter of the head for time, the rest for height and width."""
    angles = []
    for axis, (length, dim) in enumerate(
        ((frames, head_dim // 4), (height, head_dim // 8 * 3), (width, head_dim // 8 * 3))
    ):
        rates = 1.0 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        table = (torch.arange(length, dtype=torch.float32)[:, None] * rates).repeat_interleave(2, dim=1)
        shape = [1, 1, 1, dim]
        shape[axis] = length
        angles.append(table.view(shape).expand(frames, height, width, dim))
    joint = torch.cat(angles, dim=-1).flatten(0, 2)
    return joint.cos(), joint.sin()


def pieces(length: int, size: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, stop, first kept, end of kept) of each piece; the last takes the rest, the kept parts abut."""
    if not size:
        yield 0, length, 0, length
        return
    starts = list(range(0, length - overlap, size - overlap))
    if len(starts) > 1 and length - starts[-1] < size:
        starts.pop()
    for index, start in enumerate(starts):
        is_last = index == len(starts) - 1
        stop = length if is_last else start + size
        yield start, stop, start + (overlap // 2 if index else 0), stop if is_last else stop - overlap // 2


class PlainDove:
    """A checkpoint's folder, loaded with diffusers alone."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae", torch_dtype=dtype).eval()
        self.transformer = CogVideoXTransformer3DModel.from_pretrained(
            folder / "transformer", torch_dtype=dtype
        ).eval()
        self.alphas = alpha_bar(json.loads((folder / "scheduler/scheduler_config.json").read_text()))
        embedding = next((folder / "prompt_embeddings").iterdir())
        self.prompt = load_file(embedding)["prompt_embedding"][None].to(dtype)
        self.dtype = dtype

    @torch.no_grad()
    def __call__(self, clip: torch.Tensor, settings: Settings) -> torch.Tensor:
        """(F, 3, h, w) uint8 -> (F, 3, H, W) float32, [0, 1]."""
        self.vae.use_tiling = settings.has_vae_tiling
        torch.manual_seed(settings.seed)
        num_frames, _, height, width = clip.shape
        clip = torch.cat([clip, clip[-1:].expand(-(num_frames - 1) % 8, -1, -1, -1)]).float()
        clip = F.pad(clip, (0, -width % 16, 0, -height % 16))
        size = clip.shape[2] * settings.scale, clip.shape[3] * settings.scale
        large = F.interpolate(clip, size=size, mode=settings.upsample, align_corners=False)
        sample = (large / 255.0 * 2.0 - 1.0).transpose(0, 1)[None]
        output = torch.empty_like(sample)
        tile = settings.tile if all(settings.tile) else (0, 0)
        for t0, t1, keep_t0, keep_t1 in pieces(sample.shape[2], settings.chunk, settings.chunk_overlap):
            for y0, y1, keep_y0, keep_y1 in pieces(size[0], tile[0], settings.overlap[0]):
                for x0, x1, keep_x0, keep_x1 in pieces(size[1], tile[1], settings.overlap[1]):
                    restored = self.restore(sample[:, :, t0:t1, y0:y1, x0:x1], settings)
                    output[:, :, keep_t0:keep_t1, keep_y0:keep_y1, keep_x0:keep_x1] = restored[
                        :, :, keep_t0 - t0 : keep_t1 - t0, keep_y0 - y0 : keep_y1 - y0
                    ][..., keep_x0 - x0 : keep_x1 - x0]
        output = output[0, :, :num_frames, : height * settings.scale, : width * settings.scale]
        return output.transpose(0, 1)

    def restore(self, sample: torch.Tensor, settings: Settings) -> torch.Tensor:
        """One tile of one chunk, (1, 3, F, H, W)."""
        posterior = self.vae.encode(sample.to(self.dtype)).latent_dist
        latents = posterior.sample() if settings.rule == "sample" else posterior.mode()
        latents = latents * self.vae.config.scaling_factor
        config = self.transformer.config
        copies = latents.shape[2] % config.patch_size_t if config.patch_size_t else 0
        latents = torch.cat([*[latents[:, :, :1]] * copies, latents], dim=2).permute(0, 2, 1, 3, 4)
        alphas = self.alphas.to(self.dtype)
        if settings.noise_step:
            noise_alpha = alphas[settings.noise_step]
            latents = noise_alpha**0.5 * latents + (1 - noise_alpha) ** 0.5 * torch.randn_like(latents)
        tables = None
        if config.use_rotary_positional_embeddings:
            grid = (
                -(-latents.shape[1] // (config.patch_size_t or 1)),
                latents.shape[3] // 2,
                latents.shape[4] // 2,
            )
            tables = rotary(config.attention_head_dim, *grid)
        velocity = self.transformer(
            latents, self.prompt, torch.tensor([settings.timestep]), image_rotary_emb=tables
        ).sample
        alpha = alphas[settings.timestep]
        clean = (alpha**0.5 * latents - (1 - alpha) ** 0.5 * velocity)[:, copies:]
        decoded = self.vae.decode((1 / self.vae.config.scaling_factor * clean).permute(0, 2, 1, 3, 4)).sample
        return (decoded * 0.5 + 0.5).clamp(0, 1).float()
