"""How much memory tensors take while something runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class PeakMemory:
    """The most that was held at once.

    Attributes:
        num_bytes: Final when the block it was measured over has ended.
    """

    num_bytes: int = 0


# torch leaves dispatch modes untyped.
class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators make in its `with` block, each until its last tensor is gone.

    Args:
        peak: Told the largest sum.
    """

    def __init__(self, peak: PeakMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._peak, self._live = peak, 0
        self._sizes: dict[int, int] = {}

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operator; what it makes on the way is not counted."""
        return func(*args, **kwargs)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        known = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = self.run(func, args, kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _key(leaf) not in known:
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._sizes:
            return
        self._sizes[key] = size
        self._live += size
        self._peak.num_bytes = max(self._peak.num_bytes, self._live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key, 0)


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measures what tensors made in a `with` block take at most, beside those that were there before.

    On a GPU it is the allocator's count, with the kernels' workspaces; on a host the tensors' own bytes.

    Args:
        device: Where the tensors are.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.num_bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with LiveStorages(peak):
        yield peak
