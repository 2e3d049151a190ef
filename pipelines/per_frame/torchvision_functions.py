"""What spandrel takes from torchvision, where torchvision cannot be imported.

spandrel imports three names of torchvision. Builds of torchvision exist for fewer builds of torch than
spandrel runs with, and one that does not fit fails on import. The stand-ins are in `sys.modules` only while
spandrel is imported, so that nobody else takes them for torchvision.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

_PACKAGE = "torchvision"
_FUNCTIONS = "torchvision.transforms.functional"


class InterpolationMode(Enum):
    """How pixels between pixels are found."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Tensor:
    """`(tensor - mean) / std` for each channel.

    Args:
        tensor: (..., C, H, W), float.
        mean: C values, or one for all channels.
        std: As many.
        inplace: Whether the tensor itself is changed.

    Raises:
        TypeError: If the tensor is not float.
        ValueError: If a deviation is zero.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"normalize takes a float tensor, got {tensor.dtype}")
    centre, spread = (
        torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device) for values in (mean, std)
    )
    if bool((spread == 0).any()):
        raise ValueError(f"a standard deviation is zero in {tensor.dtype}: {std}")
    result = tensor if inplace else tensor.clone()
    return result.sub_(centre.reshape(-1, 1, 1)).div_(spread.reshape(-1, 1, 1))


def rotate(img: Tensor, angle: float, interpolation: InterpolationMode = InterpolationMode.NEAREST) -> Tensor:
    """Turns images about their centre, counter-clockwise; the size stays, what comes in from outside is 0.

    Args:
        img: (N, C, H, W) or (C, H, W), float.
        angle: In degrees.
        interpolation: How pixels between pixels are found.
    """
    images = img if img.ndim == 4 else img[None]
    height, width = images.shape[-2:]
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    # Where a pixel of the result comes from. The grid's units are half sides, hence the aspect ratios.
    matrix = [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
    theta = torch.tensor([matrix], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(theta.expand(images.shape[0], 2, 3), list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, mode=interpolation.value, align_corners=False)
    return turned if img.ndim == 4 else turned[0]


@contextmanager
def torchvision_or_stand_in() -> Iterator[None]:
    """Makes the names that spandrel imports importable in a `with` block, the real ones where they are."""
    if _has_torchvision():
        yield
        return
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == _PACKAGE}
    for name in before:
        del sys.modules[name]
    sys.modules.update(_stand_ins())
    try:
        yield
    finally:
        for name in _stand_ins():
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _has_torchvision() -> bool:
    try:
        importlib.import_module(_FUNCTIONS)
    except (ImportError, RuntimeError, OSError):  # a build for another torch fails in its own ways
        return False
    return True


def _stand_ins() -> dict[str, ModuleType]:
    package, transforms, functional = (
        ModuleType(name) for name in (_PACKAGE, "torchvision.transforms", _FUNCTIONS)
    )
    vars(functional).update(InterpolationMode=InterpolationMode, normalize=normalize, rotate=rotate)
    vars(transforms).update(functional=functional, __path__=[])
    vars(package).update(transforms=transforms, __path__=[])
    return {module.__name__: module for module in (package, transforms, functional)}
