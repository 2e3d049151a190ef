"""IMDN, "Lightweight Image Super-Resolution with Information Multi-distillation Network" (arXiv 1909.11856).

Four variants with released weights: IMDN (x2, x3, x4), IMDN_AS (for images enlarged beforehand, at a
quarter of the sides inside), IMDN_RTC and IMDN_RTE (real time; RTE works at half the sides). Names are the
released state dicts'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.per_frame.architectures.description import (
    BuiltNetwork,
    OwnArchitecture,
    StateDict,
    count,
    has_all,
    shuffle_scale,
)

_SLOPE = 0.05
_NUM_BLOCKS = 6


class ContrastAttention(nn.Module):
    """CCA: channels weighted by their mean and standard deviation over the image."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        weights: Tensor = self.conv_du(variance.sqrt() + mean)
        return features * weights


class DistillationBlock(nn.Module):
    """IMDB: each convolution puts a quarter of its channels aside and hands the rest on.

    Args:
        channels: In and out; a quarter of them is what is put aside.
        steps: (in, out) channels of each convolution; the last puts aside all it makes.
        slope: Of the activation, for negative values.
        has_attention: Whether CCA weights what was put aside.
        has_bias: Whether convolutions have one.
        activates_last: Whether the last convolution is activated as well.
    """

    def __init__(
        self,
        channels: int,
        steps: Sequence[tuple[int, int]],
        *,
        slope: float = _SLOPE,
        has_attention: bool = False,
        has_bias: bool = True,
        activates_last: bool = False,
    ) -> None:
        super().__init__()
        self._kept, self._slope, self._activates_last = channels // 4, slope, activates_last
        self._names = [f"c{index}" for index in range(1, len(steps) + 2)]
        for name, (given, made) in zip(self._names, steps, strict=False):
            self.add_module(name, nn.Conv2d(given, made, 3, padding=1, bias=has_bias))
        self.add_module(self._names[-1], nn.Conv2d(self._kept * len(steps), channels, 1, bias=has_bias))
        self.cca = ContrastAttention(self._kept * len(steps)) if has_attention else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        *steps, fusion = (self.get_submodule(name) for name in self._names)
        rest, aside = features, []
        for step in steps[:-1]:
            made = F.leaky_relu(step(rest), self._slope)
            aside.append(made[:, : self._kept])
            rest = made[:, self._kept :]
        last = steps[-1](rest)
        aside.append(F.leaky_relu(last, self._slope) if self._activates_last else last)
        result: Tensor = fusion(self.cca(torch.cat(aside, dim=1))) + features
        return result


def _four_steps(channels: int, *, has_attention: bool) -> DistillationBlock:
    kept = channels // 4
    rest = channels - kept
    steps = [(channels, channels), (rest, channels), (rest, channels), (rest, kept)]
    return DistillationBlock(channels, steps, has_attention=has_attention)


def _six_steps(channels: int) -> DistillationBlock:
    kept = channels // 4
    rest = channels - kept
    steps = [
        (channels, channels),
        (rest, channels),
        (rest, channels),
        (rest, rest),
        (rest - kept, rest - kept),
        (kept, kept),
    ]
    return DistillationBlock(channels, steps, slope=0.0, has_bias=False, activates_last=True)


def _upsampler(channels: int, out_channels: int, factor: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out_channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]


class IMDN(nn.Module):
    """The paper's network.

    Args:
        image_channels: Of input and output.
        channels: Inside.
        factor: Of the pixel shuffle.
        is_adaptive: IMDN_AS: two strides of two come first.
    """

    def __init__(self, image_channels: int, channels: int, factor: int, *, is_adaptive: bool) -> None:
        super().__init__()
        if is_adaptive:
            self.fea_conv: nn.Module = nn.Sequential(
                nn.Conv2d(image_channels, channels, 3, stride=2, padding=1),
                nn.LeakyReLU(_SLOPE),
                nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            )
        else:
            self.fea_conv = nn.Conv2d(image_channels, channels, 3, padding=1)
        for index in range(1, _NUM_BLOCKS + 1):
            self.add_module(f"IMDB{index}", _four_steps(channels, has_attention=True))
        self.c = nn.Sequential(nn.Conv2d(channels * _NUM_BLOCKS, channels, 1), nn.LeakyReLU(_SLOPE))
        self.LR_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = nn.Sequential(*_upsampler(channels, image_channels, factor))

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.fea_conv(image)
        results = [shallow]
        for index in range(1, _NUM_BLOCKS + 1):
            results.append(self.get_submodule(f"IMDB{index}")(results[-1]))
        deep = self.LR_conv(self.c(torch.cat(results[1:], dim=1)))
        result: Tensor = self.upsampler(deep + shallow)
        return result


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.sub = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.sub(features)
        return result


class RealTimeIMDN(nn.Module):
    """IMDN_RTC: blocks without attention, one after the other."""

    def __init__(self, image_channels: int, channels: int, num_blocks: int, scale: int) -> None:
        super().__init__()
        blocks = (_four_steps(channels, has_attention=False) for _ in range(num_blocks))
        self.model = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1),
            _Residual(*blocks, nn.Conv2d(channels, channels, 1)),
            *_upsampler(channels, image_channels, scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.model(image)
        return result


class HalfSizeIMDN(nn.Module):
    """IMDN_RTE: at half the sides inside."""

    def __init__(self, image_channels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.fea_conv = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
        )
        for index in range(1, _NUM_BLOCKS + 1):
            self.add_module(f"block{index}", _six_steps(channels))
        self.LR_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.upsampler = nn.Sequential(*_upsampler(channels, image_channels, factor))

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.fea_conv(image)
        deep = shallow
        for index in range(1, _NUM_BLOCKS + 1):
            deep = self.get_submodule(f"block{index}")(deep)
        result: Tensor = self.upsampler(self.LR_conv(deep) + shallow)
        return result


def _build(state_dict: StateDict) -> BuiltNetwork:
    first = state_dict["fea_conv.0.weight" if _is_adaptive(state_dict) else "fea_conv.weight"]
    channels, image_channels = first.shape[:2]
    factor = shuffle_scale(state_dict["upsampler.0.weight"], image_channels)
    shrink = 4 if _is_adaptive(state_dict) else 1
    network = IMDN(image_channels, channels, factor, is_adaptive=_is_adaptive(state_dict))
    return BuiltNetwork(network, state_dict, factor // shrink, image_channels, multiple=shrink)


def _is_adaptive(state_dict: StateDict) -> bool:
    return "fea_conv.0.weight" in state_dict


def _build_real_time(state_dict: StateDict) -> BuiltNetwork:
    channels, image_channels = state_dict["model.0.weight"].shape[:2]
    scale = shuffle_scale(state_dict["model.2.weight"], image_channels)
    num_blocks = count(state_dict, "model.1.sub.{}.c1.weight")
    network = RealTimeIMDN(image_channels, channels, num_blocks, scale)
    return BuiltNetwork(network, state_dict, scale, image_channels)


def _build_half_size(state_dict: StateDict) -> BuiltNetwork:
    channels, image_channels = state_dict["fea_conv.0.weight"].shape[:2]
    factor = shuffle_scale(state_dict["upsampler.0.weight"], image_channels)
    network = HalfSizeIMDN(image_channels, channels, factor)
    return BuiltNetwork(network, state_dict, factor // 2, image_channels, multiple=2)


ARCHITECTURES = (
    OwnArchitecture("IMDN", has_all("IMDB1.c1.weight", "IMDB6.cca.conv_du.0.weight", "c.0.weight"), _build),
    OwnArchitecture(
        "IMDN_RTC",
        has_all("model.0.weight", "model.1.sub.0.c1.weight", "model.1.sub.0.c5.weight"),
        _build_real_time,
    ),
    OwnArchitecture(
        "IMDN_RTE", has_all("fea_conv.2.weight", "block1.c7.weight", "block6.c7.weight"), _build_half_size
    ),
)
