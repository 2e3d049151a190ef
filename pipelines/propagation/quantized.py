"""The restorer's body in 8 bits, for processors that multiply bytes faster than floats.

Weights have one scale per output channel, the inputs of each convolution one range, which was measured on
samples of the training when the checkpoint was made (`measure_ranges`): one measured on the frames themselves
would differ from tile to tile. Results of convolutions, states, entry and exit stay float32. Post-training
quantisation as in Krishnamoorthi 2018 (arXiv 1806.08342); oneDNN multiplies.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import fmean
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.propagation.layers import SLOPE, ResidualBlock
from pipelines.propagation.network import PropagationNet

Ranges = Mapping[str, tuple[float, float]]
"""Least and largest input of each convolution of the body, by its name."""

# Of the measured ranges: what lies beyond is rare, and finer steps are worth more. On held-out clips 8 bits
# lost 0.036 dB with 1.1, 0.019 with 0.85, 0.020 with 0.55.
_KEPT_RANGE = 0.85
# Of 7 bits: processors without VNNI add two products in 16 bits, where 255 * 127 twice is cut off.
_LARGEST_CODE = 127
_X86 = ("x86_64", "AMD64")


def can_quantize(device: torch.device) -> bool:
    """Whether 8 bits are measured to be faster than float32 there: x86 processors."""
    return device.type == "cpu" and platform.machine() in _X86 and torch._C._has_mkldnn


def body_convolutions(network: PropagationNet) -> Iterator[tuple[str, nn.Conv2d]]:
    """Those that run in 8 bits, with their names; nearly all of the arithmetic."""
    for name, layer in network.named_modules():
        if isinstance(layer, ResidualBlock):
            yield f"{name}.conv1", layer.conv1
            yield f"{name}.conv2", layer.conv2
    yield "conv_mid", network.conv_mid


def measure_ranges(
    network: PropagationNet, runs: Iterable[Callable[[], object]]
) -> dict[str, tuple[float, float]]:
    """What the convolutions of the body are given: least and largest values, means over the runs.

    Values beyond are cut off. With the extremes of all runs, hard edges on a few samples cost every picture
    twice as much precision.

    Args:
        network: In float32.
        runs: Each lets the network restore something.
    """
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in body_convolutions(network)}
    hooks = [
        layer.register_forward_pre_hook(_looker(seen, name)) for name, layer in body_convolutions(network)
    ]
    try:
        for run in runs:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: (fmean(low for low, _ in found), fmean(high for _, high in found))
        for name, found in seen.items()
    }


def _looker(
    seen: dict[str, list[tuple[float, float]]], name: str
) -> Callable[[nn.Module, tuple[Tensor]], None]:
    def look(_: nn.Module, given: tuple[Tensor]) -> None:
        low, high = (float(value) for value in given[0].detach().aminmax())
        seen[name].append((min(low, 0.0), max(high, 0.0)))

    return look


def quantize_body(network: PropagationNet, ranges: Ranges) -> None:
    """Replaces the convolutions of the body, in place; the network restores without gradients from then on.

    Args:
        network: In float32, on a CPU.
        ranges: Of every convolution of the body.

    Raises:
        KeyError: If one has no range.
    """
    convolutions = {name: Int8Conv(layer, *ranges[name]) for name, layer in body_convolutions(network)}
    for name, block in list(network.named_modules()):
        if isinstance(block, ResidualBlock):
            parent, _, last = name.rpartition(".")
            pair = convolutions[f"{name}.conv1"], convolutions[f"{name}.conv2"]
            setattr(network.get_submodule(parent), last, Int8Block(*pair))
    network.conv_mid = cast(nn.Conv2d, convolutions["conv_mid"])


class Int8Conv(nn.Module):
    """A 3x3 convolution that repeats the border, from float32 to float32.

    Args:
        conv: What it stands for.
        low: The least input, at most 0; less is cut off.
        high: The largest input, at least 0.
    """

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self._weight_scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / 127
        self._weight_zeros = torch.zeros(len(weight), dtype=torch.int32)
        codes = (weight / self._weight_scales[:, None, None, None]).round().to(torch.int8)
        self._scale = max((high - low) * _KEPT_RANGE, 1e-6) / _LARGEST_CODE
        self._zero = min(max(round(-low * _KEPT_RANGE / self._scale), 0), _LARGEST_CODE)
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._weight = torch.ops.onednn.qconv_prepack(
            codes, self._weight_scales, self._scale, self._zero, [1, 1], [0, 0], [1, 1], 1
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h, w)."""
        codes = F.pad(self._encode(x), (1, 1, 1, 1), mode="replicate")
        found: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes, self._scale, self._zero,
            self._weight, self._weight_scales, self._weight_zeros, self._bias,
            [1, 1], [0, 0], [1, 1], 1,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return found

    def _encode(self, x: Tensor) -> Tensor:
        """Bytes, the nearest ones: converting cuts off what is behind the point."""
        return torch.add(self._zero + 0.5, x, alpha=1 / self._scale).clamp_(0, _LARGEST_CODE).to(torch.uint8)


class Int8Block(nn.Module):
    """x + conv(act(conv(x))), both in 8 bits.

    Args:
        conv1: The first convolution.
        conv2: The second.
    """

    def __init__(self, conv1: Int8Conv, conv2: Int8Conv) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv1, conv2

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.leaky_relu_(self.conv1(x), SLOPE)
        return cast(Tensor, self.conv2(hidden)).add_(x)
