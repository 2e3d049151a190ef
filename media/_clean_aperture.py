"""The clean aperture of an MP4 or MOV: what of the stored picture is to be shown. PyAV does not tell it.

The `clap` box of a sample entry: ISO/IEC 14496-12, section 12.1.4.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path

from media.growing.boxes import scan_file
from media.growing.errors import MalformedSegmentError
from media.info import Crop

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
    moov = _read_moov(path)
    tracks = [body for kind, body in _boxes(moov) if kind == b"trak"]
    if index >= len(tracks):
        return None
    stsd = _at(tracks[index], b"mdia", b"minf", b"stbl", b"stsd")
    entry = next((body for _, body in _boxes(stsd[_STSD_FIELDS:])), b"")
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
