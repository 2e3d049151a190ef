"""What every stream of a joined file has in common: a place on the output's time line, an outcome, and
packets in order."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import av
from av.codec.context import CodecContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from media._decoder import shift_packet
from media._open import open_input
from media._output_range import OutputRange
from media._quicktime_languages import quicktime_spelling
from media._time_line import MAX_GAP_SECONDS, SoundFollower, find_stretch
from media.info import MediaInfo

Item = TypeVar("Item")
Action = Literal["copied", "transcoded", "converted", "dropped"]

# Metadata of a stream that MP4 has a place for and that stays true in the new file; the rest of what
# containers store per stream ("BPS", "DURATION", "ENCODER") describes the old one.
_STREAM_METADATA = ("language", "title", "handler_name")

# A seek lands on some packet at or before the asked time in most containers, but in MPEG-TS and PS it is an
# estimate from the bit rate. Aim this much earlier, and check.
_SEEK_MARGIN_SECONDS = 10

SOUND_BEHIND_PICTURE = "what begins after a hole behind the last picture is left out"

# So many packets with one and the same time stamp have none (RealAudio).
_NUM_STUCK_PACKETS = 8


@dataclass(frozen=True)
class StreamOutcome:
    """What became of one stream of the source file."""

    index: int
    """In the source file."""
    type: str
    """"video", "audio", "subtitle", "data" or "attachment"."""
    codec: str
    action: Action
    detail: str = ""


class TimedPacket(NamedTuple):
    """A packet ready to be muxed, and its decoding time on the output's time line, by which tracks are
    merged."""

    seconds: float
    packet: "Packet[Any]"


class OutputPart(Protocol):
    """Something that becomes a stream of the output file."""

    def add_to(self, output: OutputContainer) -> None:
        """Add the output stream; before the header is written."""

    def packets(self) -> Iterator[TimedPacket]:
        """The stream's packets in decoding order, read lazily."""


class Track(OutputPart, Protocol):
    """An output stream made from one of the source."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the stream lies in the range; such a track is left out."""

    def outcome(self) -> StreamOutcome:
        """What happened to the stream; complete once the packets are used up."""

    def close(self) -> None:
        """Release the source."""


def decoder_of(stream: Stream) -> CodecContext | None:
    """The stream's decoder, None where this build has none (PyAV's type stubs promise one)."""
    return stream.codec_context


def codec_name(stream: Stream) -> str:
    """The codec's own name ("mp3"), not that of the decoder in use ("mp3float")."""
    decoder = decoder_of(stream)
    if decoder is not None:
        return decoder.codec.canonical_name
    return stream.metadata.get("mimetype") or getattr(stream, "name", None) or "unknown"


class Peekable(Generic[Item]):
    """An iterator that can say whether it has anything to give, by taking its first item early."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._first = list(islice(self._items, 1))

    @property
    def is_empty(self) -> bool:
        """Whether there was no first item."""
        return not self._first

    def __iter__(self) -> Iterator[Item]:
        return chain(self._first, self._items)


class SourceStream:
    """One stream of the source in a container of its own.

    Every track reads the file for itself: then a badly interleaved file (all audio behind all video) needs
    no more memory than a good one, since no track has to hold packets back for another.

    Args:
        source: The source file.
        index: Which stream.
        output_range: Part of the source to read; packets well before it may be skipped by seeking.
    """

    def __init__(self, source: MediaInfo, index: int, output_range: OutputRange) -> None:
        self._source = source
        self.container, self.stream = _open_stream(source, index)
        self.output_range = output_range
        self.index = index
        self.error: str | None = None
        """Why reading ended early, if it did."""
        self._follower = SoundFollower(output_range.stretches)
        # Behind a break the file's own time stamps, by which it is sought, mean another time.
        can_seek = output_range.is_cut and not output_range.stretches
        if can_seek and not self._seek_before(output_range.zero):
            self.container.close()
            self.container, self.stream = _open_stream(source, index)

    def reopened(self) -> Self:
        """The same part of the same stream, to be read independently. Close it too."""
        return type(self)(self._source, self.index, self.output_range)

    @property
    def codec_name(self) -> str:
        """The codec's own name."""
        return codec_name(self.stream)

    def packets(self) -> "Iterator[Packet[Stream]]":
        """All packets with data, from some time before the range on, with times on the source's line.

        Ends early, with `error` set, where the file is damaged.
        """
        packets = self._raw_packets()
        if self.stream.type == "audio":
            packets = without_stuck_times(packets)
        for packet in packets:
            self._put_on_line(packet)
            yield packet

    def packets_of_range(self) -> "Iterator[Packet[Stream]]":
        """The packets up to the end of the range."""
        for packet in self.packets():
            if packet.pts is not None and self.output_range.is_after_end(
                packet.pts * packet.time_base - self.output_range.zero
            ):
                return
            yield packet

    def _raw_packets(self) -> "Iterator[Packet[Stream]]":
        try:
            for packet in self.container.demux(self.stream):
                if packet.size > 0:
                    yield packet
        except IndexError:
            # PyAV's last, empty packets, one per stream, stumble over streams that an MPEG-TS showed only
            # after it was opened. Nothing is missing.
            return
        except av.FFmpegError as error:
            self.error = f"the source cannot be read to its end ({error.strerror})"

    def _put_on_line(self, packet: "Packet[Stream]") -> None:
        stretches = self.output_range.stretches
        ticks = packet.pts if packet.pts is not None else packet.dts
        if not stretches or ticks is None:
            return
        start = ticks * packet.time_base
        if (packet.duration or 0) * packet.time_base > MAX_GAP_SECONDS:
            packet.duration = 0  # MP4 lets the last packet before a gap last until the next one
        if self.stream.type == "audio":
            shift = self._follower.shift(start, (packet.duration or 0) * packet.time_base, packet.pos)
        else:  # too sparse to tell by what came before
            shift = stretches[find_stretch(stretches, start, packet.pos)].shift_seconds
        shift_packet(packet, shift)

    def copy_properties(self, output: Stream) -> None:
        """Give an output stream the language, title and disposition of this one."""
        tags = {key.lower(): value for key, value in self.stream.metadata.items()}
        output.metadata.update({key: tags[key] for key in _STREAM_METADATA if key in tags})
        if output.container.format.name == "mov" and "language" in tags:
            output.metadata["language"] = quicktime_spelling(tags["language"])
        if "title" in tags:
            # MP4 players list tracks by their handler's name; few read the title box.
            output.metadata["handler_name"] = tags["title"]
        output.disposition = self.stream.disposition

    def close(self) -> None:
        """Close the source file."""
        self.container.close()

    def _seek_before(self, seconds: Fraction) -> bool:
        """Go to some packet before a time. False: the position is not usable, read from the start instead."""
        target = seconds - _SEEK_MARGIN_SECONDS
        time_base = self.stream.time_base
        if time_base is None or target <= 0:
            return True
        with contextlib.suppress(av.FFmpegError, OSError):
            self.container.seek(int(target / time_base), stream=self.stream)
            first = next(self._raw_packets(), None)
            if first is not None and first.pts is not None and first.pts * time_base < seconds:
                self.container.seek(int(target / time_base), stream=self.stream)
                return True
        return False


def without_stuck_times(packets: "Iterator[Packet[Stream]]") -> "Iterator[Packet[Stream]]":
    """The packets, untimed but for the first where the file gives all of them the same time."""
    head = list(islice(packets, _NUM_STUCK_PACKETS))
    is_stuck = len(head) == _NUM_STUCK_PACKETS and len({packet.pts for packet in head}) == 1
    last: int | None = None
    for packet in chain(head, packets):
        if is_stuck and packet.pts == last:
            packet.pts = packet.dts = None
        else:
            last = packet.pts
        yield packet


def _open_stream(source: MediaInfo, index: int) -> tuple[InputContainer, Stream]:
    container = open_input(source.path, analysed_bytes=source.analysed_bytes)
    for stream in container.streams:
        if stream.index != index:
            stream.discard = Discard.all  # lets seeking formats skip the other streams' data unread
    return container, container.streams[index]
