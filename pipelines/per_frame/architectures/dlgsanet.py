"""DLGSANet, "Lightweight Dynamic Local and Global Self-Attention Network" (arXiv 2301.02031).

Pairs of blocks: a depthwise convolution whose kernel each pixel makes for itself (MHDLSA), and attention
between channels with ReLU in place of softmax (SparseGSA). The authors' code computes the former in a CUDA
kernel; here it is a sum of shifted products, for any device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.per_frame.architectures.description import (
    RGB_MEAN,
    BuiltNetwork,
    OwnArchitecture,
    StateDict,
    count,
    has_all,
    shuffle_scale,
)

_GROUP = "deep_feature_extraction.{}.body.0.IDynamicDWConv.conv0.weight"
# Windows of the channel attention in the released options, for each scale (larger windows for larger images).
_WINDOWS = {2: 96, 3: 72, 4: 48}
_DEFAULT_WINDOW = 48


class _NormBody(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        last = features.movedim(1, -1)
        return F.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-5).movedim(-1, 1)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _NormBody(channels)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.body(features)
        return result


class GatedFeedForward(nn.Module):
    """GDFN of Restormer (arXiv 2111.09881)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(features)).chunk(2, dim=1)
        result: Tensor = self.project_out(F.gelu(gate) * value)
        return result


class DynamicConv(nn.Module):
    """A depthwise convolution with a kernel of its own at each pixel, shared by groups of channels.

    Args:
        channels: In and out.
        num_groups: Kernels for each pixel.
        kernel_size: Odd.
    """

    def __init__(self, channels: int, num_groups: int, kernel_size: int) -> None:
        super().__init__()
        self._num_groups, self._kernel_size = num_groups, kernel_size
        inner = channels // 4
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.Conv2d(inner, inner, kernel_size, padding=kernel_size // 2, groups=inner),
        )
        self.conv2 = nn.Sequential(nn.Conv2d(inner, kernel_size**2 * num_groups, 1))

    def forward(self, features: Tensor) -> Tensor:
        batch, _, height, width = features.shape
        kernels = torch.unflatten(
            self.conv2(self.conv1(features)), 1, (self._num_groups, self._kernel_size**2, 1)
        )
        padded = F.pad(features, (self._kernel_size // 2,) * 4)
        padded = torch.unflatten(padded, 1, (self._num_groups, -1))
        result = torch.zeros_like(padded[..., :height, :width])
        for tap in range(self._kernel_size**2):
            top, left = divmod(tap, self._kernel_size)
            result.addcmul_(kernels[:, :, tap], padded[..., top : top + height, left : left + width])
        return result.reshape(batch, -1, height, width)


class _DynamicMixer(nn.Module):
    def __init__(self, channels: int, num_groups: int, kernel_size: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv = DynamicConv(channels, num_groups, kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.conv1(self.conv(self.conv0(features)))
        return result


def window_starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover a length evenly; the last ends with it."""
    if length <= window:
        return [0]
    num = -(-length // window)
    step = math.ceil((length - window) / (num - 1))
    return [*(start for start in range(0, length - window, step)), length - window]


class SparseChannelAttention(nn.Module):
    """SparseGSA: channels attend to channels, over windows that are averaged where they overlap."""

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self._num_heads, self._window = num_heads, window
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(features))
        total = torch.zeros_like(features)
        hits = features.new_zeros(features.shape[-2:])
        for top in window_starts(features.shape[-2], self._window):
            for left in window_starts(features.shape[-1], self._window):
                part = ..., slice(top, top + self._window), slice(left, left + self._window)
                total[part] += self._attend(qkv[part])
                hits[part] += 1
        result: Tensor = self.project_out(total / hits)
        return result

    def _attend(self, qkv: Tensor) -> Tensor:
        query, key, value = torch.unflatten(qkv.flatten(2), 1, (3, self._num_heads, -1)).unbind(1)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
        result = F.relu(scores * self.temperature) @ value
        return torch.unflatten(result.flatten(1, 2), -1, qkv.shape[-2:])


class _LocalBlock(nn.Module):
    def __init__(self, channels: int, hidden: int, num_groups: int, kernel_size: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.IDynamicDWConv = _DynamicMixer(channels, num_groups, kernel_size)
        self.norm2 = ChannelNorm(channels)
        self.IDynamic_ffn = GatedFeedForward(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.IDynamicDWConv(self.norm1(features))
        result: Tensor = features + self.IDynamic_ffn(self.norm2(features))
        return result


class _GlobalBlock(nn.Module):
    def __init__(self, channels: int, hidden: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.norm3 = ChannelNorm(channels)
        self.restormer_attn = SparseChannelAttention(channels, num_heads, window)
        self.norm4 = ChannelNorm(channels)
        self.restormer_ffn = GatedFeedForward(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.restormer_attn(self.norm3(features))
        result: Tensor = features + self.restormer_ffn(self.norm4(features))
        return result


class _Group(nn.Module):
    def __init__(self, channels: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*blocks, nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.body(features) + features
        return result


class _Embedding(nn.Module):
    def __init__(self, image_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(image_channels, channels, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.proj(image)
        return result


class DLGSANet(nn.Module):
    """The network, with one convolution and a pixel shuffle at its end, as in all released weights."""

    mean: Tensor

    def __init__(self, image_channels: int, channels: int, groups: list[nn.Module], scale: int) -> None:
        super().__init__()
        mean = RGB_MEAN if image_channels == 3 else (0.0,) * image_channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.overlap_embed = nn.Sequential(_Embedding(image_channels, channels))
        self.deep_feature_extraction = nn.Sequential(*groups, nn.Conv2d(channels, channels, 3, padding=1))
        self.upsample = nn.Sequential(
            nn.Conv2d(channels, image_channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.overlap_embed(image - self.mean)
        result: Tensor = self.upsample(self.deep_feature_extraction(shallow) + shallow) + self.mean
        return result


def _build(state_dict: StateDict) -> BuiltNetwork:
    channels, image_channels = state_dict["overlap_embed.0.proj.weight"].shape[:2]
    scale = shuffle_scale(state_dict["upsample.0.weight"], image_channels)
    first, second = (f"deep_feature_extraction.0.body.{index}." for index in range(2))
    kernel_size = state_dict[f"{first}IDynamicDWConv.conv.conv1.1.weight"].shape[-1]
    num_groups = state_dict[f"{first}IDynamicDWConv.conv.conv2.0.weight"].shape[0] // kernel_size**2
    hidden = state_dict[f"{first}IDynamic_ffn.project_out.weight"].shape[1]
    global_hidden = state_dict[f"{second}restormer_ffn.project_out.weight"].shape[1]
    num_heads = state_dict[f"{second}restormer_attn.temperature"].shape[0]
    window = _WINDOWS.get(scale, _DEFAULT_WINDOW)

    def make_group(group: int) -> _Group:
        blocks: list[nn.Module] = []
        while f"deep_feature_extraction.{group}.body.{len(blocks)}.norm1.body.weight" in state_dict:
            blocks.append(_LocalBlock(channels, hidden, num_groups, kernel_size))
            blocks.append(_GlobalBlock(channels, global_hidden, num_heads, window))
        return _Group(channels, blocks)

    groups: list[nn.Module] = [make_group(index) for index in range(count(state_dict, _GROUP))]
    return BuiltNetwork(DLGSANet(image_channels, channels, groups, scale), state_dict, scale, image_channels)


ARCHITECTURES = (
    OwnArchitecture(
        "DLGSANet",
        has_all(
            "overlap_embed.0.proj.weight",
            _GROUP.format(0),
            "deep_feature_extraction.0.body.1.restormer_attn.temperature",
        ),
        _build,
    ),
)
