"""Which kernel computes attention. One choice works under every attention pattern.

diffusers' own dispatch has no effect on CogVideoX, whose processor calls torch directly, so the choice is
made here: a kernel is a function of query, key and value heads, and each block's processor calls it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.errors import BackendUnavailableError, InvalidOptionError

AttentionBackend = Literal["auto", "flash", "efficient", "cudnn", "math", "xformers", "flex", "sage"]


class AttentionKernel(Protocol):
    """Softmax attention without a mask."""

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(B, heads, L, d) and (B, heads, S, d) twice to (B, heads, L, d), one dtype and device."""
        ...


@dataclass(frozen=True)
class _Needs:
    """What a kernel needs.

    Attributes:
        is_cuda_only: Whether it has no form for the CPU.
        cuda_dtypes: Dtypes that it takes on a GPU; on the CPU every kernel takes all three.
        package: Python package that has it, beside torch.
        install: How to get the package.
    """

    is_cuda_only: bool = False
    cuda_dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
    package: str | None = None
    install: str = ""


_HALVES = (torch.bfloat16, torch.float16)
_NEEDS: dict[AttentionBackend, _Needs] = {
    "auto": _Needs(),
    "flash": _Needs(cuda_dtypes=_HALVES),
    "efficient": _Needs(is_cuda_only=True),
    "cudnn": _Needs(is_cuda_only=True, cuda_dtypes=_HALVES),
    "math": _Needs(),
    "xformers": _Needs(is_cuda_only=True, package="xformers", install="pip install 'dovetail-vsr[cuda]'"),
    "flex": _Needs(),
    "sage": _Needs(
        is_cuda_only=True, cuda_dtypes=_HALVES, package="sageattention", install="pip install sageattention"
    ),
}
_SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


def check_attention_backend(
    backend: str, device: torch.device | str, dtype: torch.dtype | None = None
) -> None:
    """Refuses a backend that cannot run, before anything is loaded.

    Args:
        backend: Name of the backend.
        device: Where the pipeline will run.
        dtype: Dtype of its activations; None leaves it unchecked.

    Raises:
        InvalidOptionError: If there is no such backend.
        BackendUnavailableError: If it needs a device, a dtype or a package that is not there.
    """
    needs = next((needs for name, needs in _NEEDS.items() if name == backend), None)
    if needs is None:
        raise InvalidOptionError(
            f"attention backend {backend!r} does not exist; choose one of "
            f"{', '.join(get_args(AttentionBackend))}"
        )
    is_cuda = torch.device(device).type == "cuda"
    if needs.is_cuda_only and not is_cuda:
        raise BackendUnavailableError(
            f"attention backend {backend!r} runs on CUDA GPUs only, the pipeline is on {device}; use 'auto'"
        )
    if needs.package is not None and importlib.util.find_spec(needs.package) is None:
        raise BackendUnavailableError(
            f"attention backend {backend!r} needs the {needs.package} package ({needs.install}); 'auto' uses "
            "torch's own kernels"
        )
    if is_cuda and dtype is not None and dtype not in needs.cuda_dtypes:
        accepted = " or ".join(_name(choice) for choice in needs.cuda_dtypes)
        raise BackendUnavailableError(
            f"attention backend {backend!r} computes {accepted} on a GPU, {_name(dtype)} was asked for; "
            f"choose another dtype, or the backend 'auto' or 'efficient'"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def make_attention_kernel(backend: AttentionBackend) -> AttentionKernel:
    """The kernel of a backend that passed `check_attention_backend`."""
    if backend == "auto":
        return F.scaled_dot_product_attention
    makers: dict[str, Callable[[], AttentionKernel]] = {
        "xformers": _xformers_kernel,
        "flex": _flex_kernel,
        "sage": _sage_kernel,
    }
    return _typed(backend, makers[backend]() if backend in makers else _sdpa_kernel(_SDPA[backend]))


def _typed(backend: AttentionBackend, kernel: AttentionKernel) -> AttentionKernel:
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        try:
            return kernel(query, key, value)
        except RuntimeError as error:
            # torch says no more than this, and warns about the reasons.
            if "No available kernel" not in str(error):
                raise
            raise BackendUnavailableError(
                f"attention backend {backend!r} cannot compute {_name(query.dtype)} heads of "
                f"{query.shape[-1]} channels on {query.device}; use 'auto'"
            ) from error

    return attend


def _sdpa_kernel(backend: SDPBackend) -> AttentionKernel:
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel([backend]):
            return F.scaled_dot_product_attention(query, key, value)

    return attend


def _xformers_kernel() -> AttentionKernel:
    from xformers.ops import memory_efficient_attention

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        # It wants (B, L, heads, d).
        heads_last = (x.transpose(1, 2).contiguous() for x in (query, key, value))
        attended: torch.Tensor = memory_efficient_attention(*heads_last)
        return attended.transpose(1, 2)

    return attend


def _sage_kernel() -> AttentionKernel:
    from sageattention import sageattn

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads = (x.contiguous() for x in (query, key, value))
        attended: torch.Tensor = sageattn(*heads, tensor_layout="HND", is_causal=False)
        return attended

    return attend


@cache
def _flex_kernel() -> AttentionKernel:
    from torch.nn.attention.flex_attention import flex_attention

    # Uncompiled it would hold all scores; once for the process, as compiling takes long.
    compiled: Any = torch.compile(flex_attention)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = compiled(query, key, value)
        return attended

    return attend
