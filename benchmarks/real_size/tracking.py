"""What activations weigh and which kernels attention takes, on processors without bfloat16 units too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pipelines.memory_tracking import LiveStorages, PeakMemory

_aten = torch.ops.aten
_PRODUCTS = frozenset(
    {
        _aten.addmm.default,
        _aten.mm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten.convolution.default,
    }
)


# torch leaves dispatch modes untyped.
class ActivationTracker(LiveStorages):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made in its `with` block, in this thread, while they live.

    Args:
        use_float32_products: Compute products of bfloat16 matrices and kernels in float32, rounded to
            bfloat16. For processors without bfloat16 units, on which torch's bfloat16 convolutions are a
            thousand times slower. What that takes beside the tensors is not counted.

    Attributes:
        peak: Largest sum.
        attention_kernels: Calls of torch's attention by the name of the operator that ran.
    """

    def __init__(self, *, use_float32_products: bool = False) -> None:
        self.peak = PeakMemory()
        super().__init__(self.peak)
        self.attention_kernels: Counter[str] = Counter()
        self._use_float32_products = use_float32_products

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `LiveStorages.run`."""
        if "scaled_dot_product" in func.__name__:
            self.attention_kernels[func.__name__.split(".")[0].lstrip("_")] += 1
        if self._use_float32_products and func in _PRODUCTS and args[0].dtype == torch.bfloat16:
            return func(*tree_map(_to_float32, args), **kwargs).to(torch.bfloat16)
        return func(*args, **kwargs)


def _to_float32(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.float() if is_half else value
