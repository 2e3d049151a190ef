"""Starting in the middle of a file with exactly the frames, bit for bit, that reading from the start gives.

A plain seek does not: in MPEG-TS and MPEG-PS it lands between keyframes every time, with intra refresh there
is no keyframe to land on, and a "keyframe" may be one only by name. So the packets before the wanted time are
listed first (no decoding: about 100 000 per second). From the list follows whether the time stamps are
regular, and at which packet a fresh decoder reaches a known state. After the seek the packets that come are
compared with the list, one by one, and decoding begins at that very packet. Where anything differs the answer
is "read from the start", which is always right.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import av
from av.video.frame import VideoFrame

from media._decoder import StreamDecoder, VideoPacket

# Codecs whose keyframes reset the decoder. In others (GIF, screen recorders, lossless codecs with running
# statistics) a picture flagged so may still build on the ones before it.
_SEEKABLE_CODECS = frozenset(
    {
        *("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "theora"),
        *("wmv1", "wmv2", "msmpeg4v3", "prores", "dnxhd", "mjpeg", "dvvideo", "ffv1", "rawvideo", "huffyuv"),
    }
)

# How far before the keyframe to aim when aiming at it lands behind it, in seconds.
_BACK_OFF_SECONDS = (0, 1, 2, 4, 8)

_H264_IDR, _H264_SEI = 5, 6
_SEI_RECOVERY_POINT = 6


class Fingerprint(NamedTuple):
    """What identifies a packet among its neighbours."""

    pts: int
    size: int
    is_key: bool
    is_discard: bool


@dataclass
class PacketList:
    """The packets of a stream in file order, as far as they were listed."""

    pts: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    flags: bytearray = field(default_factory=bytearray)
    entries: "array[int]" = field(default_factory=lambda: array("q"))
    """Numbers of the packets at which a fresh decoder may begin, ascending."""
    is_regular: bool = True
    """Every packet has its own pts, and decoding times increase: no time stamp will need repair."""

    def __len__(self) -> int:
        return len(self.pts)

    def fingerprint(self, number: int) -> Fingerprint:
        """Of one packet."""
        flags = self.flags[number]
        return Fingerprint(self.pts[number], self.sizes[number], bool(flags & 1), bool(flags & 2))

    def append(self, mark: Fingerprint, *, is_entry: bool) -> None:
        """Add the next packet."""
        if is_entry:
            self.entries.append(len(self.pts))
        self.pts.append(mark.pts)
        self.sizes.append(mark.size)
        self.flags.append(mark.is_key | mark.is_discard << 1)


def list_packets(decoder: StreamDecoder, *, until_pts: int, first_pts: int) -> PacketList:
    """List a stream's packets from the start of the file until all before `until_pts` have been seen.

    Args:
        decoder: Fresh: nothing read yet.
        until_pts: In ticks of the stream.
        first_pts: The smallest time stamp that needs no repair (the container's start).
    """
    listed = PacketList()
    is_h264 = decoder.codec_name == "h264"
    length_size = _nal_length_size(decoder.stream.codec_context.extradata) if is_h264 else 0
    last_dts: int | None = None
    for packet in decoder.packets():
        is_early = packet.pts is not None and packet.pts < first_pts and not packet.is_discard
        # Behind a break the file's own time stamps, by which it is sought, mean another time.
        if packet.pts is None or is_early or decoder.has_passed_break:
            listed.is_regular = False
            break
        is_entry = packet.is_keyframe and not packet.is_discard
        if is_entry and is_h264:
            is_entry = h264_is_clean_entry(bytes(packet), length_size)
        listed.append(_fingerprint(packet), is_entry=is_entry)
        if packet.dts is not None:
            if (last_dts is not None and packet.dts <= last_dts) or packet.dts > packet.pts:
                listed.is_regular = False
                break
            last_dts = packet.dts
            if packet.dts > until_pts:
                break
    if decoder.is_cut_off or len(set(listed.pts)) < len(listed):
        listed.is_regular = False
    return listed


def choose_entry(listed: PacketList, *, before_pts: int, codec: str) -> int | None:
    """The packet to begin decoding at so that all frames from `before_pts` on come out as in a full read.

    At least one frame earlier than `before_pts` is decoded too.

    Returns:
        The packet's number; None where only reading from the start is sure.
    """
    if not listed.is_regular or codec not in _SEEKABLE_CODECS:
        return None
    highest_before = array("q")
    highest = -(2**62)
    for pts in listed.pts:
        highest_before.append(highest)
        highest = max(highest, pts)
    for number in reversed(listed.entries):
        if number == 0:
            return None
        # Frames of earlier packets must all be shown before the entry, or they would be missing behind it.
        if highest_before[number] < listed.pts[number] < before_pts:
            return number
    return None


def seek_to_entry(decoder: StreamDecoder, listed: PacketList, entry: int) -> Iterator[VideoFrame] | None:
    """Frames from a listed packet on; each packet is compared with the list as far as that goes.

    Args:
        decoder: Fresh: nothing decoded yet.
        listed: From `list_packets`.
        entry: From `choose_entry`.

    Returns:
        The frames, or None where seeking does not lead to the entry.

    Raises:
        PacketMismatchError: Raised while iterating, when a packet is not the listed one, or damaged.
    """
    time_base = decoder.stream.time_base
    if time_base is None:
        return None
    goal = listed.fingerprint(entry)
    for back_off in _BACK_OFF_SECONDS:
        try:
            decoder.container.seek(int(goal.pts - back_off / time_base), stream=decoder.stream)
        except (av.FFmpegError, OSError):
            continue
        packets = decoder.packets()
        for packet in packets:
            if packet.pts is not None and _fingerprint(packet) == goal:
                return _undamaged(decoder, _compared(packet, packets, listed, entry), goal.pts)
            if packet.dts is not None and packet.dts > goal.pts:
                break
    return None


class PacketMismatchError(Exception):
    """Raised when, after a seek, the file gives other packets than it gave from the start, or damage."""


def _compared(
    first: VideoPacket, rest: Iterator[VideoPacket], listed: PacketList, entry: int
) -> Iterator[VideoPacket]:
    yield first
    for number, packet in enumerate(rest, start=entry + 1):
        if number < len(listed) and (
            packet.pts is None or _fingerprint(packet) != listed.fingerprint(number)
        ):
            raise PacketMismatchError
        yield packet


def _undamaged(
    decoder: StreamDecoder, packets: Iterator[VideoPacket], entry_pts: int
) -> Iterator[VideoFrame]:
    """Frames of packets from an entry on, up to the first damage: what a decoder makes of that depends on
    what it has decoded before.

    Raises:
        PacketMismatchError: There is damage, perhaps at the entry itself.
    """
    has_begun = False
    for frame in decoder.decode(packets):
        has_begun |= frame.key_frame
        # What is shown before the entry but stored behind it lacks what it refers to.
        is_leading = not has_begun and frame.pts is not None and frame.pts < entry_pts
        is_damaged = decoder.first_error is not None or frame.is_corrupt or not has_begun
        if is_damaged and not is_leading:
            raise PacketMismatchError
        yield frame


def _fingerprint(packet: VideoPacket) -> Fingerprint:
    assert packet.pts is not None
    return Fingerprint(packet.pts, packet.size, packet.is_keyframe, packet.is_discard)


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
