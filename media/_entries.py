"""Packets at which a fresh decoder may begin, found while packets are read in the order of the file.

From the packets before and at a keyframe follows whether the time stamps are regular, so that none will need
repair, and whether the decoder reaches a known state there: a "keyframe" may be one only by name.
"""

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from media._decoder import StreamDecoder, VideoPacket

# Codecs whose keyframes reset the decoder. In others (GIF, screen recorders, lossless codecs with running
# statistics) a picture flagged so may still build on the ones before it.
_SEEKABLE_CODECS = frozenset(
    {
        *("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "theora"),
        *("wmv1", "wmv2", "msmpeg4v3", "prores", "dnxhd", "mjpeg", "dvvideo", "ffv1", "rawvideo", "huffyuv"),
    }
)

# A demuxer that was sought makes up what the container does not store (times, where pictures begin) from what
# it has read, and differs in the first packets if it does.
_NUM_CHECKED = 8

_H264_IDR, _H264_SEI = 5, 6
_SEI_RECOVERY_POINT = 6


@dataclass(frozen=True)
class Entry:
    """Where a decoder may begin: frames from this packet's on come out as in a read from the file's start.

    Attributes:
        pts: In ticks of the stream.
        size: Bytes of the packet.
        position: Of the packet in the file, in bytes; -1 where the container does not say.
        num_checked: How many packets `check` is of: this one and those behind it.
        check: Of their times, sizes and kinds.
    """

    pts: int
    size: int
    position: int
    num_checked: int
    check: int


class Fingerprint(NamedTuple):
    """What identifies a packet among its neighbours."""

    pts: int
    size: int
    is_key: bool
    is_discard: bool

    @classmethod
    def of(cls, packet: VideoPacket) -> "Fingerprint | None":
        """None where it has no time stamp."""
        if packet.pts is None:
            return None
        return cls(packet.pts, packet.size, packet.is_keyframe, packet.is_discard)

    def add_to(self, check: int) -> int:
        """The check of all packets before and this one."""
        return zlib.crc32(repr(tuple(map(int, self))).encode(), check)


class EntryFinder:
    """Finds the entries among packets, read from the file's start or from an entry on.

    Args:
        codec: Of the video, as `VideoStreamInfo.codec`.
        first_pts: The smallest time stamp that needs no repair (the container's start).
        length_size: Bytes of the length before each H.264 NAL unit (MP4, Matroska); 0 for start codes.
        is_from_start: Whether the first packet is that of the file, which is read without a seek.
        num_skipped: Bytes of the file that packets do not count in their positions.
    """

    def __init__(
        self,
        *,
        codec: str,
        first_pts: int,
        length_size: int = 0,
        is_from_start: bool = True,
        num_skipped: int = 0,
    ) -> None:
        self.is_regular = codec in _SEEKABLE_CODECS
        """Whether every packet had its own pts and decoding times have increased, so far."""
        self.entries: list[Entry] = []
        """Those that are certain, in order. Whoever takes them may remove them."""
        self._is_at_start, self._num_skipped = is_from_start, num_skipped
        self._first_pts, self._is_h264, self._length_size = first_pts, codec == "h264", length_size
        self._pending: deque[Entry] = deque()
        self._last_dts: int | None = None
        self._highest = -(2**62)
        # Times since the last clean keyframe but one; what is shown before that one was read before it.
        self._seen: tuple[set[int], set[int]] = (set(), set())
        self._floors = (-(2**62), -(2**62))

    @classmethod
    def of(cls, decoder: StreamDecoder, *, first_pts: int, is_from_start: bool) -> "EntryFinder":
        """For the packets of a decoder."""
        return cls(
            codec=decoder.codec_name,
            first_pts=first_pts,
            length_size=_nal_length_size(decoder.stream.codec_context.extradata),
            is_from_start=is_from_start,
            num_skipped=decoder.num_skipped,
        )

    def watch(self, decoder: StreamDecoder, packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
        """Pass packets on, and add them."""
        for packet in packets:
            # Behind a break the file's own time stamps, by which it is sought, mean another time.
            self.add(packet, is_behind_break=decoder.has_passed_break)
            yield packet

    def add(self, packet: VideoPacket, *, is_behind_break: bool = False) -> None:
        """The next packet."""
        if not self.is_regular:
            return
        mark = Fingerprint.of(packet)
        if mark is None or is_behind_break or not self._is_in_order(mark, packet.dts):
            self.is_regular = False
            self.entries.clear()
            self._pending.clear()
            return
        self._add_checked(mark)
        # Frames of earlier packets must all be shown before the entry, or they would be missing behind it.
        if mark.pts > self._highest and self._is_clean(packet):
            if not self._is_at_start:
                position = -1 if packet.pos is None else packet.pos + self._num_skipped
                self._pending.append(Entry(mark.pts, mark.size, position, 1, mark.add_to(0)))
            self._seen = (self._seen[1], set())
            self._floors = (self._floors[1], mark.pts)
        self._is_at_start = False
        self._seen[1].add(mark.pts)
        self._highest = max(self._highest, mark.pts)

    def finish(self) -> None:
        """There are no more packets."""
        self.entries += self._pending
        self._pending.clear()

    def _is_in_order(self, mark: Fingerprint, dts: int | None) -> bool:
        is_early = mark.pts < self._first_pts and not mark.is_discard
        is_double = mark.pts < self._floors[0] or any(mark.pts in seen for seen in self._seen)
        if is_early or is_double:
            return False
        if dts is None:
            return True
        last, self._last_dts = self._last_dts, dts
        return (last is None or dts > last) and dts <= mark.pts

    def _is_clean(self, packet: VideoPacket) -> bool:
        if not packet.is_keyframe or packet.is_discard:
            return False
        return not self._is_h264 or h264_is_clean_entry(bytes(packet), self._length_size)

    def _add_checked(self, mark: Fingerprint) -> None:
        for _ in range(len(self._pending)):
            entry = self._pending.popleft()
            entry = Entry(
                entry.pts, entry.size, entry.position, entry.num_checked + 1, mark.add_to(entry.check)
            )
            (self.entries if entry.num_checked >= _NUM_CHECKED else self._pending).append(entry)


def last_before(entries: list[Entry], pts: int) -> Entry | None:
    """The last entry with at least one frame before a time."""
    return next((entry for entry in reversed(entries) if entry.pts < pts), None)


def h264_is_clean_entry(data: bytes, length_size: int) -> bool:
    """Whether decoding may begin at this access unit: an IDR picture, or an exact and immediate recovery
    point.

    Streams with intra refresh mark recovery points that become right only some frames later; FFmpeg calls
    those keyframes too.

    Args:
        data: The packet.
        length_size: Bytes of the length before each NAL unit (MP4, Matroska), or 0 for start codes.
    """
    for unit in _nal_units(data, length_size):
        kind = unit[0] & 0x1F
        if kind == _H264_IDR:
            return True
        if kind == _H264_SEI and _recovers_at_once(unit):
            return True
    return False


def _recovers_at_once(sei: bytes) -> bool:
    """H.264 D.1.8: recovery_frame_cnt 0 is the bit 1, exact_match_flag is the next one."""
    position = 1
    while position + 2 < len(sei):
        kind, size = sei[position], sei[position + 1]
        if kind == _SEI_RECOVERY_POINT:
            return sei[position + 2] & 0xC0 == 0xC0
        if kind == 0xFF or size == 0xFF:  # long messages (encoder settings) come in several bytes
            kind, size, position = _long_header(sei, position)
            if kind == _SEI_RECOVERY_POINT or position >= len(sei):
                return False
            position += size
        else:
            position += 2 + size
    return False


def _long_header(sei: bytes, position: int) -> tuple[int, int, int]:
    values = []
    for _ in range(2):
        value = 0
        while position < len(sei) and sei[position] == 0xFF:
            value += 255
            position += 1
        value += sei[position] if position < len(sei) else 0
        position += 1
        values.append(value)
    return values[0], values[1], position


def _nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    if length_size == 0:
        for part in data.split(b"\x00\x00\x01")[1:]:
            if part:
                yield part
        return
    position = 0
    while position + length_size < len(data):
        size = int.from_bytes(data[position : position + length_size], "big")
        position += length_size
        if data[position : position + size]:
            yield data[position : position + size]
        position += size


def _nal_length_size(extradata: bytes | None) -> int:
    """From an avcC record; 0 where NAL units come with start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 6 and extradata[0] == 1 else 0
