"""What tracks of an MP4 or MOV say that PyAV does not tell: cropping, and spheres that FFmpeg cannot read.

The `clap` box of a sample entry: ISO/IEC 14496-12, section 12.1.4. `sv3d`: see `media._projections`.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path

from media.growing.boxes import scan_file
from media.growing.errors import MalformedSegmentError
from media.info import Crop, MediaInfo, SphericalMapping

# An index for a day of video takes some ten megabytes.
_MAX_MOOV_BYTES = 64 << 20

_STSD_FIELDS = 8
_ENTRY_SIZE_AT, _ENTRY_FIELDS = 24, 78  # of a VisualSampleEntry, section 12.1.3
_CLAP = struct.Struct(">4I4i")
"""Width, height, and how far the middle lies right of and below the picture's, each over a denominator; the
denominators of the latter are above 0 in files that mean something."""


def read_aperture(path: Path, index: int, *, width: int, height: int) -> Crop | None:
    """What is to be cut off.

    Args:
        path: An MP4 or MOV.
        index: Of the stream.
        width: Of its decoded pictures, in pixels; an aperture for another size counts for nothing.
        height: Of its decoded pictures.

    Returns:
        Whole pixels; None for nothing, also where the boxes are not understood.
    """
    entry = _read_entry(path, index)
    if len(entry) < _ENTRY_FIELDS or struct.unpack_from(">2H", entry, _ENTRY_SIZE_AT) != (width, height):
        return None
    return crop_of(_at(entry[_ENTRY_FIELDS:], b"clap"), width=width, height=height)


def crop_of(clap: bytes, *, width: int, height: int) -> Crop | None:
    """What the body of a `clap` box cuts off a picture of this size; None for nothing, or for nonsense."""
    if len(clap) < _CLAP.size:
        return None
    numbers = _CLAP.unpack_from(clap)
    if min(numbers[1::2]) < 1:
        return None
    shown_width, shown_height, right, down = (
        Fraction(*pair) for pair in zip(numbers[0::2], numbers[1::2], strict=True)
    )
    left, top = floor((width - shown_width) / 2 + right), floor((height - shown_height) / 2 + down)
    crop = Crop(
        top=top, bottom=height - top - floor(shown_height), left=left, right=width - left - floor(shown_width)
    )
    sides = (crop.top, crop.bottom, crop.left, crop.right)
    return crop if min(sides) >= 0 and any(sides) else None


def with_unread_sphere(info: MediaInfo) -> MediaInfo:
    """The info of a spherical video whose projection FFmpeg does not know, as a mesh (`mshp`)."""
    video = info.video
    if "mp4" not in info.format_name or video.spherical is not None:
        return info
    if not _at(_read_entry(info.path, video.index)[_ENTRY_FIELDS:], b"sv3d"):
        return info
    return replace(info, video=replace(video, spherical=SphericalMapping(projection="other")))


def _read_entry(path: Path, index: int) -> bytes:
    """The body of the first sample entry of a stream; empty where it is not found."""
    tracks = [body for kind, body in _boxes(_read_moov(path)) if kind == b"trak"]
    if index >= len(tracks):
        return b""
    stsd = _at(tracks[index], b"mdia", b"minf", b"stbl", b"stsd")
    return next((body for _, body in _boxes(stsd[_STSD_FIELDS:])), b"")


def _read_moov(path: Path) -> bytes:
    with path.open("rb") as file:
        try:
            for box in scan_file(file):
                if box.kind == "moov":
                    file.seek(box.body)
                    return file.read(min(box.end - box.body, _MAX_MOOV_BYTES))
        except MalformedSegmentError:
            pass  # cut off, or a last box without a size
    return b""


def _at(data: bytes, *kinds: bytes) -> bytes:
    """The body of the box at a path of first boxes of a kind; empty where there is none."""
    for kind in kinds:
        data = next((body for found, body in _boxes(data) if found == kind), b"")
    return data


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of boxes side by side, up to what is none: QuickTime ends some lists with four zeros."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            return
        yield kind, data[at + 8 : at + size]
        at += size
