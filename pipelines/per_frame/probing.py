"""What a network does not tell of itself: how far it looks, where its windows lie, what memory it takes.

All of it is measured on small images of noise, once, when a network is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.memory_tracking import peak_memory
from pipelines.per_frame.network import Network
from pipelines.planning.frame_plan import FrameShape

# Farther than this, tiles would be mostly margin.
MAX_REACH = 64
DEFAULT_MARGIN = 32
# Windows have 7 to 32 pixels a side; the multiples of 16 hold most of them.
DEFAULT_ALIGNMENT = 16
# Half sides of the images that reach is looked for in, one after the other; most networks need one.
_PROBE_HALVES = (32, 48, 80)
# Weights times pixels that the first images, and each later search, may cost: seconds on a slow core. Larger
# networks look farther than `MAX_REACH` anyway.
_FIRST_BUDGET, _BUDGET = 6.0e10, 2.0e10
# A network of windows of 2 or 4 may as well be shifted by 8.
_ALIGNMENTS = (1, 8, 16, 32, 12, 24, 7)
# Below a 16-bit step; kernels that mix neighbours (Winograd) leave rounding errors of a tenth of it.
_TOLERANCE = 3.0e-6
_BYTES_MARGIN = 1.15


@dataclass(frozen=True)
class Reach:
    """How far a network looks.

    Attributes:
        pixels: Source pixels beyond which nothing changes the output, of tiles whose borders are aligned;
            None where it is more than could be measured, as in networks with averages over the whole image.
        alignment: Shifts of the source by multiples of this shift the output and change nothing else.
    """

    pixels: int | None
    alignment: int


def measure_reach(network: Network, shape: FrameShape, *, num_weights: int) -> Reach:
    """Finds how far a network looks, up to `MAX_REACH`, and by how much its source may be shifted.

    Args:
        network: In float32 on the CPU: rounding of other dtypes and of TF32 hides what is looked for.
        shape: Its scale and the sizes it takes.
        num_weights: Bounds what large networks are asked; the answer never depends on the machine's speed.
    """
    generator = torch.Generator().manual_seed(0)
    for half in _PROBE_HALVES:
        side = max(shape.padded((2 * half, 2 * half)))
        if 3 * side**2 * num_weights > (_FIRST_BUDGET if half == _PROBE_HALVES[0] else _BUDGET):
            break
        pixels = _reach_within(network, side, shape.scale or 1, generator)
        if pixels is not None and pixels <= MAX_REACH:
            alignment = _find_alignment(network, shape, pixels, num_weights)
            if alignment is not None:
                # Pictures excite a network otherwise than noise does.
                return Reach(pixels + pixels // 4 + 1 + _off_border(alignment), alignment)
            break
    return Reach(None, math.lcm(shape.multiple, DEFAULT_ALIGNMENT))


def _reach_within(network: Network, side: int, scale: int, generator: torch.Generator) -> int | None:
    """Reach, if it is shorter than about half the side: what changes where everything beyond a corner does.

    The corner lies on a border of windows, as those of tiles do.
    """
    noise, other = (torch.rand(1, 3, side, side, generator=generator) for _ in range(2))
    output = network(noise)
    found = 0
    corner = side // 2 // DEFAULT_ALIGNMENT * DEFAULT_ALIGNMENT
    index = torch.arange(side)
    for away in (corner - index, index - corner + 1):
        distance = torch.minimum(away[:, None], away[None])  # 1 next to what changes, 0 or less where it does
        changed = _differs(output, network(torch.where(distance < 1, other, noise)))
        distance = distance.repeat_interleave(scale, 0).repeat_interleave(scale, 1).to(changed.device)
        reach = int(distance[changed].max()) if bool(changed.any()) else 0
        if reach >= int(away.max()):
            return None
        found = max(found, reach)
    return found


def _off_border(alignment: int) -> int:
    """How much farther a network with other windows may look than was measured at a multiple of 16."""
    return 0 if DEFAULT_ALIGNMENT % alignment == 0 else alignment - 1


def _find_alignment(network: Network, shape: FrameShape, reach: int, num_weights: int) -> int | None:
    """The smallest shift of the source that only shifts the output, if there is one."""
    scale, border = shape.scale or 1, reach + DEFAULT_ALIGNMENT
    unmoved: dict[int, Tensor] = {}
    cost = 0
    for step in _ALIGNMENTS:
        shift = math.lcm(step, shape.multiple)
        room = max(shift, math.lcm(_ALIGNMENTS[1], shape.multiple))  # the first two share an image
        side = max(shape.padded((2 * border + room + 8,) * 2))
        cost += (1 if side in unmoved else 2) * side**2 * num_weights
        if cost > _BUDGET:
            return None
        noise = torch.rand(1, 3, side + room, side + room, generator=torch.Generator().manual_seed(side))
        unmoved[side] = unmoved[side] if side in unmoved else network(noise[..., :side, :side])
        inside = slice((shift + border) * scale, (side - border) * scale)
        moved = slice(border * scale, (side - border - shift) * scale)
        shifted = network(noise[..., shift : shift + side, shift : shift + side])[..., moved, moved]
        if not bool(_differs(unmoved[side][..., inside, inside], shifted).any()):
            return shift
    return None


def _differs(first: Tensor, second: Tensor) -> Tensor:
    """(h, w), bool: where two outputs (1, 3, h, w) are not the same but for rounding."""
    bound = _TOLERANCE * max(1.0, float(first.abs().max()))
    return (first - second).abs().amax(dim=(0, 1)) > bound


def measure_bytes(network: Network, shape: FrameShape, device: torch.device) -> tuple[int, int]:
    """Activation bytes of a network: per source pixel, and in addition for any image.

    Args:
        network: In the dtype it will run in.
        shape: The sizes it takes.
        device: Where it runs.
    """
    pixels, peaks = zip(*_peaks(network, shape, device), strict=True)
    if pixels[0] == pixels[1]:
        slope = peaks[1] / pixels[1]
    else:
        slope = max((peaks[1] - peaks[0]) / (pixels[1] - pixels[0]), 0.0)
    fixed = max(peaks[1] - slope * pixels[1], 0.0)
    return math.ceil(slope * _BYTES_MARGIN), math.ceil(fixed * _BYTES_MARGIN)


def _peaks(network: Network, shape: FrameShape, device: torch.device) -> Iterator[tuple[int, int]]:
    """Pixels of two images, and the memory that each took."""
    base = max(shape.padded((32, 32) if device.type == "cpu" else (128, 128)))
    for side in (base, max(shape.padded((2 * base, 2 * base)))):
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
        if device.type == "cuda":
            network(image)  # workspaces and kernels that the first call makes
        with peak_memory(device) as peak:
            network(image + 0)
        yield side * side, peak.num_bytes
