"""Counts the bytes of live tensors, on any device, the meta device included."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


# torch leaves this class untyped.
class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage that is made inside its `with` block.

    What kernels allocate and free inside one call is not seen, nor what existed before.

    Attributes:
        live_bytes: Of storages that are alive now.
        peak_bytes: The most that were alive after any operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = self.peak_bytes = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        before = {id(tensor.untyped_storage()) for tensor in known}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_iter(result):
            if isinstance(leaf, torch.Tensor) and id(leaf.untyped_storage()) not in before:
                self._follow(leaf.untyped_storage())
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return

        def forget(_: Any) -> None:
            del self._seen[key]
            self.live_bytes -= size

        self._seen[key] = weakref.ref(storage, forget)
        self.live_bytes += size
