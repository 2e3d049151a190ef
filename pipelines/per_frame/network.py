"""A network that spandrel has loaded, as a function of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]
"""(1, 3, h, w) to (1, 3, h * scale, w * scale), float32, nominally [0, 1] but not clamped, in sizes that the
network takes."""


def as_network(descriptor: Any, *, use_autocast: bool = False) -> Network:
    """The function of a spandrel `ImageModelDescriptor`, in the dtype and on the device it is on now.

    The descriptor's own call clamps, which hides from a measurement what a network of any range depends on.

    Args:
        descriptor: The descriptor.
        use_autocast: Whether operations that meet other dtypes than the network's get its dtype.
    """

    @torch.inference_mode()
    def network(image: Tensor) -> Tensor:
        device, dtype = descriptor.device, descriptor.dtype
        # Some architectures change their input in place.
        given = image.to(device, dtype, copy=True)
        with torch.autocast(device.type, dtype, enabled=use_autocast):
            output: Tensor = descriptor._call_fn(descriptor.model, given)
        return output.float()

    return network
