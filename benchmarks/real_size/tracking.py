"""What activations weigh, counted tensor by tensor."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

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


class ActivationTracker(TorchDispatchMode):
    """Counts the bytes of all tensors that are made in its `with` block, in this thread, while they live.

    Args:
        weights: Tensors that are there already and do not count, nor do views of them.
        use_float32_products: Compute products of bfloat16 matrices and kernels in float32, rounded to
            bfloat16. For processors without bfloat16 units, on which torch's bfloat16 convolutions are a
            thousand times slower. What that takes beside the tensors is not counted.

    Attributes:
        peak_bytes: Largest sum.
        attention_kernels: Calls of torch's attention by the name of the operator that ran.
    """

    def __init__(self, weights: Iterable[Tensor] = (), *, use_float32_products: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self.attention_kernels: Counter[str] = Counter()
        self._live_bytes = 0
        self._use_float32_products = use_float32_products
        self._known = {_key(tensor): 0 for tensor in weights}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if "scaled_dot_product" in func.__name__:
            self.attention_kernels[func.__name__.split(".")[0].lstrip("_")] += 1
        if self._use_float32_products and func in _PRODUCTS and args[0].dtype == torch.bfloat16:
            result = func(*tree_map(_to_float32, args), **(kwargs or {})).to(torch.bfloat16)
        else:
            result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        return result

    def _count(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key in self._known:
            return
        storage = tensor.untyped_storage()
        self._known[key] = storage.nbytes()
        self._live_bytes += storage.nbytes()
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._live_bytes -= self._known.pop(key, 0)


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _to_float32(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.float() if is_half else value
