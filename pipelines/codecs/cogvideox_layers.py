"""Layers of CogVideoX's VAE with less memory, less work and the same bits.

What is saved, each bit-identical on the CPU in float32 and bfloat16 (tests/pipelines/codecs):

* 1x1x1 convolutions keep no cache. diffusers clones their whole input (`[-1 + 1:]` is `[0:]`) and never reads
  it: 21 % of the decoder's peak.
* The spatial norm's 1x1x1 convolutions run on the latents, and their result is broadcast over the pixels that
  share a latent, instead of upsampling the latents or the result: nearest upsampling commutes with a
  pointwise map.
* The activation works in place or straight into the causally padded input of the next convolution.
* Caches of the batch before are taken out where they are read, so that only one set is alive.
* Convolutions over large inputs are split in time into pieces that are never shorter than the kernel.
  diffusers' split makes pieces of two frames and then fails above 1.7 Mpx (decode) and 3.4 Mpx (encode).
  Where even the shortest piece is beyond a 32-bit index, it goes in bands of rows.
* Norms over more elements than a kernel's 32-bit index reaches are split by groups, which are independent.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# diffusers splits above 2 GiB of 2-byte elements because cuDNN then falls back to slow kernels; same limit.
MAX_CONV_ELEMENTS = 2**30
MAX_INDEX = 2**31 - 1

ConvCache = dict[str, Any]


class CausalConv3d(nn.Module):
    """A CogVideoX causal convolution that caches only what it will read.

    Args:
        conv: The convolution, without padding in time and with stride 1 there.
        max_elements: Largest input (with its leading frames) or output that goes through the kernel in one
            call.
    """

    def __init__(self, conv: nn.Conv3d, *, max_elements: int = MAX_CONV_ELEMENTS) -> None:
        super().__init__()
        self.conv = conv
        self.max_elements = max_elements
        # Leaves room for the two rows that bands share with their neighbours.
        self.max_index = MAX_INDEX * 15 // 16

    @property
    def reach(self) -> int:
        """Frames before a frame that its result depends on."""
        return self.conv.kernel_size[0] - 1

    def forward(self, inputs: Tensor, conv_cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Convolves (B, C, F, H, W); the cache is the end of the batch before, `reach` frames."""
        if self.reach == 0:
            return self.convolve(inputs), None
        head = [conv_cache] if conv_cache is not None else [inputs[:, :, :1]] * self.reach
        return self.convolve_padded(torch.cat([*head, inputs], dim=2))

    def convolve_padded(self, padded: Tensor) -> tuple[Tensor, Tensor | None]:
        """Convolves (B, C, reach + F, H, W), and gives the cache for the next batch."""
        cache = padded[:, :, padded.shape[2] - self.reach :].clone() if self.reach else None
        return self.convolve(padded), cache

    def convolve(self, inputs: Tensor) -> Tensor:
        """The plain convolution, in pieces of time where the input is large."""
        num_frames = inputs.shape[2] - self.reach
        widening = max(1.0, self.conv.out_channels / self.conv.in_channels)
        per_frame = int(widening * inputs.numel()) // inputs.shape[2]
        if per_frame * inputs.shape[2] <= self.max_elements or num_frames == 1:
            return self._kernel(inputs)
        step = max(1, self.max_elements // per_frame - self.reach)
        output: Tensor | None = None
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            piece = self._kernel(inputs[:, :, start : stop + self.reach])
            if output is None:
                output = piece.new_empty(*piece.shape[:2], num_frames, *piece.shape[3:])
            output[:, :, start:stop] = piece
        assert output is not None
        return output

    def _kernel(self, inputs: Tensor) -> Tensor:
        # Not self.conv(...): diffusers' subclass would split the input itself. All of the VAE's 3-D
        # convolutions pass here, so a workaround for a cuDNN that takes too much memory has one place.
        num_bands = -(-inputs.numel() // self.max_index)
        if num_bands > 1 and self.conv.padding[1] == 1:
            return self._in_bands(inputs, num_bands)
        return F.conv3d(inputs, self.conv.weight, self.conv.bias, self.conv.stride, self.conv.padding)

    def _in_bands(self, inputs: Tensor, num_bands: int) -> Tensor:
        """A 3x3x3 convolution in bands of rows, each with the rows above and below it."""
        height = inputs.shape[3]
        ends = [height * (index + 1) // num_bands for index in range(num_bands)]
        bands = []
        for top, bottom in zip([0, *ends[:-1]], ends, strict=True):
            rows = inputs[:, :, :, max(top - 1, 0) : bottom + 1]
            rows = F.pad(rows, (0, 0, int(top == 0), int(bottom == height)))
            bands.append(F.conv3d(rows, self.conv.weight, self.conv.bias, padding=(0, 0, 1)))
        return torch.cat(bands, dim=3)


class LatentResolutionNorm(nn.Module):
    """CogVideoX's spatial norm, norm(f) * y(z) + b(z), with y and b computed at the latents' resolution.

    Args:
        norm: The group norm of the features.
        conv_y: Pointwise map of the latents to the gain.
        conv_b: Pointwise map of the latents to the bias.
        max_elements: As for `CausalConv3d`.
    """

    def __init__(
        self,
        norm: nn.GroupNorm,
        conv_y: nn.Conv3d,
        conv_b: nn.Conv3d,
        *,
        max_elements: int = MAX_CONV_ELEMENTS,
    ) -> None:
        super().__init__()
        self.norm_layer = norm
        self.conv_y = CausalConv3d(conv_y, max_elements=max_elements)
        self.conv_b = CausalConv3d(conv_b, max_elements=max_elements)

    def forward(self, f: Tensor, zq: Tensor, conv_cache: ConvCache | None = None) -> tuple[Tensor, ConvCache]:
        """Normalises f (B, C, F, H, W) with the latents zq (B, Z, t, h, w)."""
        gain, bias = self.conv_y.convolve(zq), self.conv_b.convolve(zq)
        normed = self.norm_layer(f)
        for part, part_gain, part_bias in _sharing_latents(normed, gain, bias):
            # In place: the normalised features are ours, and this is the largest tensor of the decoder.
            part.mul_(part_gain).add_(part_bias)
        return normed, {}


def _sharing_latents(f: Tensor, *latents: Tensor) -> list[tuple[Tensor, ...]]:
    """Views of f, and tensors that broadcast over them, in which frames and rows of a latent have own axes.

    The first frame of an odd batch stands for itself alone, as the VAE's upsampling has it.
    """
    # Columns are repeated: kernels need the last axis in one piece. That is 1 / 32 of f at full resolution.
    wide = [F.interpolate(z, size=(*z.shape[2:4], f.shape[4])) for z in latents]
    if f.shape[2] > 1 and f.shape[2] % 2 == 1:
        return [
            _broadcast(f[:, :, :1], *(z[:, :, :1] for z in wide)),
            _broadcast(f[:, :, 1:], *(z[:, :, 1:] for z in wide)),
        ]
    return [_broadcast(f, *wide)]


def _broadcast(f: Tensor, *wide: Tensor) -> tuple[Tensor, ...]:
    size, small = f.shape[2:4], wide[0].shape[2:4]
    if any(large % part for large, part in zip(size, small, strict=True)):
        return f, *(F.interpolate(z, size=f.shape[2:]) for z in wide)
    shape = [side for large, part in zip(size, small, strict=True) for side in (part, large // part)]
    # torch leaves Tensor.unflatten untyped.
    return f.unflatten(3, shape[2:]).unflatten(2, shape[:2]), *(  # type: ignore[no-untyped-call]
        z[:, :, :, None, :, None] for z in wide
    )


def group_norm(norm: nn.GroupNorm, x: Tensor, *, max_elements: int = MAX_INDEX) -> Tensor:
    """Group norm of (B, C, ...), in sets of groups where x has more elements than a 32-bit index reaches."""
    if x.numel() <= max_elements or norm.num_groups == 1:
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    sets = min(-(-x.numel() // max_elements), norm.num_groups)
    while norm.num_groups % sets:
        sets += 1
    output = torch.empty_like(x)
    step = norm.num_channels // sets
    for start in range(0, norm.num_channels, step):
        part = slice(start, start + step)
        weight = None if norm.weight is None else norm.weight[part]
        bias = None if norm.bias is None else norm.bias[part]
        output[:, part] = F.group_norm(x[:, part], norm.num_groups // sets, weight, bias, norm.eps)
    return output


class ResnetBlock(nn.Module):
    """CogVideoX's residual block, for inference.

    Args:
        block: A `CogVideoXResnetBlock3D` without time embedding whose norms and causal convolutions have been
            replaced by those of this module.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.conv_shortcut = getattr(block, "conv_shortcut", None)

    def forward(
        self,
        inputs: Tensor,
        temb: Tensor | None = None,
        zq: Tensor | None = None,
        conv_cache: ConvCache | None = None,
    ) -> tuple[Tensor, ConvCache]:
        """Maps (B, C, F, H, W) to (B, C', F, H, W), with the cache for the next batch of frames.

        Takes what it reads out of `conv_cache`: the caches of two batches of frames would weigh a quarter of
        the decoder's peak.
        """
        cache: ConvCache = conv_cache or {}
        new_cache: ConvCache = {}  # not ConvCache(): torch.compile breaks off at it
        padded = self._activate(self.norm1, inputs, zq, self.conv1, cache.pop("conv1", None))
        hidden, new_cache["conv1"] = self.conv1.convolve_padded(padded)
        del padded
        padded = self._activate(self.norm2, hidden, zq, self.conv2, cache.pop("conv2", None))
        del hidden
        hidden, new_cache["conv2"] = self.conv2.convolve_padded(padded)
        del padded
        shortcut = inputs
        if isinstance(self.conv_shortcut, CausalConv3d):
            shortcut, new_cache["conv_shortcut"] = self.conv_shortcut(
                inputs, cache.pop("conv_shortcut", None)
            )
        elif self.conv_shortcut is not None:
            shortcut = self.conv_shortcut(inputs)
        return hidden.add_(shortcut), new_cache

    def _activate(
        self, norm: nn.Module, x: Tensor, zq: Tensor | None, conv: CausalConv3d, cache: Tensor | None
    ) -> Tensor:
        """SiLU of the normalised x, behind the frames that the convolution needs before it."""
        normed: Tensor = norm(x) if isinstance(norm, nn.GroupNorm) else norm(x, zq)[0]
        padded = normed.new_empty(*x.shape[:2], conv.reach + x.shape[2], *x.shape[3:])
        body = padded[:, :, conv.reach :]
        if normed.is_cuda and not torch.compiler.is_compiling():  # which fuses them, and has no such output
            torch.ops.aten.silu.out(normed, out=body)
        else:
            # On the CPU the ends of rows get another exponential than their vectorised middle, so the rows
            # stay as diffusers has them.
            body.copy_(F.silu(normed, inplace=True))
        padded[:, :, : conv.reach] = body[:, :, :1] if cache is None else cache
        return padded
