"""What a module here tells of its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

StateDict = Mapping[str, Tensor]
RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Of the DIV2K training set, as EDSR and its descendants subtract it."""


@dataclass(frozen=True)
class BuiltNetwork:
    """A network of the sizes that a state dict has; the weights are not loaded yet.

    Attributes:
        network: (1, C, h, w) to (1, C, h * scale, w * scale), nominally [0, 1].
        state_dict: What it loads, with nothing missing or left over.
        scale: Of the output.
        channels: Of input and output.
        multiple: Sides of the input are multiples of it.
        minimum: Shortest side of the input.
        is_half_good: Whether it may run in float16 and bfloat16.
    """

    network: nn.Module
    state_dict: StateDict
    scale: int
    channels: int
    multiple: int = 1
    minimum: int = 0
    is_half_good: bool = True


@dataclass(frozen=True)
class OwnArchitecture:
    """An architecture.

    Attributes:
        name: As its paper calls it.
        detect: Whether a state dict is one of its.
        build: Makes the network; a KeyError, ValueError or RuntimeError if it is another variant.
    """

    name: str
    detect: Callable[[StateDict], bool]
    build: Callable[[StateDict], BuiltNetwork]


def has_all(*keys: str) -> Callable[[StateDict], bool]:
    """A test for tensors of these names."""
    return lambda state_dict: all(key in state_dict for key in keys)


def count(state_dict: StateDict, key: str) -> int:
    """How many of `key.format(0)`, `key.format(1)`, ... there are without a gap."""
    num = 0
    while key.format(num) in state_dict:
        num += 1
    return num


def shuffle_scale(conv: Tensor, channels: int) -> int:
    """Factor of a pixel shuffle, from the weight (C * factor^2, ...) before it.

    Raises:
        ValueError: If there is none.
    """
    scale = math.isqrt(conv.shape[0] // channels)
    if scale**2 * channels != conv.shape[0]:
        raise ValueError(f"{conv.shape[0]} channels cannot be shuffled to {channels}")
    return scale
