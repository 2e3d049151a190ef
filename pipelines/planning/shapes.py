"""What the planner knows of a checkpoint: its rhythm in time and space, and what its activations weigh.

Memory of activations is estimated from counts of live tensors on the real configurations (33 frames,
bfloat16, flash attention, with this package's lossless savings): the CogVideoX decoder needs 28.1 kB per
pixel of a tile and the encoder 19.0 kB, both linear from 256x256 to 2160p within 3 %
(tests/pipelines/codecs); the 1.5-5B transformer 82 kB per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Autoencoder = Literal["cogvideox", "space_to_depth"]

# Elements per pixel of a VAE tile and per channel of its widest-resolution layer, for one time batch.
DECODE_ELEMENTS = 114
ENCODE_ELEMENTS = 77
# Elements per token and per hidden channel: full attention with a flash kernel; windows gather copies of
# query, key and value (41 counted on dovetail-nano's configuration).
TOKEN_ELEMENTS = 14
WINDOW_TOKEN_ELEMENTS = 42
# Elements per LR pixel, frame and decoder channel of the space-to-depth decoder: 4 live maps. With the output
# that is 8 % above the count.
SPACE_TO_DEPTH_ELEMENTS = 4
# Bytes per output pixel, channel and frame of a chunk that stay alive: upsampled clip, fused frames.
CHUNK_BYTES = 8
SPACE_TO_DEPTH_BATCH = 16


@dataclass(frozen=True)
class DiffusionShape:
    """What the planner needs to know of a checkpoint.

    Attributes:
        autoencoder: Which kind of VAE.
        vae_channels: Channels of its widest layer at full resolution (of the whole decoder for nano).
        hidden_size: Channels of a token.
        patch_size: Latent pixels per token side.
        patch_size_t: Latent frames per token, or None.
        bytes_per_element: 2 for bfloat16 and float16, 4 for float32.
        spatial_ratio: Pixels per latent pixel.
        temporal_ratio: Frames per latent frame.
        native_scale: The decoder's fixed upscaling factor, or None.
        is_windowed: Whether attention is local, so that cost grows linearly with the frame.
        clip_length: Frames of the clips it was trained on, if known.
        kind: Tells shapes apart where they are JSON.
    """

    autoencoder: Autoencoder
    vae_channels: int
    hidden_size: int
    patch_size: int = 2
    patch_size_t: int | None = None
    bytes_per_element: int = 2
    spatial_ratio: int = 8
    temporal_ratio: int = 4
    native_scale: int | None = None
    is_windowed: bool = False
    clip_length: int | None = None
    kind: Literal["diffusion"] = "diffusion"

    @property
    def alignment(self) -> int:
        """Frame and tile sides are multiples of this many pixels."""
        return self.spatial_ratio * self.patch_size

    @property
    def frame_quantum(self) -> int:
        """Chunks start at multiples of this: twice the temporal ratio, the rhythm of the VAE's batches."""
        return 2 * self.temporal_ratio if self.temporal_ratio > 1 else 1

    @property
    def leading_frames(self) -> int:
        """Frames a chunk has beyond a multiple of the quantum: 1 for a causal VAE (8k + 1)."""
        return 1 if self.temporal_ratio > 1 else 0

    def chunk_frames(self, wanted: int) -> int:
        """The chunk length that `wanted` frames are rounded up to; one quantum at least."""
        return max(self.padded_frames(wanted), self.frame_quantum + self.leading_frames)

    def padded_frames(self, num_frames: int) -> int:
        """Frames after repeating the last one up to the model's rhythm."""
        return num_frames + -(num_frames - self.leading_frames) % self.frame_quantum

    def working_size(self, height: int, width: int, out_height: int, out_width: int) -> tuple[int, int]:
        """Size at which the network runs, before padding: the target, or the source times the fixed scale."""
        if self.native_scale is None:
            return out_height, out_width
        return height * self.native_scale, width * self.native_scale

    def latent_frames(self, num_frames: int) -> int:
        return -(-num_frames // self.temporal_ratio)

    def num_tokens(self, num_frames: int, height: int, width: int) -> int:
        """Video tokens of a tile, sizes in pixels."""
        frames = -(-self.latent_frames(num_frames) // (self.patch_size_t or 1))
        return frames * (height // self.alignment) * (width // self.alignment)

    def transformer_bytes(self, num_frames: int, height: int, width: int, *, batch: int = 1) -> int:
        """Activation peak of one transformer call."""
        per_channel = WINDOW_TOKEN_ELEMENTS if self.is_windowed else TOKEN_ELEMENTS
        tokens = self.num_tokens(num_frames, height, width)
        return batch * tokens * self.hidden_size * per_channel * self.bytes_per_element

    def vae_bytes(self, height: int, width: int) -> int:
        """Activation peak of decoding (the larger of the two directions) one tile, sizes in pixels."""
        if self.autoencoder == "cogvideox":
            return height * width * self.vae_channels * DECODE_ELEMENTS * self.bytes_per_element
        scale = self.native_scale or 1
        pixels = height * width * SPACE_TO_DEPTH_BATCH
        hidden = pixels // scale**2 * self.vae_channels * SPACE_TO_DEPTH_ELEMENTS * self.bytes_per_element
        return hidden + pixels * 3 * 3 * 4  # base, residual and their sum in float32

    def chunk_bytes(self, num_frames: int, height: int, width: int) -> int:
        """Buffers that live through a whole chunk."""
        return num_frames * height * width * 3 * CHUNK_BYTES

    @classmethod
    def of(
        cls, vae: Any, transformer: Any, *, is_windowed: bool = False, clip_length: int | None = None
    ) -> DiffusionShape:
        """Reads the shape off loaded modules (configurations and dtype only)."""
        config, vae_config = transformer.config, vae.config
        is_cogvideox = hasattr(vae_config, "block_out_channels")
        return cls(
            autoencoder="cogvideox" if is_cogvideox else "space_to_depth",
            vae_channels=vae_config.block_out_channels[0] if is_cogvideox else vae_config.channels,
            hidden_size=config.num_attention_heads * config.attention_head_dim,
            patch_size=config.patch_size,
            patch_size_t=config.patch_size_t,
            bytes_per_element=transformer.dtype.itemsize,
            spatial_ratio=(
                2 ** (len(vae_config.block_out_channels) - 1)
                if is_cogvideox
                else vae_config.spatial_compression_ratio
            ),
            temporal_ratio=int(vae_config.temporal_compression_ratio) if is_cogvideox else 1,
            native_scale=None if is_cogvideox else vae_config.scale,
            is_windowed=is_windowed,
            clip_length=clip_length,
        )
