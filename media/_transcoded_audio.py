"""Audio that the container cannot carry, or not cut where it must be: decoded, and encoded again."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from media._channel_layouts import Speakers, is_free_order, layout_of, speakers_of
from media._sound_changes import SoundChanges, find_sound_changes
from media._tracks import SOUND_BEHIND_PICTURE, Peekable, SourceStream, StreamOutcome, TimedPacket

Samples = NDArray[np.float32]
"""(channels, n), [-1, 1]"""

# Time stamps in milliseconds jitter by half a tick, some muxers' by a few; more than this is a real hole or
# overlap.
_GAP_SECONDS = Fraction(1, 100)

CHANGING_SOUND = "its channels or rate change on the way, and a track has one of each for all"

_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_BITS_PER_CHANNEL = {1: 96_000, 2: 96_000, 6: 64_000}


class TranscodedAudio:
    """An audio stream decoded and encoded anew: mono and stereo as they are, more channels as 5.1.

    Sound that changes on the way gets as many channels as its widest part. It starts and ends on the exact
    sample; a hole in the source's time stamps becomes silence and an overlap is cut, so sound stays with the
    picture.

    Args:
        source: The stream.
        changes: Of its channels and rate.
        encoder: `aac` or `libopus`.
    """

    def __init__(self, source: SourceStream, changes: SoundChanges, *, encoder: str = "aac") -> None:
        assert isinstance(source.stream, AudioStream)
        self._source, self._changes = source, changes
        self._input = source.stream
        context = self._input.codec_context
        self._encoder = encoder
        rate, channels = context.sample_rate, len(speakers_of(layout_of(context)).channels) or 2
        if not changes.is_steady:
            rate, channels = max(rate, changes.max_rate), max(channels, changes.max_channels)
        self._rate = rate if encoder == "aac" and rate in _AAC_RATES else 48_000
        self._layout = {1: "mono", 2: "stereo"}.get(channels, "5.1")
        self._num_bad_packets = 0
        self._num_left_out = 0  # channels that have no place in the output
        self._is_cut_short = False
        self._resampler: av.AudioResampler | None = None
        self._resampler_input: tuple[str, str, int] | None = None
        self._in_range = Peekable(self._fit())

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the range can be decoded."""
        return self._in_range.is_empty

    def add_to(self, output: OutputContainer) -> None:
        """Add the stream."""
        added = output.add_stream(self._encoder, rate=self._rate)
        assert isinstance(added, AudioStream)
        self._output = added
        self._output.layout = self._layout
        self._output.format = "fltp" if self._encoder == "aac" else "flt"
        channels = layout_of(self._output.codec_context).nb_channels
        self._output.bit_rate = channels * _BITS_PER_CHANNEL[channels]
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """Packets of the range."""
        for samples, position in self._in_range:
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
            frame.sample_rate = self._rate
            frame.pts, frame.time_base = position, Fraction(1, self._rate)
            yield from self._encode(frame)
        yield from self._encode(None)

    def outcome(self) -> StreamOutcome:
        """Transcoded, and what could not be decoded."""
        name = "AAC" if self._encoder == "aac" else "Opus"
        notes = [f"to {name} {self._layout} {self._rate} Hz"]
        if not self._changes.is_steady:
            notes.append(CHANGING_SOUND)
        if self._num_bad_packets:
            notes.append(f"{self._num_bad_packets} damaged packets became silence")
        if self._is_cut_short:
            notes.append(SOUND_BEHIND_PICTURE)
        if self._num_left_out:
            notes.append(f"{self._num_left_out} channels without a loudspeaker of their own left out")
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
        return (frame.pts * frame.time_base - self._source.output_range.zero) * self._rate

    def _decode(self, packet: "Packet[Stream]") -> list[AudioFrame]:
        try:
            frames = self._input.decode(packet)
        except av.FFmpegError:
            self._num_bad_packets += 1
            return []
        for frame in frames:
            layout_of(frame)  # each has one, which would be freed with it
        return frames

    def _resample(self, frame: AudioFrame) -> list[Samples]:
        """Streams may change their rate or layout on the way; then a new resampler takes over."""
        if is_free_order(frame.layout):  # such as a count without positions, as AVI and ASF give it
            speakers = speakers_of(frame.layout)
            self._num_left_out = frame.layout.nb_channels - len(speakers.channels)
            frame = _relabel(frame, speakers)
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
        output_range = self._source.output_range
        end = None if output_range.duration is None else round(output_range.duration * self._rate)
        position: int | None = None
        for samples, start in self._decoded():
            begin = Fraction(start, self._rate)
            if output_range.is_behind_source(begin) or output_range.is_hole_behind_picture(
                Fraction(position or 0, self._rate), begin
            ):
                self._is_cut_short = True
                return
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


def sound_changes(source: SourceStream) -> SoundChanges:
    """Look for changes on the way, in packets of a container of their own."""
    with contextlib.closing(source.reopened()) as again:
        return find_sound_changes(again.packets_of_range(), source.codec_name)


def _samples(frame: AudioFrame) -> Samples:
    return cast(Samples, frame.to_ndarray())


def _split(total: int, largest: int) -> Iterator[int]:
    """Sum parts of at most `largest` that make up `total`."""
    for begin in range(0, total, largest):
        yield min(largest, total - begin)


def _relabel(frame: AudioFrame, speakers: Speakers) -> AudioFrame:
    """The frame's samples as other channels."""
    samples: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    # Interleaved, since PyAV cannot fill eight planes.
    packed = np.ascontiguousarray(samples[list(speakers.channels)].T).reshape(1, -1)
    labelled = AudioFrame.from_ndarray(packed, format=frame.format.packed.name, layout=speakers.layout)
    labelled.sample_rate = frame.sample_rate
    labelled.pts = frame.pts
    if frame.time_base is not None:
        labelled.time_base = frame.time_base
    return labelled
