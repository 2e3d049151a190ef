"""Audio that the container can carry as it is: copied packet by packet into the joined file."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from media._tracks import SOUND_BEHIND_PICTURE, Peekable, SourceStream, StreamOutcome, TimedPacket

# A decoder needs some packets before the one it is to play: AAC and AC-3 one, MP3 up to nine (bit
# reservoir), Opus 80 ms. The player decodes them and shows nothing: the edit list starts behind them.
_PREROLL_SECONDS = Fraction(1, 10)

# Milliseconds (MKV, FLV) put frames of 1024 samples up to half a tick off; these tell their true length.
_FRAME_SIZES = {"aac": (1024, 2048), "mp3": (1152, 576), "ac3": (1536,), "eac3": (1536,)}


class CopiedAudio:
    """An audio stream whose packets are passed on bit for bit.

    A range is cut at packets; the player skips what lies before its start, so it begins on the exact
    sample, and ends within one packet (20-30 ms) after its end.

    Args:
        source: The stream.
        starts_at_zero: Leave out what ends before 0, for containers that cannot say "not to be heard".
    """

    def __init__(self, source: SourceStream, *, starts_at_zero: bool = False) -> None:
        self._source = source
        self._starts_at_zero = starts_at_zero
        self._num_skipped = 0
        self._is_cut_short = False
        assert isinstance(source.stream, AudioStream)
        self._rate = source.stream.codec_context.sample_rate
        # AAC from MPEG-TS carries its settings in front of every packet (ADTS) and MP4 wants them once, in
        # the header. No out_stream here: the filter would copy its codec_tag, and then the header is
        # refused.
        is_adts = source.codec_name == "aac" and not source.stream.codec_context.extradata
        self._filter = BitStreamFilterContext("aac_adtstoasc", source.stream) if is_adts else None

        self._in_range = Peekable(self._shift())

    @property
    def is_empty(self) -> bool:
        """Whether there is no packet in the range."""
        return self._in_range.is_empty

    def add_to(self, output: OutputContainer) -> None:
        """Add the output stream."""
        self._output = output.add_stream_from_template(self._source.stream)
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """The source's packets of the range, shifted."""
        for packet in self._in_range:
            packet.stream = self._output
            assert packet.dts is not None
            yield TimedPacket(float(packet.dts * packet.time_base), packet)

    def _shift(self) -> "Iterator[Packet[Stream]]":
        """Packets of the range with output times, in samples: source ticks may be as coarse as a frame
        (AVI)."""
        output_range = self._source.output_range
        preroll = round(_PREROLL_SECONDS * self._rate)
        previous: int | None = None
        end = 0  # of the previous packet
        for packet in self._source.packets():
            tick = packet.time_base * self._rate
            position, length = self._place(packet, end), self._length(packet, tick)
            if previous is not None and 2 * abs(position - end) <= tick:
                position = end  # no hole and no overlap, only a time stamp that cannot tell
            begin = Fraction(position, self._rate)
            if output_range.is_after_end(begin):
                return
            if output_range.is_hole_behind_picture(Fraction(end, self._rate), begin):
                self._is_cut_short = True
                return
            if previous is not None and position <= previous:
                self._num_skipped += 1
                continue
            previous, end = position, position + length
            if self._starts_at_zero and end <= 0:
                continue
            if output_range.is_cut and end <= -preroll:
                continue
            for ready in self._strip_adts(packet):
                ready.pts = ready.dts = position
                ready.duration = length
                ready.time_base = Fraction(1, self._rate)
                yield ready

    def _place(self, packet: "Packet[Stream]", end: int) -> int:
        """A packet's start on the time line, in samples; right behind the previous one if untimed."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None:
            return end
        position = round((ticks * packet.time_base - self._source.output_range.zero) * self._rate)
        # MKV rounds the -1024 samples of AAC's priming to -21 ms but also says how many samples to skip.
        skipped = _skipped_samples(packet)
        if skipped and abs(position + skipped) <= packet.time_base * self._rate:
            return -skipped
        return position

    def _length(self, packet: "Packet[Stream]", tick: Fraction) -> int:
        """A packet's length in samples: exact where the codec has fixed frames, else what the container
        says."""
        told = (packet.duration or 0) * tick
        for frame_size in _FRAME_SIZES.get(self._source.codec_name, ()):
            if told == 0 or abs(told - frame_size) <= tick:
                return frame_size
        return round(told)

    def _strip_adts(self, packet: "Packet[Stream]") -> "list[Packet[Stream]]":
        if self._filter is None:
            return [packet]
        try:
            return self._filter.filter(packet)
        except av.FFmpegError:
            self._num_skipped += 1
            return []

    def outcome(self) -> StreamOutcome:
        """Copied, and what could not be."""
        notes = []
        if self._num_skipped:
            notes.append(f"{self._num_skipped} damaged or repeated packets left out")
        if self._is_cut_short:
            notes.append(SOUND_BEHIND_PICTURE)
        if self._source.error:
            notes.append(self._source.error)
        return StreamOutcome(self._source.index, "audio", self._source.codec_name, "copied", "; ".join(notes))

    def close(self) -> None:
        """Release the source."""
        self._source.close()


def _skipped_samples(packet: "Packet[Stream]") -> int:
    """How many samples at a packet's start are not to be heard: the decoder's delay."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")
