"""Pictures as the frames of a MOV, without loss, which then takes the way of every other video.

PNG, JPEG and TIFF are copied as they are; others, and rows of several kinds, become PNG.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from PIL import Image, ImageOps

from media.derived_names import beside
from media.errors import EncodeError, UnreadableInputError
from media.picture_files import SOURCE_SUFFIXES
from media.picture_opening import open_picture

# What MOV has a place for, by how such files begin; names are what people call them.
_COPIED = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"II*\0": "tiff", b"MM\0*": "tiff"}
# Of animations: their times are whole milliseconds.
_TICKS = 1000


def pack_pictures(paths: Sequence[Path], rate: Fraction, destination: Path) -> None:
    """Writes pictures as the frames of a MOV, all or nothing.

    The file has the time of the newest picture, so that a run over the same pictures can be continued.

    Args:
        paths: In order, at least one.
        rate: Frames per second.
        destination: The file.

    Raises:
        UnreadableInputError: If a picture cannot be read.
        EncodeError: If the file cannot be written.
    """
    kinds = {_kind_of(path) for path in paths}
    copied = kinds.pop() if len(kinds) == 1 else None
    frames = ((_file_bytes(path) if copied else _as_png(path), 1 / rate) for path in paths)
    _pack(frames, copied or "png", destination, rate=rate)
    _set_time(destination, paths)


def pack_animation(path: Path, destination: Path) -> None:
    """Writes the pictures of an animation, each for as long as it is shown, as the frames of a MOV.

    Raises:
        UnreadableInputError: If it cannot be read.
        EncodeError: If the file cannot be written.
    """
    _pack(_animation_frames(path), "png", destination, rate=Fraction(_TICKS))
    _set_time(destination, [path])


def _set_time(destination: Path, sources: Iterable[Path]) -> None:
    newest = max(path.stat().st_mtime_ns for path in sources)
    os.utime(destination, ns=(newest, newest))


def _animation_frames(path: Path) -> Iterator[tuple[bytes, Fraction]]:
    try:
        with Image.open(path, formats=["WEBP"]) as file:
            for index in range(getattr(file, "n_frames", 1)):
                file.seek(index)
                buffer = io.BytesIO()
                file.convert("RGBA").save(buffer, format="PNG", compress_level=1)
                yield buffer.getvalue(), Fraction(max(1, int(file.info.get("duration", 100))), _TICKS)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise UnreadableInputError(f"'{path.name}' cannot be read as an animation ({error})") from error


def _pack(frames: Iterable[tuple[bytes, Fraction]], kind: str, destination: Path, *, rate: Fraction) -> None:
    """Muxes coded pictures of a kind, with their durations in seconds."""
    part = beside(destination, ".part")
    time_base = 1 / rate
    pts = 0
    try:
        with av.open(str(part.absolute()), "w", format="mov") as output:
            stream = None
            for data, seconds in frames:
                if stream is None:
                    with av.open(io.BytesIO(data), format=f"{kind}_pipe") as first:
                        stream = output.add_stream_from_template(first.streams.video[0], opaque=True)
                    stream.time_base = time_base
                packet = Packet(data)
                packet.pts = packet.dts = pts
                packet.duration = round(seconds / time_base)
                packet.time_base, packet.stream, packet.is_keyframe = time_base, stream, True
                pts += packet.duration
                output.mux_one(packet)
        part.replace(destination)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise EncodeError(f"cannot pack pictures into {destination}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _kind_of(path: Path) -> str | None:
    """The kind of picture that MOV can hold as it is; None for others."""
    head = _file_bytes(path, 4)
    return next((kind for begin, kind in _COPIED.items() if head.startswith(begin)), None)


def _file_bytes(path: Path, count: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UnreadableInputError(f"cannot read '{path.name}': {error.strerror or error}") from error


def _as_png(path: Path) -> bytes:
    try:
        with open_picture(path) as file:
            buffer = io.BytesIO()
            ImageOps.exif_transpose(file).save(buffer, format="PNG", compress_level=1)
            return buffer.getvalue()
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableInputError(
            f"'{path.name}' is not a picture we can read ({error}); accepted are "
            f"{', '.join(sorted(SOURCE_SUFFIXES))}"
        ) from error
