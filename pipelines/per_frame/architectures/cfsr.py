"""CFSR, "Transforming Image Super-Resolution: A ConvFormer-based Efficient Approach" (arXiv 2401.05633).

Convolutions only. The edge-preserving branches of training (Sobel and Laplace kernels beside a 3x3
convolution) are sums of linear maps; where a state dict still has them, they are added up when it is loaded.
"""

from __future__ import annotations

import torch
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

_EDGE_KERNELS = ("sobel_x", "sobel_y", "laplacian")


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        last = features.movedim(1, -1)
        return nn.functional.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-6).movedim(-1, 1)


class _DepthwiseConv(nn.Module):
    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.lkb_reparam = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.lkb_reparam(features)
        return result


class ConvMixer(nn.Module):
    """The large-kernel feature mixer (LKFM): a depthwise convolution in attention's place."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.a = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.GELU(), _DepthwiseConv(channels, kernel_size)
        )
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        normed = self.norm(features)
        result: Tensor = self.proj(self.a(normed) * self.v(normed))
        return result


class EdgeFeedForward(nn.Module):
    """The edge-preserving feed-forward network (EFN), its branches in one kernel."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.pos = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.act = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.act(self.fc1(self.norm(features)))
        result: Tensor = self.fc2(hidden + self.act(self.pos(hidden)))
        return result


class _Block(nn.Module):
    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.attn = ConvMixer(channels, kernel_size)
        self.mlp = EdgeFeedForward(channels, hidden)
        self.layer_scale_1 = nn.Parameter(torch.ones(channels))
        self.layer_scale_2 = nn.Parameter(torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.layer_scale_1[:, None, None] * self.attn(features)
        result: Tensor = features + self.layer_scale_2[:, None, None] * self.mlp(features)
        return result


class _Layer(nn.Module):
    def __init__(self, channels: int, hidden: int, kernel_size: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Block(channels, hidden, kernel_size) for _ in range(depth)))
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.blocks(features)
        result: Tensor = self.conv(mixed) + mixed
        return result


class CFSR(nn.Module):
    """The network.

    Args:
        image_channels: Of input and output.
        channels: Inside.
        hidden: Of the feed-forward networks.
        kernel_size: Of the mixers.
        depths: Blocks of each layer.
        scale: Of the pixel shuffle; None for restoration at the same size.
    """

    mean: Tensor

    def __init__(
        self,
        image_channels: int,
        channels: int,
        hidden: int,
        kernel_size: int,
        depths: list[int],
        scale: int | None,
    ) -> None:
        super().__init__()
        mean = RGB_MEAN if image_channels == 3 else (0.0,) * image_channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.layers = nn.Sequential(*(_Layer(channels, hidden, kernel_size, depth) for depth in depths))
        self.norm = ChannelNorm(channels)
        self.conv_after_body = nn.Conv2d(channels, channels, 3, padding=1)
        self._is_restorer = scale is None
        if scale is None:
            self.conv_last = nn.Conv2d(channels, image_channels, 3, padding=1)
        else:
            self.upsample = nn.Sequential(
                nn.Conv2d(channels, image_channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)
            )

    def forward(self, image: Tensor) -> Tensor:
        centred = image - self.mean
        shallow = self.conv_first(centred)
        deep = self.conv_after_body(self.norm(self.layers(shallow))) + shallow
        restored: Tensor = centred + self.conv_last(deep) if self._is_restorer else self.upsample(deep)
        return restored + self.mean


def merge_edge_kernels(state_dict: StateDict) -> StateDict:
    """Adds the branches of training to the convolution beside them."""
    merged = dict(state_dict)
    for prefix in [key.removesuffix("scale_sobel_x") for key in state_dict if key.endswith(".scale_sobel_x")]:
        for kernel in _EDGE_KERNELS:
            weight = merged.pop(f"{prefix}scale_{kernel}") * merged.pop(f"{prefix}mask_{kernel}")
            merged[f"{prefix}pos.weight"] = merged[f"{prefix}pos.weight"] + weight
            merged[f"{prefix}pos.bias"] = merged[f"{prefix}pos.bias"] + merged.pop(f"{prefix}{kernel}_bias")
    return merged


def _build(state_dict: StateDict) -> BuiltNetwork:
    channels, image_channels = state_dict["conv_first.weight"].shape[:2]
    num_layers = count(state_dict, "layers.{}.conv.weight")
    depths = [count(state_dict, f"layers.{layer}.blocks.{{}}.layer_scale_1") for layer in range(num_layers)]
    upsample = state_dict.get("upsample.0.weight")
    scale = None if upsample is None else shuffle_scale(upsample, image_channels)
    network = CFSR(
        image_channels,
        channels,
        hidden=state_dict["layers.0.blocks.0.mlp.fc1.weight"].shape[0],
        kernel_size=state_dict["layers.0.blocks.0.attn.a.2.lkb_reparam.weight"].shape[-1],
        depths=depths,
        scale=scale,
    )
    return BuiltNetwork(network, merge_edge_kernels(state_dict), scale or 1, image_channels)


ARCHITECTURES = (
    OwnArchitecture(
        "CFSR",
        has_all(
            "conv_first.weight",
            "layers.0.blocks.0.attn.a.2.lkb_reparam.weight",
            "layers.0.blocks.0.mlp.pos.weight",
        ),
        _build,
    ),
)
