"""Starting in the middle of a file with exactly the frames, bit for bit, that reading from the start gives.

A plain seek does not: in MPEG-TS and MPEG-PS it lands between keyframes every time, with intra refresh there
is no keyframe to land on, and a "keyframe" may be one only by name. So decoding begins at an entry that was
found by reading packets (`_entries.py`), and the first packets that come after the seek are compared with
those that came then. Where anything differs the answer is "read from the start", which is always right.
"""

from collections.abc import Iterator
from itertools import chain

import av
from av.video.frame import VideoFrame

from media._decoder import StreamDecoder, VideoPacket
from media._entries import Entry, EntryFinder, Fingerprint, last_before

# How far before the keyframe to aim when aiming at it lands behind it, in seconds.
_BACK_OFF_SECONDS = (0, 1, 2, 4, 8)

# The same in bytes: the packet may begin in the middle of what the container packs.
_BACK_OFF_BYTES = (0, 1 << 16)

# Without an index FFmpeg looks for a time by reading, all of the file in some. A byte is found at once, and
# these go on from any packet.
_SOUGHT_BY_BYTE = frozenset({"mpegts", "mpeg", "flv"})


def find_entry(decoder: StreamDecoder, *, before_pts: int, until_pts: int, first_pts: int) -> Entry | None:
    """The last entry before a time, by reading all packets up to it; no decoding, about 100 000 per second.

    Args:
        decoder: Fresh: nothing read yet.
        before_pts: At least one frame earlier than this is behind the entry. In ticks of the stream.
        until_pts: As far the time stamps have to be regular.
        first_pts: As for `EntryFinder`.

    Returns:
        None where only reading from the start is sure.
    """
    finder = EntryFinder.of(decoder, first_pts=first_pts, is_from_start=True)
    for packet in finder.watch(decoder, decoder.packets()):
        if not finder.is_regular:
            return None
        if packet.dts is not None and packet.dts > until_pts:
            break
    finder.finish()
    return None if decoder.is_cut_off else last_before(finder.entries, before_pts)


def seek_to_entry(decoder: StreamDecoder, entry: Entry) -> Iterator[VideoPacket] | None:
    """Packets from an entry on.

    Args:
        decoder: Fresh: nothing decoded yet.
        entry: Of the same file.

    Returns:
        None where seeking does not lead to it.
    """
    for offset, is_byte in _places(decoder, entry):
        try:
            if decoder.num_skipped:
                pass  # what lies before is not there
            elif is_byte:
                decoder.container.seek(offset, unsupported_byte_offset=True, stream=decoder.stream)
            else:
                decoder.container.seek(offset, stream=decoder.stream)
        except (av.FFmpegError, OSError):
            continue
        packets = decoder.packets()
        first = _checked(packets, entry)
        if first is not None:
            return chain(first, packets)
    return None


def _places(decoder: StreamDecoder, entry: Entry) -> Iterator[tuple[int, bool]]:
    """Where to aim, in bytes or in ticks of the stream."""
    if decoder.container.format.name in _SOUGHT_BY_BYTE and entry.position >= 0:
        for back_off in _BACK_OFF_BYTES:
            yield max(0, entry.position - back_off), True
    time_base = decoder.stream.time_base
    if time_base is not None:
        for back_off in _BACK_OFF_SECONDS:
            yield int(entry.pts - back_off / time_base), False


def _checked(packets: Iterator[VideoPacket], entry: Entry) -> list[VideoPacket] | None:
    """The entry's packet and those behind it that were compared; None where others come."""
    found: list[VideoPacket] = []
    check = 0
    for packet in packets:
        mark = Fingerprint.of(packet)
        if found or (mark is not None and mark.is_key and (mark.pts, mark.size) == (entry.pts, entry.size)):
            if mark is None:
                return None
            found.append(packet)
            check = mark.add_to(check)
            if len(found) == entry.num_checked:
                return found if check == entry.check else None
        elif packet.dts is not None and packet.dts > entry.pts:
            return None
    return None


class PacketMismatchError(Exception):
    """Raised when, after a seek, the file gives other packets than it gave from the start, or damage."""


def undamaged(decoder: StreamDecoder, packets: Iterator[VideoPacket], entry_pts: int) -> Iterator[VideoFrame]:
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
