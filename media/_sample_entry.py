"""More boxes for the video's sample entry of an MP4, put into the finished file.

FFmpeg's own muxers are no way: told of a spherical or stereoscopic picture, MP4's says so with
`strict=unofficial` alone, and MOV's never with `st3d` and `sv3d`. Both then add a `vexu` without the packing,
which FFmpeg 8 reads as an unknown one. Matroska's does it right.
"""

import struct
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from media.growing.boxes import Box, children, descend, make_box, only, read_boxes, scan_file

MP4_MUXERS = frozenset({"mp4", "mov"})
"""FFmpeg's names: those whose files are treated here."""

_FOLDERS = frozenset({"moov", "trak", "mdia", "minf", "stbl"})
_STSD_FIELDS = 8
_LARGEST_OFFSET = (1 << 32) - 1
_BLOCK_BYTES = 8 << 20


def add_to_file(path: Path, boxes: bytes) -> None:
    """Put boxes into a finished file, not a fragmented one; what lies behind its moov moves.

    Raises:
        MalformedSegmentError: It is no MP4.
        OSError: It cannot be written.
    """
    with path.open("r+b") as file:
        top = list(scan_file(file))
        moov = only(top, "moov")
        file.seek(moov.offset)
        before = file.read(moov.size)
        is_wide = top[-1].end + len(before) > _LARGEST_OFFSET
        after = with_boxes(before, boxes, is_wide=is_wide)
        growth = len(after) - len(before)
        if any(box.kind == "mdat" and box.offset > moov.offset for box in top):
            after = with_boxes(before, boxes, is_wide=is_wide, shift=growth)
        _move_tail(file, moov.end, growth)
        file.seek(moov.offset)
        file.write(after)


def head_of_segment(path: Path, boxes: bytes) -> bytes:
    """A segment to its first fragment's end, with boxes in its sample entry.

    Raises:
        MalformedSegmentError: It is no segment.
    """
    with path.open("rb") as file:
        end = list(islice(scan_file(file), 4))[-1].end  # ftyp, moov, moof, mdat
        file.seek(0)
        return with_boxes(file.read(end), boxes)


def with_boxes(data: bytes, boxes: bytes, *, is_wide: bool = False, shift: int = 0) -> bytes:
    """Boxes of a file's top with others at the end of the sample entry of the first video track.

    Args:
        data: Among them a moov.
        boxes: The new ones.
        is_wide: Write all chunk offsets with 64 bits.
        shift: To add to all chunk offsets.
    """
    top = read_boxes(data)
    moov = only(top, "moov")
    video = next(
        trak for trak in children(data, moov) if trak.kind == "trak" and _handler(data, trak) == b"vide"
    )
    entry = children(data, descend(data, video, "mdia", "minf", "stbl", "stsd"), _STSD_FIELDS)[0]

    def rebuild(box: Box) -> bytes:
        if box.kind in _FOLDERS:
            return make_box(box.kind, *map(rebuild, children(data, box)))
        if box.kind == "stsd":
            entries = map(rebuild, children(data, box, _STSD_FIELDS))
            return make_box(box.kind, data[box.body : box.body + _STSD_FIELDS], *entries)
        if box.kind in ("stco", "co64"):
            return _chunk_offsets(data, box, is_wide=is_wide or box.kind == "co64", shift=shift)
        content = data[box.body : box.end]
        return make_box(box.kind, content, boxes) if box == entry else data[box.offset : box.end]

    return b"".join(map(rebuild, top))


def _handler(data: bytes, trak: Box) -> bytes:
    start = descend(data, trak, "mdia", "hdlr").body + 8
    return data[start : start + 4]


def _chunk_offsets(data: bytes, box: Box, *, is_wide: bool, shift: int) -> bytes:
    head = data[box.body : box.body + 8]  # version, flags, count
    count = int.from_bytes(head[4:], "big")
    letter = "Q" if box.kind == "co64" else "I"
    offsets = struct.unpack_from(f">{count}{letter}", data, box.body + 8)
    moved = struct.pack(f">{count}{'Q' if is_wide else 'I'}", *(offset + shift for offset in offsets))
    return make_box("co64" if is_wide else "stco", head, moved)


def _move_tail(file: BinaryIO, start: int, distance: int) -> None:
    """Move all from `start` on towards the end, in place, the last block first."""
    position = file.seek(0, 2)
    while position > start:
        size = min(_BLOCK_BYTES, position - start)
        position -= size
        file.seek(position)
        block = file.read(size)
        file.seek(position + distance)
        file.write(block)
