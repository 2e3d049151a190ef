"""The shape of pixels in the header of a Matroska file that FFmpeg has written.

FFmpeg's muxer takes it from a place that PyAV does not let us write to. H.264 and H.265 say it in their own
headers, AV1 says it nowhere else. Element ids: RFC 9559, section 5.
"""

import zlib
from pathlib import Path

from media._matroska import Element, children

_SEGMENT, _SEEK_HEAD, _VOID, _TRACKS, _CLUSTER = 0x18538067, 0x114D9B74, 0xEC, 0x1654AE6B, 0x1F43B675
_SEEK, _SEEK_POSITION = 0x4DBB, 0x53AC
_TRACK_ENTRY, _VIDEO = 0xAE, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2

_CHECKSUM_HEAD = b"\xbf\x84"

_MAX_HEAD_BYTES = 16 << 20
_MAX_VOID_HEADER = 9


def write_display_size(path: Path, size: tuple[int, int]) -> bool:
    """Say how large the picture of the first track is to be shown, if its pixels were square.

    The bytes come out of the gap that FFmpeg leaves behind its table of contents, so nothing behind the
    tracks moves.

    Args:
        path: A file that FFmpeg has muxed, with the video as its first track.
        size: Width and height, in square pixels.

    Returns:
        Whether it is said now: not where the header is another than FFmpeg's, or the gap too small.
    """
    with path.open("rb+") as file:
        head = file.read(_MAX_HEAD_BYTES)
        parts = _parts_of_segment(head)
        if not {_SEEK_HEAD, _VOID, _TRACKS} <= parts.keys():
            return False
        void, tracks = parts[_VOID], parts[_TRACKS]
        void_start = parts[_SEEK_HEAD].end
        if _own_start(head, void_start, void) != void_start or tracks.start < void.end:
            return False
        widened = _widened_tracks(head, tracks, size)
        tracks_start = _own_start(head, void.end, tracks)
        growth = len(widened) - (tracks.end - tracks_start)
        gap = void.end - void_start - _MAX_VOID_HEADER - growth
        if not widened or gap < 0:
            return False
        table = _moved_entries(head, parts, growth)
        between = head[void.end : tracks_start]
        file.seek(parts[_SEEK_HEAD].start)
        file.write(table + _element(_VOID, bytes(gap), 8) + between + widened)
    return True


def _parts_of_segment(head: bytes) -> dict[int, Element]:
    """The elements in front of the first cluster, by id."""
    segment = next((part for part in children(head, 0, len(head)) if part.id == _SEGMENT), None)
    parts: dict[int, Element] = {}
    for part in children(head, segment.start, len(head)) if segment else ():
        if part.id == _CLUSTER:
            break
        parts.setdefault(part.id, part)
    if segment is not None:
        parts[_SEGMENT] = segment
    return parts


def _own_start(head: bytes, position: int, element: Element) -> int:
    """Where the head of an element is, which lies somewhere behind a position."""
    for part in children(head, position, element.end):
        if part.start == element.start:
            return position
        position = part.end
    return element.start


def _widened_tracks(head: bytes, tracks: Element, size: tuple[int, int]) -> bytes:
    """The tracks with a display size in the first one; empty where there is no video in it."""
    entry = next((part for part in children(head, tracks.start, tracks.end) if part.id == _TRACK_ENTRY), None)
    inside = {part.id: part for part in children(head, entry.start, entry.end)} if entry else {}
    if entry is None or _VIDEO not in inside:
        return b""
    video = inside[_VIDEO]
    shown = {
        part.id: _element(part.id, head[part.start : part.end])
        for part in children(head, video.start, video.end)
    }
    shown.pop(_DISPLAY_UNIT, None)  # which FFmpeg gives as unknown; pixels are understood
    shown[_DISPLAY_WIDTH] = _number(_DISPLAY_WIDTH, size[0])
    shown[_DISPLAY_HEIGHT] = _number(_DISPLAY_HEIGHT, size[1])
    new_video = _element(_VIDEO, b"".join(shown.values()))
    video_start = _own_start(head, entry.start, video)
    new_entry = _element(
        _TRACK_ENTRY, head[entry.start : video_start] + new_video + head[video.end : entry.end]
    )
    entry_start = _own_start(head, tracks.start, entry)
    body = head[tracks.start : entry_start] + new_entry + head[entry.end : tracks.end]
    return _element(_TRACKS, _with_checksum(body))


def _moved_entries(head: bytes, parts: dict[int, Element], growth: int) -> bytes:
    """The table of contents, corrected for what lies between the gap and the end of the tracks."""
    table, first = parts[_SEEK_HEAD], parts[_SEGMENT].start
    body = bytearray(head[table.start : table.end])
    for seek in children(head, table.start, table.end):
        for place in children(head, seek.start, seek.end) if seek.id == _SEEK else ():
            position = int.from_bytes(head[place.start : place.end], "big")
            if place.id == _SEEK_POSITION and parts[_VOID].end <= first + position < parts[_TRACKS].end:
                moved = (position - growth).to_bytes(place.end - place.start, "big")
                body[place.start - table.start : place.end - table.start] = moved
    return _with_checksum(bytes(body))


def _with_checksum(body: bytes) -> bytes:
    """The body of an element, with the CRC-32 in front corrected where there is one."""
    if not body.startswith(_CHECKSUM_HEAD):
        return body
    rest = body[len(_CHECKSUM_HEAD) + 4 :]
    return _CHECKSUM_HEAD + zlib.crc32(rest).to_bytes(4, "little") + rest


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes((value.bit_length() + 7) // 8 or 1, "big"))


def _element(identifier: int, body: bytes, size_length: int = 0) -> bytes:
    """An element: its id with the marker that is a part of it, the length of its body, its body."""
    length = size_length or next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
    size = (len(body) | 1 << 7 * length).to_bytes(length, "big")
    return identifier.to_bytes((identifier.bit_length() + 7) // 8, "big") + size + body
