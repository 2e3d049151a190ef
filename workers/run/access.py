"""How a run gets at files that nobody has vouched for: in this process, or in processes that may die of them.

Both ways give the same frames and bytes; in the second a fault of a decoder is an error of one input.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from media import JoinReport, MediaInfo, VideoReader, join_segments, probe
from media.picture_packing import pack_animation, pack_pictures
from media.sandbox import (
    Sandbox,
    SandboxedReader,
    SandboxLimits,
    sandboxed_join,
    sandboxed_pack_animation,
    sandboxed_pack_pictures,
    sandboxed_picture,
    sandboxed_probe,
)
from media.stills import Picture, read_picture
from workers.run.decisions import SourceShape
from workers.run.reading import FrameSource

# For people's own machines, whose disks may be slow and whose films long: only what is stuck ends here, or
# would fill any disk.
_IDLE_SECONDS = 600.0
_CALL_SECONDS = 6 * 3600.0
_CPU_SECONDS = 6 * 3600
_FILE_BYTES = 1 << 40

T = TypeVar("T")


class SourceReader(FrameSource, SourceShape, AbstractContextManager[Any], Protocol):
    """A reader of frames, for a `with` block: a `VideoReader`, or one in another process."""


@dataclass(frozen=True)
class MediaAccess:
    """What touches the files of strangers; each takes what the function of `media` takes.

    Attributes:
        probe: `media.probe`.
        open_reader: `media.VideoReader`.
        join: `media.join_segments`.
        read_picture: `media.stills.read_picture`.
        pack_pictures: `media.picture_packing.pack_pictures`.
        pack_animation: `media.picture_packing.pack_animation`.
    """

    probe: Callable[..., MediaInfo]
    open_reader: Callable[..., SourceReader]
    join: Callable[..., JoinReport]
    read_picture: Callable[..., Picture]
    pack_pictures: Callable[..., None]
    pack_animation: Callable[..., None]


IN_THIS_PROCESS = MediaAccess(
    probe=probe,
    open_reader=VideoReader,
    join=join_segments,
    read_picture=read_picture,
    pack_pictures=pack_pictures,
    pack_animation=pack_animation,
)


def confined_access(sandbox: Sandbox) -> MediaAccess:
    """Access from the processes of a sandbox, which may use the memory that the machine has.

    Args:
        sandbox: With `media.sandbox.READ_MODULES` loaded.
    """
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    reading = SandboxLimits(memory_bytes=memory_bytes, cpu_seconds=_CPU_SECONDS)
    packing = replace(reading, file_bytes=_FILE_BYTES)

    def bound(
        function: Callable[..., T], limits: SandboxLimits | None, timeout: float = _CALL_SECONDS
    ) -> Callable[..., T]:
        return partial(function, timeout=timeout, sandbox_limits=limits, sandbox=sandbox)

    return MediaAccess(
        probe=bound(sandboxed_probe, reading),
        open_reader=bound(SandboxedReader, reading, _IDLE_SECONDS),
        join=bound(sandboxed_join, None),
        read_picture=bound(sandboxed_picture, reading),
        pack_pictures=bound(sandboxed_pack_pictures, packing),
        pack_animation=bound(sandboxed_pack_animation, packing),
    )
