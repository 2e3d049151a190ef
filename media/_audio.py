"""Audio of a joined file: copied packet by packet where MP4 carries it, encoded to AAC where not."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from media._tracks import Peekable, SourceStream, StreamOutcome, TimedPacket

Samples = NDArray[np.float32]
"""(channels, n), [-1, 1]"""

# MP4 also accepts vorbis and dts, which hardly anything plays from MP4, and mp2, likewise.
COPIED_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})

# A decoder needs some packets before the one it is to play: AAC and AC-3 one, MP3 up to nine (bit
# reservoir), Opus 80 ms. The player decodes them and shows nothing: the edit list starts behind them.
_PREROLL_SECONDS = Fraction(1, 10)

# Time stamps in milliseconds jitter by half a tick, some muxers' by a few; more than this is a real hole or
# overlap.
_GAP_SECONDS = Fraction(1, 100)

# Milliseconds (MKV, FLV) put frames of 1024 samples up to half a tick off; these tell their true length.
_FRAME_SIZES = {"aac": (1024, 2048), "mp3": (1152, 576), "ac3": (1536,), "eac3": (1536,)}

_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_BITS_PER_CHANNEL = {1: 96_000, 2: 96_000, 6: 64_000}
_LAYOUT_BY_CHANNELS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def mp4_takes(source: SourceStream) -> bool:
    """Whether the stream's packets can go into an MP4 as they are.

    The codec's name is not enough: MP3 below 16 kHz, for one, passes until the header is written. So a
    header is written, to memory.
    """
    if source.codec_name not in COPIED_CODECS:
        return False
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            trial.add_stream_from_template(source.stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


class CopiedAudio:
    """An audio stream whose packets are passed on bit for bit.

    A range is cut at packets; the player skips what lies before its start, so it begins on the exact
    sample, and ends within one packet (20-30 ms) after its end.
    """

    def __init__(self, source: SourceStream) -> None:
        self._source = source
        self._num_skipped = 0
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
        timeline = self._source.timeline
        preroll = round(_PREROLL_SECONDS * self._rate)
        previous: int | None = None
        end = 0  # of the previous packet
        for packet in self._source.packets():
            tick = packet.time_base * self._rate
            position, length = self._place(packet, end), self._length(packet, tick)
            if previous is not None and 2 * abs(position - end) <= tick:
                position = end  # no hole and no overlap, only a time stamp that cannot tell
            if timeline.is_after_end(Fraction(position, self._rate)):
                return
            if previous is not None and position <= previous:
                self._num_skipped += 1
                continue
            previous, end = position, position + length
            if timeline.is_cut and end <= -preroll:
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
        position = round((ticks * packet.time_base - self._source.timeline.zero) * self._rate)
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
        if self._source.error:
            notes.append(self._source.error)
        return StreamOutcome(self._source.index, "audio", self._source.codec_name, "copied", "; ".join(notes))

    def close(self) -> None:
        """Release the source."""
        self._source.close()


class TranscodedAudio:
    """An audio stream decoded and encoded as AAC: mono and stereo as they are, more channels as 5.1.

    Starts and ends on the exact sample; a hole in the source's time stamps becomes silence and an overlap
    is cut, so sound stays with the picture.
    """

    def __init__(self, source: SourceStream) -> None:
        assert isinstance(source.stream, AudioStream)
        self._source = source
        self._input = source.stream
        context = self._input.codec_context
        self._rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48_000
        self._layout = {1: "mono", 2: "stereo"}.get(context.layout.nb_channels, "5.1")
        self._num_bad_packets = 0
        self._resampler: av.AudioResampler | None = None
        self._resampler_input: tuple[str, str, int] | None = None
        self._in_range = Peekable(self._fit())

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the range can be decoded."""
        return self._in_range.is_empty

    def add_to(self, output: OutputContainer) -> None:
        """Add the AAC stream."""
        self._output = output.add_stream("aac", rate=self._rate)
        assert isinstance(self._output, AudioStream)
        self._output.layout = self._layout
        self._output.format = "fltp"
        channels = self._output.codec_context.layout.nb_channels
        self._output.bit_rate = channels * _AAC_BITS_PER_CHANNEL[channels]
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """AAC packets of the range."""
        for samples, position in self._in_range:
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
            frame.sample_rate = self._rate
            frame.pts, frame.time_base = position, Fraction(1, self._rate)
            yield from self._encode(frame)
        yield from self._encode(None)

    def outcome(self) -> StreamOutcome:
        """Transcoded, and what could not be decoded."""
        notes = [f"to AAC {self._layout} {self._rate} Hz"]
        if self._num_bad_packets:
            notes.append(f"{self._num_bad_packets} damaged packets became silence")
        if self._source.error:
            notes.append(self._source.error)
        return StreamOutcome(
            self._source.index, "audio", self._source.codec_name, "transcoded", "; ".join(notes)
        )

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def _decoded(self) -> Iterator[tuple[Samples, int]]:
        """Samples in the output's rate and layout, with the first one's position on the time line.

        Positions follow the number of samples, not every time stamp: those jitter, and the resampler holds
        some samples back. A real hole or overlap sets them anew.
        """
        position = 0
        end: Fraction | None = None  # where the samples given to the resampler end
        for packet in self._source.packets():
            for frame in self._decode(packet):
                start = self._start_of(frame)
                if end is None or (start is not None and abs(start - end) > _GAP_SECONDS * self._rate):
                    for chunk in self._drain():
                        yield chunk, position
                        position += chunk.shape[1]
                    end = start or Fraction(0)
                    position = round(end)
                end += Fraction(frame.samples * self._rate, frame.sample_rate)
                for chunk in self._resample(frame):
                    yield chunk, position
                    position += chunk.shape[1]
        for chunk in self._drain():
            yield chunk, position

    def _start_of(self, frame: AudioFrame) -> Fraction | None:
        if frame.pts is None or frame.time_base is None:
            return None
        return (frame.pts * frame.time_base - self._source.timeline.zero) * self._rate

    def _decode(self, packet: "Packet[Stream]") -> list[AudioFrame]:
        try:
            return self._input.decode(packet)
        except av.FFmpegError:
            self._num_bad_packets += 1
            return []

    def _resample(self, frame: AudioFrame) -> list[Samples]:
        """Streams may change their rate or layout on the way; then a new resampler takes over."""
        if "channels" in frame.layout.name:  # a count without positions, as AVI and ASF give it
            frame = _with_default_layout(frame)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        chunks: list[Samples] = []
        if self._resampler is None or self._resampler_input != kind:
            chunks = self._drain()
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate)
            self._resampler_input = kind
        return chunks + [_samples(chunk) for chunk in self._resampler.resample(frame)]

    def _drain(self) -> list[Samples]:
        if self._resampler is None:
            return []
        chunks = [_samples(chunk) for chunk in self._resampler.resample(None) if chunk is not None]
        self._resampler = None
        return chunks

    def _fit(self) -> Iterator[tuple[Samples, int]]:
        """Samples without holes or overlaps from the range's start to its end, with their positions."""
        duration = self._source.timeline.duration
        end = None if duration is None else round(duration * self._rate)
        position: int | None = None
        for samples, start in self._decoded():
            if position is None:
                position = max(0, start)
            gap = start - position if end is None else min(start, end) - position
            if gap > 0:
                for length in _split(gap, self._rate):
                    yield np.zeros((samples.shape[0], length), np.float32), position
                    position += length
            elif gap < 0:
                samples = samples[:, -gap:]
            if end is not None:
                samples = samples[:, : max(0, end - position)]
            if samples.shape[1]:
                yield np.ascontiguousarray(samples), position
                position += samples.shape[1]
            if end is not None and position >= end:
                return

    def _encode(self, frame: AudioFrame | None) -> Iterator[TimedPacket]:
        for packet in self._output.encode(frame):
            if packet.dts is not None:
                yield TimedPacket(float(packet.dts * packet.time_base), packet)


def _skipped_samples(packet: "Packet[Stream]") -> int:
    """How many samples at a packet's start are not to be heard: the decoder's delay."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")


def _samples(frame: AudioFrame) -> Samples:
    return cast(Samples, frame.to_ndarray())


def _split(total: int, largest: int) -> Iterator[int]:
    """Sum parts of at most `largest` that make up `total`."""
    for begin in range(0, total, largest):
        yield min(largest, total - begin)


def _with_default_layout(frame: AudioFrame) -> AudioFrame:
    """The same samples with the usual speaker positions for their number of channels."""
    channels = frame.layout.nb_channels
    samples: NDArray[Any] = frame.to_ndarray()
    if frame.format.is_planar:  # interleaved, since PyAV cannot fill eight planes
        samples = np.ascontiguousarray(samples.T).reshape(1, -1)
    layout = _LAYOUT_BY_CHANNELS.get(channels, "stereo")
    labelled = AudioFrame.from_ndarray(samples, format=frame.format.packed.name, layout=layout)
    labelled.sample_rate = frame.sample_rate
    labelled.pts = frame.pts
    if frame.time_base is not None:
        labelled.time_base = frame.time_base
    return labelled
