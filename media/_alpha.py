"""What an alpha plane means: whether it is used at all, and whether colours are already multiplied by it."""

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from av.video.frame import VideoFrame

from media._planar import FrameToPlanar, Planar, highest
from media._tiff_headers import has_associated_alpha
from media.info import AlphaUse

UNUSED_WARNING = (
    "every pixel is marked as transparent, so the alpha plane is taken as unused; the picture is shown opaque"
)

# A title that fades in is transparent at first, for some seconds. A plane that stays zero for longer was
# never filled in: many programs write 32-bit RGB with an idle fourth byte.
_MAX_FRAMES_TO_OPACITY = 120

# QuickTime's graphics modes for colours that were mixed with white or black ("premulWhiteAlpha" 0x101,
# "premulBlackAlpha" 0x102); FFmpeg reads past them.
_PREMULTIPLIED_MODES = frozenset({0x101, 0x102})
_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf"})
_MAX_BOXES = 10_000


def judge_alpha(
    path: Path,
    first: Planar,
    later: Iterator[VideoFrame],
    *,
    codec: str,
    container: str,
    position: int,
    first_packet: bytes,
) -> AlphaUse:
    """How to understand the alpha plane of a stream.

    Args:
        path: The file.
        first: The first frame.
        later: The frames after it; some are taken where the first is transparent everywhere.
        codec: The codec's name.
        container: FFmpeg's name of the container.
        position: Of the stream among the container's video streams, from 0.
        first_packet: Of the stream.
    """
    if first.alpha is None:
        return "straight"
    if highest(first.alpha) == 0 and not _becomes_visible(first, later, codec):
        return "unused"
    if "mov" in container.split(",") and _graphics_mode(path, position) in _PREMULTIPLIED_MODES:
        return "premultiplied"
    if codec == "tiff" and has_associated_alpha(first_packet):
        return "premultiplied"
    return "straight"


def _becomes_visible(first: Planar, later: Iterator[VideoFrame], codec: str) -> bool:
    to_planar = FrameToPlanar(first.source.width, first.source.height, codec=codec)
    alphas = (to_planar.convert(frame).alpha for frame in islice(later, _MAX_FRAMES_TO_OPACITY))
    return any(alpha is None or highest(alpha) > 0 for alpha in alphas)


def _graphics_mode(path: Path, position: int) -> int | None:
    """The graphics mode of a MOV's video track (`vmhd`); None where there is none."""
    with path.open("rb") as file:
        headers = _boxes(file, b"vmhd", 0, path.stat().st_size)
        for start in islice(headers, position, position + 1):
            file.seek(start + 4)  # version and flags
            data = file.read(2)
            return struct.unpack(">H", data)[0] if len(data) == 2 else None
    return None


def _boxes(file: BinaryIO, kind: bytes, start: int, end: int) -> Iterator[int]:
    """Where the payload of each box of a kind begins, whatever it lies in."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0], 16
        stop = end if size == 0 else start + size
        if stop < start + header:  # damaged
            return
        if name == kind:
            yield start + header
        elif name in _CONTAINERS:
            yield from _boxes(file, kind, start + header, min(stop, end))
        start = stop
