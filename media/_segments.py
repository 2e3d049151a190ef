"""The video of a joined file: the packets of segment files, one segment behind the other."""

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from media._sample_entry import MP4_MUXERS, head_of_segment
from media._tracks import TimedPacket
from media.errors import SegmentMismatchError

_IDENTITY_MATRIX = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


# The template resets the tag. H.265's default "hev1" does not play on Apple devices, and that of ProRes is
# 422 HQ, whatever the packets are.
_CODECS_WITH_TAGS = ("hevc", "prores")


# FFmpeg's parser of VP9 loses the durations of packets, and that of the last one can be told from nothing
# else.
_CODECS_WITH_LOSSY_PARSERS = ("vp9",)


class _Signature(NamedTuple):
    """What has to be equal for packets to share one track: it has a single header for all of them."""

    codec: str
    width: int
    height: int
    pix_fmt: str | None
    time_base: Fraction | None
    sample_aspect_ratio: Fraction
    extradata: bytes | None


class SegmentedVideo:
    """The joined video track.

    Attributes:
        codec, width, height, time_base, sample_aspect_ratio: Of all segments.
        display_matrix: To be written instead of the segments' own, if not None; set before `add_to`.
        boxes: Of a sample entry: what is to be said of the picture besides. Matroska's muxer is told by
            `add_to`; an MP4 needs them when it is finished.
        num_frames, end_seconds: Frames passed on so far, and where the last of them ends.

    Args:
        segments: Segment files in order, at least one.

    Raises:
        SegmentMismatchError: There is no segment, one cannot be read, or one does not fit the first.
    """

    def __init__(self, segments: Sequence[Path]) -> None:
        if not segments:
            raise SegmentMismatchError("no segments to join; at least one is needed")
        self._segments = segments
        self.display_matrix: Sequence[int] | None = None
        self.boxes = b""
        self.num_frames = 0
        self.end_seconds = Fraction(0)
        # All headers are compared before the first packet is copied: a mismatch at the end of a long job
        # should not cost a copy of everything before it.
        signatures = [_read_signature(path) for path in segments]
        for path, signature in zip(segments[1:], signatures[1:], strict=True):
            _require_equal(signatures[0], signature, segments[0], path)
        first = signatures[0]
        assert first.time_base is not None
        self.codec, self.width, self.height = first.codec, first.width, first.height
        self.time_base: Fraction = first.time_base
        self.sample_aspect_ratio = first.sample_aspect_ratio

    def add_to(self, output: OutputContainer) -> None:
        """Add the video stream, described like the first segment's."""
        told = b"" if output.format.name in MP4_MUXERS else self.boxes
        with _open(self._segments[0], told) as container:
            template = container.streams.video[0]
            self._output = output.add_stream_from_template(template, opaque=True)
            # AV1 has no pixel shape in its stream, so the template's codec parameters do not know it.
            self._output.codec_context.sample_aspect_ratio = self.sample_aspect_ratio
            # Else Matroska has no duration of a frame, and readers guess at up to 1000 frames a second.
            if template.guessed_rate is not None:
                self._output.codec_context.framerate = template.guessed_rate
            if self.codec in _CODECS_WITH_TAGS:
                self._output.codec_context.codec_tag = template.codec_context.codec_tag
        # MP4 sets it by itself; players of Matroska may skip a video that is not marked so.
        self._output.disposition = Disposition.default
        if self.display_matrix is not None:
            self._output.set_display_matrix(self.display_matrix)

    def packets(self) -> Iterator[TimedPacket]:
        """All packets, with the time stamps they have in their segments.

        Raises:
            SegmentMismatchError: A segment begins before the one in front of it ends, or breaks off.
        """
        last_dts: int | None = None
        for path in self._segments:
            with _open(path, is_parsed=self.codec not in _CODECS_WITH_LOSSY_PARSERS) as container:
                for packet in container.demux(container.streams.video[0]):
                    if packet.pts is None or packet.dts is None or packet.size == 0:
                        continue
                    if last_dts is not None and packet.dts <= last_dts:
                        raise SegmentMismatchError(
                            f"segment {path.name} has time stamp {packet.dts} after {last_dts}; "
                            "segments must follow one another in time"
                        )
                    last_dts = packet.dts
                    self.num_frames += 1
                    end = (packet.pts + (packet.duration or 0)) * self.time_base
                    self.end_seconds = max(self.end_seconds, end)
                    packet.stream = self._output
                    yield TimedPacket(float(packet.dts * self.time_base), packet)


def scale_display_matrix(matrix: bytes, *, scale_x: Fraction, scale_y: Fraction) -> tuple[int, ...] | None:
    """A display matrix for a picture of another size: its translation is in pixels and grows with the
    picture.

    Args:
        matrix: Nine int32 as FFmpeg stores them: a b u, c d v, x y w, where x and y are 16.16
            pixels of the shown picture.
        scale_x: Stored output width over source width.
        scale_y: Same for the height.

    Returns:
        The nine numbers, or None when the matrix changes nothing.
    """
    values = list(struct.unpack("=9i", matrix))
    if tuple(values) == _IDENTITY_MATRIX:
        return None
    # A picture turned by 90 degrees is shown as wide as it is stored high.
    is_turned = values[0] == 0 and values[4] == 0
    shown_x, shown_y = (scale_y, scale_x) if is_turned else (scale_x, scale_y)
    values[6], values[7] = round(values[6] * shown_x), round(values[7] * shown_y)
    return tuple(values)


def _open(path: Path, boxes: bytes = b"", *, is_parsed: bool = True) -> InputContainer:
    """A segment; its first fragment alone where its sample entry is to have more boxes."""
    options = {"protocol_whitelist": "file"} | ({} if is_parsed else {"fflags": "noparse"})
    try:
        if boxes:
            return av.open(io.BytesIO(head_of_segment(path, boxes)), "r", format="mp4")
        return av.open(str(path.absolute()), "r", format="mp4", options=options)
    except (av.FFmpegError, OSError) as error:
        raise SegmentMismatchError(f"segment {path} cannot be read: {error.strerror or error}") from error


def _read_signature(path: Path) -> _Signature:
    with _open(path) as container:
        stream = next(iter(container.streams.video), None)
        if not isinstance(stream, VideoStream):
            raise SegmentMismatchError(f"segment {path} has no video")
        context = stream.codec_context
        return _Signature(
            context.codec.canonical_name,
            context.width,
            context.height,
            context.pix_fmt,
            stream.time_base,
            stream.sample_aspect_ratio or Fraction(1),
            context.extradata,
        )


def _require_equal(first: _Signature, other: _Signature, first_path: Path, other_path: Path) -> None:
    differing = [name for name in _Signature._fields if getattr(first, name) != getattr(other, name)]
    if differing:
        reasons = [
            "encoder settings"
            if name == "extradata"
            else f"{name} ({getattr(other, name)}, not {getattr(first, name)})"
            for name in differing
        ]
        raise SegmentMismatchError(
            f"segment {other_path.name} does not fit {first_path.name}, it differs in {', '.join(reasons)}; "
            "encode all segments with the same options"
        )
