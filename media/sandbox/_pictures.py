"""Stills, and pictures that become a video, read in the sandbox."""

import contextlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from media.errors import SandboxError
from media.limits import DEFAULT_LIMITS, InputLimits
from media.picture_packing import pack_animation, pack_pictures
from media.sandbox._cancellation import Cancellation
from media.sandbox._child import Port
from media.sandbox._limits import SandboxLimits
from media.sandbox._sandbox import Sandbox
from media.sandbox._shared_memory import copy_from, make_shared_memory
from media.stills import Picture, read_picture

_CHANNELS = 4
_BYTES = 4


def sandboxed_picture(
    path: Path,
    *,
    limits: InputLimits = DEFAULT_LIMITS,
    timeout: float,
    sandbox_limits: SandboxLimits,
    sandbox: Sandbox,
    cancellation: Cancellation | None = None,
) -> Picture:
    """`media.stills.read_picture` in a process of its own.

    Args:
        path: As for `read_picture`.
        limits: As for `read_picture`.
        timeout: Seconds by the clock.
        sandbox_limits: Resources of the process.
        sandbox: Where to run.
        cancellation: What may end it.

    Raises:
        MediaError: As `read_picture` raises.
        InputTimeoutError: It takes too long.
        InputMemoryError: It takes too much memory.
        SandboxError: The process that reads the file died of it.
    """
    absolute = path.absolute()
    size = limits.max_pixels * _CHANNELS * _BYTES
    memory = make_shared_memory(size)
    try:
        process = sandbox.start(
            _send_picture,
            absolute,
            limits,
            limits=replace(sandbox_limits, memory_bytes=sandbox_limits.memory_bytes + size),
            readable=[absolute],
            files=[memory],
        )
        with contextlib.closing(process), (cancellation or Cancellation()).covering(process):
            _, *values = process.receive(timeout=timeout)
        return _take_picture(values, memory, limits)
    finally:
        os.close(memory)


def sandboxed_pack_pictures(
    paths: Sequence[Path],
    rate: Fraction,
    destination: Path,
    *,
    timeout: float,
    sandbox_limits: SandboxLimits,
    sandbox: Sandbox,
) -> None:
    """`media.picture_packing.pack_pictures` in a process of its own.

    Args:
        paths: As for `pack_pictures`.
        rate: As for `pack_pictures`.
        destination: As for `pack_pictures`. The process may write in its folder.
        timeout: Seconds by the clock.
        sandbox_limits: Resources of the process; the packed file is one of its files.
        sandbox: Where to run.

    Raises:
        MediaError: As `pack_pictures` raises.
        SandboxError: The process that reads the files died of them.
    """
    absolute = [path.absolute() for path in paths]
    sandbox.call(
        pack_pictures,
        absolute,
        rate,
        destination.absolute(),
        timeout=timeout,
        limits=sandbox_limits,
        readable=absolute,
        writable=[destination.parent],
    )


def sandboxed_pack_animation(
    path: Path, destination: Path, *, timeout: float, sandbox_limits: SandboxLimits, sandbox: Sandbox
) -> None:
    """`media.picture_packing.pack_animation` in a process of its own; see `sandboxed_pack_pictures`."""
    sandbox.call(
        pack_animation,
        path.absolute(),
        destination.absolute(),
        timeout=timeout,
        limits=sandbox_limits,
        readable=[path],
        writable=[destination.parent],
    )


def _send_picture(port: Port, path: Path, limits: InputLimits) -> tuple[Any, ...]:
    """Lays the planes of a picture into the shared memory and describes them; in the sandbox."""
    picture = read_picture(path, limits=limits)
    planes = picture.image if picture.alpha is None else torch.cat([picture.image, picture.alpha])
    shared = torch.frombuffer(mmap.mmap(port.file, 0), dtype=torch.float32)
    shared[: planes.numel()] = planes.flatten()
    return (*planes.shape, picture.bit_depth, picture.is_gray, picture.icc_profile, picture.exif)


def _take_picture(values: list[Any], memory: int, limits: InputLimits) -> Picture:
    """The picture that a process described, which may be anything."""
    match values:
        case [
            (
                (3 | 4) as channels,
                int(height),
                int(width),
                (8 | 16) as bit_depth,
                bool(is_gray),
                (bytes() | None) as profile,
                bytes(exif),
            )
        ] if height > 0 and width > 0 and height * width <= limits.max_pixels:
            planes = torch.empty(channels, height, width)
            copy_from(memory, 0, planes)
            alpha = planes[3:].contiguous() if channels == _CHANNELS else None
            return Picture(planes[:3].contiguous(), alpha, bit_depth, is_gray, profile, exif)
    raise SandboxError("the process that reads the input described a picture that cannot be")
