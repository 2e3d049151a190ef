"""Where a model runs: devices and dtypes by name, and the memory that is free there."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from pipelines.errors import BackendUnavailableError, InvalidOptionError
from pipelines.planning.host import host_memory

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["auto", "none", "int8", "fp8"]
"""What of a model is in 8 bits; each kind of model says what it makes of it. `auto` is what was measured to
be faster and to lose next to nothing."""

# The host is shared with the decoder, the encoder and the page cache.
HOST_MEMORY_SHARE = 0.5
# The allocator's fragments and the kernels' workspaces are not in the estimates.
DEVICE_MEMORY_SHARE = 0.85


def available_memory(device: torch.device | str, *, arriving_bytes: int = 0) -> int:
    """Bytes that activations may take on a device, with a margin for what estimates leave out.

    Args:
        device: The device.
        arriving_bytes: Weights that are not there yet and will be while activations are largest; negative
            if some will leave by then.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(max(free + cached - arriving_bytes, 0) * DEVICE_MEMORY_SHARE)
    return int(host_memory().available_bytes * HOST_MEMORY_SHARE)


def choose_device(device: torch.device | str) -> torch.device:
    """The device that a name stands for; `auto` is a GPU if there is one.

    Raises:
        InvalidOptionError: If the name means nothing.
        BackendUnavailableError: If this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise InvalidOptionError(
            f"device {device!r} does not exist; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            f"device '{device}' was asked for, but torch finds no CUDA GPU; use 'cpu'"
        )
    return device


def check_quantize(quantize: str) -> None:
    """Refuses what is no name of it.

    Raises:
        InvalidOptionError: If the name means nothing.
    """
    if quantize not in get_args(Quantize):
        raise InvalidOptionError(
            f"quantize {quantize!r} does not exist; choose one of {', '.join(get_args(Quantize))}"
        )


def choose_dtype(dtype: DtypeName, device: torch.device) -> torch.dtype:
    """The dtype that a name stands for: bfloat16 where the device multiplies it in hardware, else float32.

    Raises:
        InvalidOptionError: If the name means nothing.
    """
    if dtype not in get_args(DtypeName):
        raise InvalidOptionError(f"dtype {dtype!r} is not one of {', '.join(get_args(DtypeName))}")
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type != "cpu":
        return torch.bfloat16
    # Emulated bfloat16 is several times slower than float32.
    is_fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if is_fast else torch.float32
