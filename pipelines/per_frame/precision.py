"""The dtype that a network computes in: what is wanted, what it allows, and what it really can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.devices import DtypeName, choose_dtype
from pipelines.errors import InvalidOptionError, is_out_of_memory
from pipelines.per_frame.network import Network, as_network
from pipelines.per_frame.probing import measure_bytes
from pipelines.planning.frame_plan import FrameShape

# Root mean square: two code values of 8 bits. Its authors' 28-channel SPAN is 0.6 off in bfloat16 on such a
# sample, 0.7 on photographs and 8 on white noise, which it was not made for.
_MAX_ERROR = 2 / 255
_SAMPLE_SIZE, _SMOOTHNESS = (32, 32), 4


@dataclass(frozen=True)
class ReadyNetwork:
    """A network on its device, in the dtype that it computes in.

    Attributes:
        descriptor: spandrel's, of the network that runs.
        network: Its function.
        dtype: Of its weights.
        bytes_per_pixel: Of activations, for each source pixel.
        fixed_bytes: Of activations, for any image.
        notes: What its user should know.
    """

    descriptor: Any
    network: Network
    dtype: torch.dtype
    bytes_per_pixel: int
    fixed_bytes: int
    notes: tuple[str, ...] = ()


def choose_network_dtype(descriptor: Any, dtype: DtypeName, device: torch.device) -> torch.dtype:
    """The dtype that a name stands for with a network, if it is as good as spandrel says.

    Raises:
        InvalidOptionError: If the name means nothing, or the network does not allow it.
    """
    allowed = list(_allowed_dtypes(descriptor))
    chosen = choose_dtype(dtype, device)
    if chosen in allowed:
        return chosen
    if dtype == "auto":
        is_half_fast = device.type != "cpu" and torch.float16 in allowed
        return torch.float16 if is_half_fast else torch.float32
    names = ", ".join(map(_name, allowed))
    raise InvalidOptionError(f"{descriptor.architecture.name} networks run in {names} or auto, got {dtype!r}")


def _allowed_dtypes(descriptor: Any) -> Iterator[torch.dtype]:
    yield torch.float32
    if descriptor.supports_bfloat16:
        yield torch.bfloat16
    if descriptor.supports_half:
        yield torch.float16


def make_ready(
    descriptor: Any,
    shape: FrameShape,
    *,
    dtype: torch.dtype,
    device: torch.device,
    may_be_float32: bool,
    read_again: Callable[[], Any],
) -> ReadyNetwork:
    """Puts a network on its device in the dtype that it really can, and measures its memory.

    Some make tensors in float32 as they run (masks of shifted windows, spectra), where their weights have 16
    bits: these run under autocast.

    Args:
        descriptor: Of the network, on the CPU, in float32.
        shape: The sizes it takes.
        dtype: That is wanted.
        device: Where it shall run.
        may_be_float32: Whether it may where it fails in that dtype, or is too far off.
        read_again: Gives another descriptor, as rounded weights do not come back.

    Raises:
        RuntimeError: If it fails in every way, as it did in the first.
    """
    sample = _sample(shape)
    is_compared = may_be_float32 and dtype != torch.float32
    expected = as_network(descriptor)(sample) if is_compared else None
    failure: RuntimeError | None = None
    for way in _ways(dtype, may_be_float32=may_be_float32):
        descriptor = descriptor or read_again()
        descriptor.eval().to(device=device, dtype=way.dtype)
        network = as_network(descriptor, use_autocast=way.use_autocast)
        try:
            bytes_per_pixel, fixed_bytes = measure_bytes(network, shape, device)
            is_close = (
                expected is None
                or way.dtype == torch.float32
                or _error(network(sample).cpu(), expected) <= _MAX_ERROR
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            failure, is_close = failure or error, False
        if is_close:
            note = f"it computes in float32, {_name(dtype)} is not for it"
            notes = () if way.dtype == dtype else (note,)
            return ReadyNetwork(descriptor, network, way.dtype, bytes_per_pixel, fixed_bytes, notes)
        descriptor = None
    assert failure is not None
    raise failure


@dataclass(frozen=True)
class _Way:
    dtype: torch.dtype
    use_autocast: bool = False


def _ways(dtype: torch.dtype, *, may_be_float32: bool) -> Iterator[_Way]:
    """From the fastest to the one that always works."""
    yield _Way(dtype)
    if dtype != torch.float32:
        yield _Way(dtype, use_autocast=True)
        if may_be_float32:
            yield _Way(torch.float32)


def _sample(shape: FrameShape) -> Tensor:
    """(1, 3, h, w): noise, as smooth as a picture."""
    height, width = shape.padded(_SAMPLE_SIZE)
    coarse = height // _SMOOTHNESS + 1, width // _SMOOTHNESS + 1
    noise = torch.rand(1, 3, *coarse, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def _error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference of two images, as they would be shown."""
    return float((found.clamp(0, 1) - expected.clamp(0, 1)).square().mean().sqrt())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
