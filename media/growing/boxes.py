"""MP4 boxes (ISO/IEC 14496-12), read strictly: what does not add up is an error, never a guess."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from media.growing.errors import MalformedSegmentError


class Box(NamedTuple):
    """Where a box lies in the bytes or file it was found in."""

    kind: str
    """Four characters, Latin-1."""
    offset: int
    """Of its head."""
    body: int
    """Offset of what it holds, behind the head."""
    end: int

    @property
    def size(self) -> int:
        """Bytes, the head included."""
        return self.end - self.offset


def read_boxes(data: bytes, start: int = 0, end: int | None = None) -> list[Box]:
    """The boxes side by side in `data[start:end]`, which they must fill exactly.

    Raises:
        MalformedSegmentError: A box has an impossible size or is cut off.
    """
    end = len(data) if end is None else end
    boxes: list[Box] = []
    while start < end:
        boxes.append(_read_head(data[start : min(start + 16, end)], start, end))
        start = boxes[-1].end
    return boxes


def scan_file(file: BinaryIO) -> Iterator[Box]:
    """The boxes at the top of a file, reading nothing but their heads.

    The caller may move the file's position between two boxes.

    Raises:
        MalformedSegmentError: A box has an impossible size or is cut off.
    """
    end = file.seek(0, 2)
    start = 0
    while start < end:
        file.seek(start)
        box = _read_head(file.read(16), start, end)
        yield box
        start = box.end


def children(data: bytes, parent: Box, skip: int = 0) -> list[Box]:
    """The boxes inside a box, behind `skip` bytes of its own fields."""
    if parent.body + skip > parent.end:
        raise MalformedSegmentError(
            f"box {parent.kind!r} at byte {parent.offset} is too short for its fields"
        )
    return read_boxes(data, parent.body + skip, parent.end)


def only(boxes: list[Box], kind: str) -> Box:
    """The one box of a kind.

    Raises:
        MalformedSegmentError: There is none, or more than one.
    """
    found = [box for box in boxes if box.kind == kind]
    if len(found) != 1:
        raise MalformedSegmentError(f"there must be exactly one box {kind!r} here, found {len(found)}")
    return found[0]


def descend(data: bytes, parent: Box, *kinds: str) -> Box:
    """The box at a path of boxes that each exist exactly once."""
    for kind in kinds:
        parent = only(children(data, parent), kind)
    return parent


def unpack(layout: str, data: bytes, box: Box, offset: int = 0) -> tuple[int, ...]:
    """Big-endian numbers at an offset inside a box's body.

    Raises:
        MalformedSegmentError: The box ends before them.
    """
    position = box.body + offset
    if position + struct.calcsize(">" + layout) > box.end:
        raise MalformedSegmentError(f"box {box.kind!r} at byte {box.offset} is too short for its fields")
    return struct.unpack_from(">" + layout, data, position)


def make_box(kind: str, *parts: bytes) -> bytes:
    """A box around some bytes."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind.encode("latin-1")) + b"".join(parts)


def _read_head(head: bytes, offset: int, end: int) -> Box:
    if len(head) < 8:
        raise MalformedSegmentError(f"{len(head)} stray bytes at byte {offset}, where a box should begin")
    size, kind = struct.unpack_from(">I4s", head)
    head_size = 8
    if size == 1 and len(head) >= 16:
        (size,) = struct.unpack_from(">Q", head, 8)
        head_size = 16
    # Size 0, "to the end of the file", cannot stand in a file that others are put behind.
    if size < head_size or offset + size > end:
        raise MalformedSegmentError(
            f"box {kind.decode('latin-1')!r} at byte {offset} claims {size} bytes, "
            f"between {head_size} and {end - offset} are possible; the file was probably cut off"
        )
    return Box(kind.decode("latin-1"), offset, offset + head_size, offset + size)
