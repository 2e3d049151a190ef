"""Small random checkpoints in the layouts that DovePipeline loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from safetensors.torch import save_file

from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder

TEXT_LENGTH, TEXT_DIM = 6, 16
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

LAYOUTS: dict[str, dict[str, Any]] = {
    "1.5-5b": {"patch_size_t": 2, "patch_bias": False, "use_rotary_positional_embeddings": True},
    "5b": {"use_rotary_positional_embeddings": True},
    "2b": {
        "use_rotary_positional_embeddings": False,
        "sample_frames": 9,
        "sample_height": 8,
        "sample_width": 12,
    },
}


def make_vae(
    *,
    layers_per_block: int = 1,
    sample_height: int = 96,
    block_out_channels: tuple[int, ...] = (4, 4, 8, 8),
) -> AutoencoderKLCogVideoX:
    """Tiles of 48x80 pixels, strides 40x64."""
    torch.manual_seed(1)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=block_out_channels,
        layers_per_block=layers_per_block,
        norm_num_groups=2,
        sample_height=sample_height,
        sample_width=160,
        scaling_factor=0.7,
    )
    return vae.eval().requires_grad_(False)


def make_transformer(
    layout: str = "1.5-5b", *, in_channels: int = 16, **config: Any
) -> CogVideoXTransformer3DModel:
    torch.manual_seed(2)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=in_channels,
        out_channels=in_channels,
        time_embed_dim=16,
        text_embed_dim=TEXT_DIM,
        num_layers=2,
        max_text_seq_length=TEXT_LENGTH,
        **(LAYOUTS[layout] | config),
    )
    with torch.no_grad():  # unit-sized velocities, as a trained network predicts
        transformer.proj_out.weight.mul_(3)
    return transformer.eval().requires_grad_(False)


def make_scheduler(*, snr_shift_scale: float = 1.0) -> CogVideoXDDIMScheduler:
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        snr_shift_scale=snr_shift_scale,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        clip_sample=False,
    )


def make_nano() -> SpaceToDepthAutoencoder:
    torch.manual_seed(3)
    vae = SpaceToDepthAutoencoder(channels=8, num_blocks=2)
    with torch.no_grad():  # the blocks start as the identity and the residual as zero
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return vae.eval().requires_grad_(False)


def save_checkpoint(
    folder: Path,
    layout: str = "1.5-5b",
    *,
    vae: Any = None,
    transformer: Any = None,
    manifest: dict[str, Any] | None = None,
    prompts: tuple[str, ...] = ("",),
) -> Path:
    """Writes a diffusers folder; prompt embeddings are (L, D) and bfloat16, as DOVE ships them."""
    (vae or make_vae()).save_pretrained(folder / "vae")
    (transformer or make_transformer(layout)).save_pretrained(folder / "transformer")
    make_scheduler(snr_shift_scale=3.0 if layout == "2b" else 1.0).save_pretrained(folder / "scheduler")
    index = {"_class_name": "CogVideoXPipeline", "text_encoder": [None, None], "tokenizer": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "prompt_embeddings").mkdir(exist_ok=True)
    for prompt in prompts:
        generator = torch.Generator().manual_seed(len(prompt))
        embeds = torch.randn(TEXT_LENGTH, TEXT_DIM, generator=generator).to(torch.bfloat16)
        name = f"{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"
        save_file({"prompt_embedding": embeds}, folder / "prompt_embeddings" / name)
    if manifest is not None:
        (folder / "dovetail.json").write_text(json.dumps(manifest))
    return folder


def save_nano(folder: Path, **manifest: Any) -> Path:
    """A checkpoint like dovetail-dit-nano: space-to-depth latents, window attention, scale 4."""
    transformer = make_transformer(in_channels=192, temporal_compression_ratio=1)
    with torch.no_grad():  # 192 channels of small numbers are a picture; keep it one
        transformer.proj_out.weight.mul_(0.1)
    description: dict[str, Any] = {
        "name": "nano",
        "timestep": 19,
        "scale": 4,
        "attention": {"pattern": "window", "window": [2, 3]},
    }
    return save_checkpoint(folder, vae=make_nano(), transformer=transformer, manifest=description | manifest)


def make_clip(num_frames: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """(F, 3, h, w) uint8: smooth shapes that move, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    t, y, x = torch.meshgrid(
        torch.arange(num_frames), torch.arange(height), torch.arange(width), indexing="ij"
    )
    waves = [torch.sin(x / 5 + t / 3 + k) * torch.cos(y / (4 + k) - t / 4) for k in range(3)]
    clip = torch.stack(waves, dim=1) * 90 + 128
    clip += 8 * torch.randn(clip.shape, generator=generator)
    return clip.clamp(0, 255).to(torch.uint8)
