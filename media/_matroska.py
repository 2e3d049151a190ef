"""What the tracks of a Matroska file say that FFmpeg reads and PyAV does not tell: cropping and encryption.

Element ids and their meaning: RFC 9559, section 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from media.info import Crop

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
_TRACKS, _TRACK_ENTRY = 0x1654AE6B, 0xAE
_VIDEO, _CONTENT_ENCODINGS, _CONTENT_ENCODING, _ENCRYPTION = 0xE0, 0x6D80, 0x6240, 0x5035
_CROP_IDS = {"top": 0x54BB, "bottom": 0x54AA, "left": 0x54CC, "right": 0x54DD}

# The tracks stand in front of the first cluster, behind an index or attachments at most.
_MAX_ELEMENTS = 1000
_MAX_TRACKS_BYTES = 4 << 20


@dataclass(frozen=True)
class TrackFacts:
    """Of one track, which is the stream of the same number."""

    crop: Crop | None
    is_encrypted: bool


class Element(NamedTuple):
    """A part of a Matroska file."""

    id: int
    start: int
    """Of its body."""
    end: int


def read_tracks(path: Path) -> list[TrackFacts]:
    """The tracks in the order of the file; none where it is not understood."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        body = _find_tracks(file, size)
    return [] if body is None else parse_tracks(body)


def parse_tracks(body: bytes) -> list[TrackFacts]:
    """The entries of a Tracks element."""
    return [_facts(body, entry) for entry in children(body, 0, len(body)) if entry.id == _TRACK_ENTRY]


def _facts(body: bytes, entry: Element) -> TrackFacts:
    parts = {part.id: part for part in children(body, entry.start, entry.end)}
    encodings = parts.get(_CONTENT_ENCODINGS)
    is_encrypted = encodings is not None and any(
        part.id == _ENCRYPTION
        for encoding in children(body, encodings.start, encodings.end)
        if encoding.id == _CONTENT_ENCODING
        for part in children(body, encoding.start, encoding.end)
    )
    crop = None
    if _VIDEO in parts:
        values = {part.id: part for part in children(body, *parts[_VIDEO][1:])}
        sides = {
            name: int.from_bytes(body[values[key].start : values[key].end], "big") if key in values else 0
            for name, key in _CROP_IDS.items()
        }
        crop = Crop(**sides) if any(sides.values()) else None
    return TrackFacts(crop, is_encrypted)


def _find_tracks(file: BinaryIO, size: int) -> bytes | None:
    position, end = 0, size
    for _ in range(_MAX_ELEMENTS):
        if position >= end:
            return None
        file.seek(position)
        element = read_element(file.read(12), position, end)
        if element is None or element.id == CLUSTER:
            return None
        if element.id == SEGMENT:
            position, end = element.start, element.end
        elif element.id == _TRACKS:
            file.seek(element.start)
            return file.read(min(element.end - element.start, _MAX_TRACKS_BYTES))
        else:
            position = element.end
    return None


def children(body: bytes, start: int, end: int) -> Iterator[Element]:
    """The elements between two positions, one behind the other, as far as they can be understood."""
    position = start
    while position < end:
        element = read_element(body[position : position + 12], position, end)
        if element is None:
            return
        yield element
        position = element.end


def read_element(head: bytes, position: int, limit: int) -> Element | None:
    """The element at a position, cut at the limit; its head is an id with its marker and a size without."""
    if not head or head[0] == 0:
        return None
    id_length = 9 - head[0].bit_length()
    if len(head) <= id_length or id_length > 4 or head[id_length] == 0:
        return None
    first = head[id_length]
    size_length = 9 - first.bit_length()
    raw = head[id_length : id_length + size_length]
    size = int.from_bytes(raw, "big") & (1 << 7 * size_length) - 1
    start = position + id_length + size_length
    is_unknown = size == (1 << 7 * size_length) - 1
    return Element(
        int.from_bytes(head[:id_length], "big"), start, limit if is_unknown else min(limit, start + size)
    )
