"""Resampling layers of CogVideoX's VAE with less memory, less work and the same bits.

Both go in pieces of a few frames. Where upsampling doubles time, both copies of a frame have one convolution;
downsampling halves time without moving it to the last axis and back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.codecs.cogvideox_layers import MAX_CONV_ELEMENTS, MAX_INDEX

# Enough work for one kernel, and small beside the frames of a batch.
MAX_UPSAMPLED_ELEMENTS = 2**25


class Upsample(nn.Module):
    """CogVideoX's upsampling: nearest by 2, in time too or in space alone, then a convolution of each frame.

    Args:
        conv: 3x3, stride 1.
        compress_time: Whether time is doubled; the first frame of an odd batch stays single.
        max_elements: Largest upsampled input that goes through the kernel in one call, unless
            `MAX_UPSAMPLED_ELEMENTS` is less.
    """

    def __init__(
        self, conv: nn.Conv2d, *, compress_time: bool, max_elements: int = MAX_CONV_ELEMENTS
    ) -> None:
        super().__init__()
        self.conv = conv
        self.compress_time = compress_time
        self.max_elements = min(max_elements, MAX_UPSAMPLED_ELEMENTS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (B, C, F, H, W) to (B, C', F', 2H, 2W)."""
        batch_size, _, num_frames = inputs.shape[:3]
        frames = inputs.transpose(1, 2)
        copies = self._copies(num_frames)
        output: Tensor | None = None
        for start, stop in frame_pieces(num_frames, 4 * inputs.numel() // num_frames, self.max_elements):
            piece = F.interpolate(frames[:, start:stop].flatten(0, 1), scale_factor=2.0)
            piece = self.conv(piece).unflatten(0, (batch_size, -1)).transpose(1, 2)
            if output is None:
                output = piece.new_empty(*piece.shape[:2], sum(copies), *piece.shape[3:])
            # Both copies of a frame have the same neighbours in space, so one convolution serves them.
            position = sum(copies[:start])
            for index in range(stop - start):
                num_copies = copies[start + index]
                output[:, :, position : position + num_copies] = piece[:, :, index : index + 1]
                position += num_copies
        assert output is not None
        return output

    def _copies(self, num_frames: int) -> list[int]:
        """How often each frame appears in the result."""
        if not self.compress_time:
            return [1] * num_frames
        return [1 if index == 0 and num_frames % 2 else 2 for index in range(num_frames)]


class Downsample(nn.Module):
    """CogVideoX's downsampling: the mean of two frames, or space alone, then a convolution of each frame.

    Args:
        conv: 3x3, stride 2; rows and columns of zeros are added below and to the right.
        compress_time: Whether time is halved; the first frame of an odd batch stays single.
        max_elements: Largest input that goes through the kernel in one call.
    """

    def __init__(
        self, conv: nn.Conv2d, *, compress_time: bool, max_elements: int = MAX_CONV_ELEMENTS
    ) -> None:
        super().__init__()
        self.conv = conv
        self.compress_time = compress_time
        self.max_elements = max_elements

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (B, C, F, H, W) to (B, C', F', H / 2, W / 2)."""
        frames = self._halve_time(inputs) if self.compress_time else inputs
        batch_size, _, num_frames = frames.shape[:3]
        pieces = []
        for start, stop in frame_pieces(num_frames, frames.numel() // num_frames, self.max_elements):
            padded = F.pad(frames[:, :, start:stop].transpose(1, 2).flatten(0, 1), (0, 1, 0, 1))
            pieces.append(self.conv(padded).unflatten(0, (batch_size, -1)).transpose(1, 2))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)

    def _halve_time(self, inputs: Tensor) -> Tensor:
        num_single = inputs.shape[2] % 2
        # Rounded once, as a pooling kernel does: in half precision the sum would be rounded before.
        pairs = inputs[:, :, num_single::2].float().add_(inputs[:, :, num_single + 1 :: 2])
        means = pairs.div_(2).to(inputs.dtype)
        return torch.cat([inputs[:, :, :1], means], dim=2) if num_single else means


def frame_pieces(num_frames: int, frame_elements: int, max_elements: int) -> list[tuple[int, int]]:
    """Ranges of frames that go through a kernel together.

    Never a single frame unless three (an odd number goes in twos and a three) have more elements than a
    32-bit index reaches: for a batch of one the CPU has kernels of its own, which round otherwise.
    """
    step = max(1 if 3 * frame_elements > MAX_INDEX else 2, max_elements // frame_elements)
    count = max(1, num_frames // step if step > 1 else num_frames)
    ends = [num_frames * (index + 1) // count for index in range(count)]
    return list(zip([0, *ends[:-1]], ends, strict=True))
