"""What the planner knows of a checkpoint: its rhythm in time and space, and what its activations weigh.

Memory of activations is estimated from counts of live tensors on the real configurations (33 frames,
bfloat16, flash attention, with this package's lossless savings): the CogVideoX decoder needs 21.5-22.0 kB
per pixel of a tile and the encoder 16.2 kB, at most 10.1 and 5.3 kB for a single image, from 128x128 to 2160p
(tests/pipelines/codecs); the 1.5-5B transformer 82 kB per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from pipelines.planning.attention import FULL_ATTENTION, AttentionSettings
from pipelines.planning.patterns import TokenGrid
from pipelines.planning.slices import MAX_BATCH_FRAMES, frames_per_batch, frames_per_slice

Autoencoder = Literal["cogvideox", "space_to_depth"]

# Elements per pixel of a VAE tile and per channel of its widest-resolution layer, for one time batch with the
# convolution caches, and for a single image.
DECODE_ELEMENTS = 88
ENCODE_ELEMENTS = 66
IMAGE_DECODE_ELEMENTS = 41
IMAGE_ENCODE_ELEMENTS = 22
# Elements per token and per number of its latents, at the end of the rule: input, velocity twice, their
# products and the difference.
LATENT_ELEMENTS = 7
# Of the view of the whole frame, per token and channel of a tile's copy of it: keys, values, their rotation
# in float32, and copies by frame (5 to 12 counted). Beside it lie, for a while, the frames that are encoded.
VIEW_ELEMENTS = 12
# Rows of windows hold so many elements per token and channel: projections, rotated heads, windows, or the
# feed-forward's hidden layer twice.
ROW_ELEMENTS = 16
# Tensors that do not grow with the frame: folded and reordered weights.
FIXED_BYTES = 2**22
# Window rows of the checkpoints that there are.
WINDOW_ROWS = 8
# Bytes per token of rotary tables, their making included.
ROTARY_BYTES = 2048
# Bytes per source pixel and frame of a chunk: the frames, their levels, and these in [-1, 1].
SOURCE_BYTES = 36
# Bytes per output pixel of a slice that is finished: what was decoded, two of it, the source's, and their
# difference, twice and smoothed.
FINISH_BYTES = 84


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
        attention: Of its layers.
        head_dim: Channels of an attention head.
        clip_length: Frames of the clips it was trained on, if known.
        latent_channels: Channels of a latent pixel.
        is_streamed: Whether whole frames pass the network without a tensor of the latents' size.
        view_tokens: Of a frame of the view that tiles get of the whole frame, at most; 0 for none.
        decoder_sees_neighbours: Whether decoding a frame takes others.
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
    attention: AttentionSettings = FULL_ATTENTION
    head_dim: int = 64
    clip_length: int | None = None
    latent_channels: int = 16
    is_streamed: bool = False
    view_tokens: int = 0
    decoder_sees_neighbours: bool = True
    kind: Literal["diffusion"] = "diffusion"

    @property
    def is_per_frame(self) -> bool:
        """Whether every frame is restored by itself, wherever a chunk begins."""
        latent_frames = max(self.temporal_ratio, self.patch_size_t or 1)
        alone = latent_frames == 1 and self.attention.frames_at_once(2) == 1
        return alone and not self.decoder_sees_neighbours

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
        return prod(self.token_grid(num_frames, height, width))

    def token_grid(self, num_frames: int, height: int, width: int) -> TokenGrid:
        """Video tokens of a tile along time, height and width, sizes in pixels."""
        frames = -(-self.latent_frames(num_frames) // (self.patch_size_t or 1))
        return frames, height // self.alignment, width // self.alignment

    def keys_per_token(self, num_frames: int, height: int, width: int) -> float:
        """Keys that a query of a tile is compared with, on average; see `AttentionSettings`."""
        return self.attention.keys_per_token(self.token_grid(num_frames, height, width), self.head_dim)

    def transformer_bytes(self, num_frames: int, height: int, width: int, *, batch: int = 1) -> int:
        """Activation peak of one transformer call, and of what the rule makes of its result."""
        latents = self.latent_channels * self.patch_size**2 * (self.patch_size_t or 1)
        grid = self.token_grid(num_frames, height, width)
        tokens = prod(grid)
        elements = max(
            self.hidden_size * self.attention.live_elements(grid) + 2 * latents * tokens,
            latents * LATENT_ELEMENTS * tokens,
        )
        constant = 4 * self.attention.constant_elements(self.hidden_size, self.head_dim)
        return batch * (elements * self.bytes_per_element + constant)

    def view_bytes(self, num_frames: int, height: int, width: int, *, batch: int = 1) -> int:
        """What a view of the whole frame of this size takes beside tiles, of which so many pass at once."""
        tokens = self.num_tokens(num_frames, height, width)
        elements = (1 + batch * VIEW_ELEMENTS) * self.hidden_size * tokens
        return elements * self.bytes_per_element + 3 * 4 * num_frames * height * width

    def vae_bytes(self, height: int, width: int, *, num_frames: int = MAX_BATCH_FRAMES) -> int:
        """Activation peak of decoding (the larger of the two directions) one tile, sizes in pixels."""
        if self.autoencoder == "cogvideox":
            elements = DECODE_ELEMENTS if num_frames > 1 else IMAGE_DECODE_ELEMENTS
            return height * width * self.vae_channels * elements * self.bytes_per_element
        scale = self.native_scale or 1
        height, width = height // scale, width // scale
        pixels = height * width * min(frames_per_batch(height, width), num_frames)
        # Four maps of the decoder's width, its input and the latents'.
        return pixels * (4 * self.vae_channels + 9 * scale**2) * self.bytes_per_element

    def chunk_bytes(self, num_frames: int, height: int, width: int, *, source_pixels: int) -> int:
        """Buffers that live through a whole chunk: source, upsampled clip or fused frames, latents.

        Args:
            num_frames: Of the chunk.
            height: Of the padded frame.
            width: Of the padded frame.
            source_pixels: Of a frame of the source.
        """
        frame_bytes = 3 * (4 + self.bytes_per_element) * height * width
        return FIXED_BYTES + num_frames * (frame_bytes + SOURCE_BYTES * source_pixels)

    def finish_frames(self, num_frames: int, height: int, width: int) -> int:
        """Frames of this size that are finished at once, where nothing asks for fewer."""
        scale = self.native_scale
        decoded = frames_per_batch(height // scale, width // scale) if scale else 2 * self.frame_quantum + 1
        return min(frames_per_slice(height, width), decoded, num_frames)

    def finish_bytes(self, num_frames: int, height: int, width: int, *, finish_frames: int = 0) -> int:
        """Peak of finishing frames of this size beside what was decoded, `finish_frames` at once if not 0."""
        most = self.finish_frames(num_frames, height, width)
        return min(most, finish_frames or most) * height * width * FINISH_BYTES

    def streamed_bytes(
        self, num_frames: int, height: int, width: int, *, source_pixels: int, finish_frames: int = 0
    ) -> int:
        """Peak of whole frames that pass the network without a tensor of the latents' size."""
        grid = self.token_grid(num_frames, height, width)
        tokens = prod(grid)
        row = tokens * min(1, WINDOW_ROWS * self.alignment / height)
        row *= self.attention.frames_at_once(grid[0]) / grid[0]
        elements = (3 * tokens + ROW_ELEMENTS * row) * self.hidden_size
        transformer = int(elements * self.bytes_per_element) + tokens * ROTARY_BYTES
        kept = tokens * self.hidden_size * self.bytes_per_element
        decoder = kept + max(
            self.vae_bytes(height, width, num_frames=num_frames),
            self.finish_bytes(num_frames, height, width, finish_frames=finish_frames),
        )
        return FIXED_BYTES + num_frames * SOURCE_BYTES * source_pixels + max(transformer, decoder)

    @classmethod
    def of(
        cls,
        vae: Any,
        transformer: Any,
        *,
        attention: AttentionSettings | None = None,
        clip_length: int | None = None,
        view_tokens: int = 0,
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
            latent_channels=config.in_channels,
            attention=attention or FULL_ATTENTION,
            head_dim=config.attention_head_dim,
            clip_length=clip_length,
            view_tokens=view_tokens,
            decoder_sees_neighbours=is_cogvideox or vae_config.num_lq_frames > 1,
        )
