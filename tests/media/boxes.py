"""A reader of MP4 boxes for tests: a second opinion on what a file says, independent of FFmpeg's demuxer."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PLAIN = {"moov", "trak", "mdia", "minf", "stbl", "moof", "traf", "edts", "udta"}
# Bytes between the head of a box and its children.
_WITH_FIELDS = {"stsd": 8, "avc1": 78, "hvc1": 78, "hev1": 78, "av01": 78, "vp09": 78, "tx3g": 38, "meta": 4}


@dataclass(frozen=True)
class Box:
    """One box: its path from the top ("moov/trak/tkhd"), where it lies, and what it holds."""

    path: str
    offset: int
    size: int
    body: bytes

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def read_boxes(data: bytes | Path) -> list[Box]:
    """All boxes in file order, parents before children."""
    content = data.read_bytes() if isinstance(data, Path) else data
    return list(_walk(content, 0, len(content), ""))


def find(boxes: list[Box], name: str) -> list[Box]:
    return [box for box in boxes if box.name == name]


def _walk(content: bytes, offset: int, end: int, parent: str) -> Iterator[Box]:
    while offset + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, offset)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, offset + 8)
            head = 16
        elif size == 0:
            size = end - offset
        if size < head or offset + size > end:
            return  # a file that was cut off
        name = kind.decode("latin-1")
        path = f"{parent}/{name}".lstrip("/")
        yield Box(path, offset, size, content[offset + head : offset + size])
        if name in _PLAIN:
            yield from _walk(content, offset + head, offset + size, path)
        elif name in _WITH_FIELDS:
            yield from _walk(content, offset + head + _WITH_FIELDS[name], offset + size, path)
        offset += size


def nclx(box: Box) -> tuple[int, int, int, bool]:
    """A colr box: primaries, transfer, matrix, full range."""
    assert box.body[:4] == b"nclx"
    primaries, transfer, matrix, flags = struct.unpack(">HHHB", box.body[4:11])
    return primaries, transfer, matrix, bool(flags >> 7)


def base_decode_time(box: Box) -> int:
    """A tfdt box: where the fragment lies, in ticks."""
    return int.from_bytes(box.body[4:], "big")


def edits(box: Box) -> list[tuple[int, int]]:
    """An elst box: (duration in movie ticks, media time in track ticks, -1 for an empty edit)."""
    version, count = box.body[0], int.from_bytes(box.body[4:8], "big")
    layout = ">Qqhh" if version == 1 else ">Iihh"
    step = struct.calcsize(layout)
    return [struct.unpack_from(layout, box.body, 8 + step * n)[:2] for n in range(count)]


def timescale(box: Box) -> int:
    """Ticks per second of an mdhd or mvhd box."""
    return int.from_bytes(box.body[20:24] if box.body[0] == 1 else box.body[12:16], "big")


def matrix(box: Box) -> tuple[int, ...]:
    """The display matrix of a tkhd box."""
    start = 52 if box.body[0] == 1 else 40
    return struct.unpack(">9i", box.body[start : start + 36])


def pixel_aspect(box: Box) -> tuple[int, int]:
    """A pasp box."""
    return struct.unpack(">II", box.body[:8])
