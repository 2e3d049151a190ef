"""One pass over a file's packets before it is read: where its clock jumps, and what changes on the way."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from media._decoder import refuse_encrypted
from media._open import open_input
from media._picture_changes import ChangeFinder, PicturePart
from media._time_line import (
    MAX_STRETCHES,
    RunFinder,
    TimeLine,
    has_decoding_times,
    packet_time,
    plan_time_line,
)
from media.limits import InputLimits

# Files up to this size are read whole: half a second from a disk. Larger ones are too, unless they have an
# index of the video that goes on steadily to its end, as MP4 and AVI do.
_READ_ANYWAY_BYTES = 64 << 20

# Their times are delays between pictures, of any length, and there is no sound.
_PICTURE_FORMATS = frozenset({"gif", "apng"})

_WRAPPING = "mpegts"
_MAX_INDEX_GAP_SECONDS = 10
_MAX_SOUND_SECONDS = 200_000
_MIN_STUCK_PACKETS = 8


@dataclass(frozen=True)
class Survey:
    """What the packets tell.

    Attributes:
        line: Of all streams.
        num_frames: Video packets.
        is_untimed: Whether all of them have the same time stamp.
        parts: Of the video, each with pictures of one kind, in order; one where nothing changes.
    """

    line: TimeLine
    num_frames: int
    is_untimed: bool
    parts: tuple[PicturePart, ...]


def survey(
    path: Path,
    index: int,
    *,
    interval: Fraction,
    other_programmes: tuple[int, ...],
    keep_gaps: bool,
    limits: InputLimits,
) -> Survey | None:
    """Read all packets of the video and of its sound, without decoding more than a few pictures.

    Args:
        path: The file.
        index: Of the video.
        interval: Seconds from frame to frame.
        other_programmes: Streams that do not count.
        keep_gaps: As for `plan_time_line`.
        limits: For opening and decoding.

    Raises:
        UnsupportedCodecError: The video is encrypted.

    Returns:
        What was found; None where there is nothing to find, or time stamps are too damaged to tell.
    """
    with open_input(path, limits=limits) as container:
        name = container.format.name
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        if name in _PICTURE_FORMATS or name.endswith("_pipe"):
            return None
        if path.stat().st_size > _READ_ANYWAY_BYTES and _has_steady_index(container, stream):
            return None
        used = [stream, *(s for s in container.streams.audio if s.index not in other_programmes)]
        for other in container.streams:
            if other not in used:
                other.discard = Discard.all
        is_timed = has_decoding_times(name)
        runs = RunFinder(interval=interval, has_decoding_times=is_timed)
        changes = ChangeFinder(stream, limits=limits)
        sound_seconds: set[int] = set()
        for packet in read_packets(container, used):
            if isinstance(packet.stream, AudioStream):
                if packet.pts is not None and len(sound_seconds) < _MAX_SOUND_SECONDS:
                    sound_seconds.add(int(packet.pts * packet.time_base))
            else:
                refuse_encrypted(packet, path)
                _add_video(runs, packet, interval, has_decoding_times=is_timed)
                changes.add(packet)
    if not runs.runs or len(runs.runs) > MAX_STRETCHES:
        return None
    line = plan_time_line(
        runs.runs, sound_seconds=sound_seconds, is_wrapping=name == _WRAPPING, keep_gaps=keep_gaps
    )
    is_untimed = changes.num_frames >= _MIN_STUCK_PACKETS and runs.is_stuck
    return Survey(line, changes.num_frames, is_untimed, tuple(changes.parts))


def read_packets(container: InputContainer, streams: list[Stream]) -> "Iterator[Packet[Stream]]":
    """Packets with data until the file ends or cannot be read on."""
    try:
        for packet in container.demux(streams):
            if packet.size:
                yield packet
    except (IndexError, av.FFmpegError, OSError):
        # PyAV's last, empty packets stumble over streams that a transport stream showed late.
        return


def _add_video(
    runs: RunFinder, packet: "Packet[Stream]", interval: Fraction, *, has_decoding_times: bool
) -> None:
    time = packet_time(packet, has_decoding_times=has_decoding_times)
    if time is None or packet.is_discard:
        return
    begin = (packet.pts if packet.pts is not None else time) * packet.time_base
    stated = (packet.duration or 0) * packet.time_base
    # A stated duration that reaches over a gap is the gap.
    length = stated if 0 < stated <= 2 * interval else interval
    runs.add(time * packet.time_base, begin, begin + length, packet.pos or 0)


def _has_steady_index(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the file's index shows that the clock of the video goes on to the end."""
    entries = stream.index_entries
    if len(entries) < 2 or stream.time_base is None or container.duration is None:
        return False
    seconds = [entry.timestamp * stream.time_base for entry in entries]
    if any(not 0 <= later - earlier <= _MAX_INDEX_GAP_SECONDS for earlier, later in pairwise(seconds)):
        return False
    length = Fraction(container.duration, 1_000_000)
    return seconds[-1] - seconds[0] >= length - _MAX_INDEX_GAP_SECONDS
