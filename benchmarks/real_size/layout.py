"""Configurations of CogVideoX1.5-5B, whose fine-tuned form DOVE is, and of small siblings.

The numbers are those of the public model's `config.json` files.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any, Self

HEAD_DIM = 64
LATENT_CHANNELS = 16


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How large a checkpoint is; the defaults are the real one, 5.57 G parameters in the transformer.

    Attributes:
        num_layers: Blocks of the transformer.
        num_heads: Attention heads of 64 channels.
        vae_channels: Channels of the VAE at full resolution, even.
        vae_layers: Residual blocks of each of its four resolutions.
        text_length: Tokens of the prompt.
        text_dim: Features of such a token.
    """

    num_layers: int = 42
    num_heads: int = 48
    vae_channels: int = 128
    vae_layers: int = 3
    text_length: int = 226
    text_dim: int = 4096

    @property
    def transformer(self) -> dict[str, Any]:
        """Arguments of `CogVideoXTransformer3DModel`."""
        return {
            "num_attention_heads": self.num_heads,
            "attention_head_dim": HEAD_DIM,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "time_embed_dim": 512,
            "text_embed_dim": self.text_dim,
            "num_layers": self.num_layers,
            "dropout": 0.0,
            "attention_bias": True,
            "sample_width": 300,
            "sample_height": 300,
            "sample_frames": 81,
            "patch_size": 2,
            "patch_size_t": 2,
            "patch_bias": False,
            "temporal_compression_ratio": 4,
            "max_text_seq_length": self.text_length,
            "activation_fn": "gelu-approximate",
            "timestep_activation_fn": "silu",
            "norm_elementwise_affine": True,
            "norm_eps": 1e-5,
            "spatial_interpolation_scale": 1.875,
            "temporal_interpolation_scale": 1.0,
            "use_rotary_positional_embeddings": True,
            "use_learned_positional_embeddings": False,
        }

    @property
    def vae(self) -> dict[str, Any]:
        """Arguments of `AutoencoderKLCogVideoX`."""
        width = self.vae_channels
        return {
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (width, 2 * width, 2 * width, 4 * width),
            "latent_channels": LATENT_CHANNELS,
            "layers_per_block": self.vae_layers,
            "act_fn": "silu",
            "norm_eps": 1e-6,
            "norm_num_groups": math.gcd(32, width),
            "temporal_compression_ratio": 4,
            "sample_height": 480,
            "sample_width": 720,
            "scaling_factor": 0.7,
            "force_upcast": True,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "invert_scale_latents": True,
        }

    @property
    def scheduler(self) -> dict[str, Any]:
        """Arguments of `CogVideoXDDIMScheduler`."""
        return {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": True,
            "steps_offset": 0,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "rescale_betas_zero_snr": True,
            "snr_shift_scale": 1.0,
        }

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Self:
        """The layout that `add_arguments` read."""
        if arguments.tiny:
            return cls(num_layers=2, num_heads=2, vae_channels=8, vae_layers=1, text_length=16, text_dim=32)
        return cls(
            num_layers=arguments.layers, num_heads=arguments.heads, vae_channels=arguments.vae_channels
        )


REAL = Layout()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that choose a layout."""
    parser.add_argument("--tiny", action="store_true", help="two layers, for tests of the script itself")
    parser.add_argument("--layers", type=int, default=REAL.num_layers)
    parser.add_argument("--heads", type=int, default=REAL.num_heads, help="of 64 channels: the width")
    parser.add_argument("--vae-channels", type=int, default=REAL.vae_channels)
