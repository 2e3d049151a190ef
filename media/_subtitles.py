"""Subtitles of a joined file: text becomes the container's own kind, such as MP4's mov_text; what a container
can carry as it is, pictures among it, is copied."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from media._tracks import Peekable, SourceStream, StreamOutcome, TimedPacket

_TIME_BASE = Fraction(1, 1000)

# What a cue without a duration gets when no other follows within it.
_DEFAULT_CUE_MS = 4000

# The style the mov_text encoder starts from when the source has none.
_ASS_STYLE = {
    "Name": "Default",
    "Fontname": "Arial",
    "Fontsize": "18",
    "PrimaryColour": "&Hffffff",
    "SecondaryColour": "&Hffffff",
    "OutlineColour": "&H0",
    "BackColour": "&H0",
    "Bold": "0",
    "Italic": "0",
    "Underline": "0",
    "StrikeOut": "0",
    "ScaleX": "100",
    "ScaleY": "100",
    "Spacing": "0",
    "Angle": "0",
    "BorderStyle": "1",
    "Outline": "1",
    "Shadow": "0",
    "Alignment": "2",
    "MarginL": "10",
    "MarginR": "10",
    "MarginV": "10",
    "Encoding": "0",
}
_DEFAULT_ASS_HEADER = "\n".join(
    [
        "[Script Info]",
        "ScriptType: v4.00+",
        "[V4+ Styles]",
        f"Format: {', '.join(_ASS_STYLE)}",
        f"Style: {','.join(_ASS_STYLE.values())}",
        "[Events]",
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text",
        "",
    ]
).encode()


class Cue(NamedTuple):
    """Text shown for a time, in ms of the output."""

    start: int
    end: int
    """Not included; None of the cue is shown then."""
    style: bytes
    """The ASS event fields before the text."""
    text: bytes
    """With ASS override tags and \\N line breaks."""


def flatten_cues(cues: Sequence[Cue]) -> list[Cue]:
    """Cues that follow one another without overlap, showing the same text at every moment.

    An MP4 text track shows one sample at a time, and each lasts until the next begins. Where source cues
    overlap, the shared time gets a cue with the lines of both, the earlier one on top.

    Args:
        cues: In any order; those without length are left out.
    """
    shown = sorted((cue for cue in cues if cue.end > cue.start), key=lambda cue: (cue.start, cue.end))
    edges = sorted({cue.start for cue in shown} | {cue.end for cue in shown})
    flat: list[Cue] = []
    active: list[Cue] = []
    upcoming = iter(shown)
    following = next(upcoming, None)
    for start, end in pairwise(edges):
        active = [cue for cue in active if cue.end > start]
        while following is not None and following.start <= start:
            active.append(following)
            following = next(upcoming, None)
        if active:
            text = b"\\N".join(cue.text for cue in active)
            flat.append(Cue(start, end, active[0].style, text))
    return flat


class ConvertedSubtitle:
    """A text subtitle stream in another format. Its cues are few and small, so they are read at once.

    Args:
        source: The stream.
        encoder: `mov_text`, `srt` or `webvtt`.
    """

    def __init__(self, source: SourceStream, *, encoder: str = "mov_text") -> None:
        assert isinstance(source.stream, SubtitleStream)
        self._source = source
        self._encoder_name = encoder
        self._num_bad_packets = 0
        self._cues = flatten_cues(self._read_cues(source.stream))

    @property
    def is_empty(self) -> bool:
        """Whether no text is shown in the range."""
        return not self._cues

    def add_to(self, output: OutputContainer) -> None:
        """Add the stream."""
        self._output = output.add_stream(self._encoder_name)
        assert isinstance(self._output, SubtitleStream)
        self._output.time_base = _TIME_BASE
        self._encoder = self._output.codec_context
        assert isinstance(self._encoder, SubtitleCodecContext)
        self._encoder.time_base = _TIME_BASE
        context = self._source.stream.codec_context
        header = context.subtitle_header if isinstance(context, SubtitleCodecContext) else None
        # The encoder reads the header as a C string.
        self._encoder.subtitle_header = (header or _DEFAULT_ASS_HEADER).rstrip(b"\0") + b"\0"
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """One packet per cue."""
        for cue in self._cues:
            text = cue.style + cue.text
            packet = self._encoder.encode_subtitle(
                SubtitleSet.create(text, 0, cue.end - cue.start, cue.start)
            )
            packet.pts = packet.dts = cue.start
            packet.duration = cue.end - cue.start
            packet.time_base = _TIME_BASE
            packet.stream = self._output
            yield TimedPacket(cue.start / 1000, packet)

    def outcome(self) -> StreamOutcome:
        """Converted, and what could not be read."""
        notes = [f"to {self._encoder_name}"]
        if self._num_bad_packets:
            notes.append(f"{self._num_bad_packets} unreadable cues left out")
        if self._source.error:
            notes.append(self._source.error)
        return StreamOutcome(
            self._source.index, "subtitle", self._source.codec_name, "converted", "; ".join(notes)
        )

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def _read_cues(self, stream: SubtitleStream) -> list[Cue]:
        output_range = self._source.output_range
        open_ended: list[tuple[int, int | None, bytes]] = []
        for packet in self._source.packets():
            if packet.pts is None:
                continue
            start = packet.pts * packet.time_base - output_range.zero
            if output_range.is_after_end(start):
                break
            try:
                events, display_ms = _decode(stream, packet)
            except av.FFmpegError:
                self._num_bad_packets += 1
                continue
            start_ms = round(start * 1000)
            length = round((packet.duration or 0) * packet.time_base * 1000) or display_ms
            open_ended += [(start_ms, start_ms + length if length else None, event) for event in events]
        limit = None if output_range.duration is None else round(output_range.duration * 1000)
        return list(_clip(open_ended, limit))


class CopiedSubtitle:
    """A subtitle stream whose packets are passed on bit for bit, those that begin in the range."""

    def __init__(self, source: SourceStream) -> None:
        self._source = source
        self._in_range = Peekable(self._shift())

    @property
    def is_empty(self) -> bool:
        """Whether no packet lies in the range."""
        return self._in_range.is_empty

    def add_to(self, output: OutputContainer) -> None:
        """Add the stream."""
        self._output = output.add_stream_from_template(self._source.stream, opaque=True)
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """The source's packets of the range, shifted."""
        for packet in self._in_range:
            packet.stream = self._output
            assert packet.dts is not None
            yield TimedPacket(float(packet.dts * packet.time_base), packet)

    def outcome(self) -> StreamOutcome:
        """Copied."""
        return StreamOutcome(
            self._source.index, "subtitle", self._source.codec_name, "copied", self._source.error or ""
        )

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def _shift(self) -> "Iterator[Packet[Stream]]":
        output_range = self._source.output_range
        previous = -1
        for packet in self._source.packets():
            if packet.pts is None:
                continue
            position = packet.pts - output_range.shift(packet.time_base)
            if output_range.is_after_end(position * packet.time_base):
                return
            if position < 0:
                continue
            # Several may begin together; a muxer wants decoding times that do not fall.
            previous = max(previous, position)
            packet.pts, packet.dts = position, previous
            yield packet


def _decode(stream: SubtitleStream, packet: "Packet[Stream]") -> tuple[list[bytes], int | None]:
    """The ASS events of a packet, and how long they show (ms) if the decoder knows."""
    decoded = stream.decode2(packet)
    if decoded is None:
        return [], None
    events = [rect.ass for rect in decoded if isinstance(rect, AssSubtitle)]
    end = decoded.end_display_time
    return events, end if 0 < end < 0xFFFFFFFF else None


def _clip(events: list[tuple[int, int | None, bytes]], limit: int | None) -> Iterator[Cue]:
    """Cues within 0 and the limit (ms); one without an end lasts until the next starts, but not for ever."""
    for position, (start, given_end, event) in enumerate(events):
        end = given_end
        if end is None:
            next_start = next((later[0] for later in events[position + 1 :] if later[0] > start), None)
            end = min(
                start + _DEFAULT_CUE_MS, next_start if next_start is not None else start + _DEFAULT_CUE_MS
            )
        if limit is not None:
            end = min(end, limit)
        fields = event.split(b",", 8)
        if end <= 0 or len(fields) < 9 or not fields[8].strip():
            continue
        yield Cue(max(0, start), end, b",".join(fields[:8]) + b",", fields[8].rstrip(b"\r\n"))
