"""Writing one segment of a video: encoded frames in a fragmented MP4 that appears only when it is whole."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from media._captioned_packets import PacketCaptions
from media._codecs import TRAITS
from media._encoders import configure_context, tag_frame
from media._plane_layouts import RGB_LAYOUTS
from media._rgb_frames import RgbFrames
from media._rgb_to_yuv import RgbToYuv
from media._scheduling import ordinary_scheduling
from media._syncing import sync_directory
from media.derived_names import beside
from media.encoder_choice import require_encoding
from media.encoding import EncodeOptions, ResolvedEncoding, resolve_encoding
from media.errors import EncodeError
from media.transparency import enlarge_alpha
from media.video_format import VideoFormat

# frag_keyframe: any prefix that ends with a fragment plays. delay_moov with frag_discont: fragments carry
# absolute times (tfdt), so segments made by different workers can be put one behind the other. Measured:
# without frag_discont only 172 of 240 joined frames survive, and without delay_moov the times restart at 0.
_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof+delay_moov+frag_discont"

# The default of 1000 rounds edit lists to milliseconds; 90000 holds MPEG-TS and NTSC times exactly.
MOVIE_TIMESCALE = 90_000

_MAX_TIMESCALE = 2**31 - 1
_WRITE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class SegmentInfo:
    """A finished segment file. Times are in ticks of the video format's time base."""

    path: Path
    num_frames: int
    first_pts: int
    end_pts: int
    """Last pts plus the last frame's duration: where the next segment may begin."""
    num_bytes: int


class SegmentWriter:
    """Encodes frames into a fragmented MP4 with one video stream and absolute time stamps.

    Frames go to `<path>.part`; `close` flushes it to the disk and renames it, so `path` either does not
    exist or is whole. Leaving a `with` block normally closes, leaving it by an exception aborts. The same
    frames with the same options give the same bytes. Not thread-safe.

    Args:
        path: The segment file. An existing one is replaced when the new one is whole.
        video_format: Size, times and colour of the frames.
        options: How to compress.

    Raises:
        EncodeError: The options do not fit the format, or the file cannot be created.
        EncoderUnavailableError: The encoder does not open on this machine.
    """

    def __init__(self, path: Path, video_format: VideoFormat, options: EncodeOptions | None = None) -> None:
        self.path = Path(path)
        self.video_format = video_format
        self.encoding: ResolvedEncoding = resolve_encoding(options or EncodeOptions(), video_format)
        require_encoding(self.encoding, video_format.rate)
        self._time_base, is_exact = mp4_time_base(video_format.time_base)
        self._warnings: tuple[str, ...] = self.encoding.warnings
        if not is_exact:
            unit = video_format.time_base
            self._warnings += (f"time stamps in units of {unit} s are rounded to 1/{MOVIE_TIMESCALE} s",)
        self._converter = _make_converter(self.encoding, video_format)
        self._repacker = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._captions = PacketCaptions(self.encoding.codec)
        self._num_frames = 0
        self._first_pts = self._last_pts = self._end_pts = 0
        self._part_path = beside(self.path, ".part")
        try:
            self._file: BinaryIO = self._part_path.open("wb")
        except OSError as error:
            raise EncodeError(f"cannot create {self._part_path}: {error.strerror or error}") from error
        self._container: OutputContainer | None = None
        try:
            self._container = self._open_container()
            self._stream = self._add_stream(self._container)
        except BaseException:
            self.abort()
            raise

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the file lacks; grows while frames are written."""
        return self._warnings + self._captions.warnings

    @property
    def width(self) -> int:
        """Of the stored picture, in pixels: the format's, rounded up to even where chroma is subsampled."""
        return self.encoding.width

    @property
    def height(self) -> int:
        """Of the stored picture, in pixels."""
        return self.encoding.height

    def write(
        self,
        image: Tensor,
        pts: int,
        duration: int,
        *,
        captions: bytes = b"",
        alpha: Tensor | None = None,
    ) -> None:
        """Encode one frame.

        Args:
            image: (3, H, W), float32, R'G'B' code values, [0, 1] (clamped), the size of the video format.
            pts: Presentation time in ticks of the format's time base, at least 0, larger than the one before.
            duration: How long the frame is shown, in ticks, at least 1.
            captions: As in `Frame`. A codec without a place for them leaves them out, with a warning.
            alpha: (1, h, w), float32, [0, 1], how opaque the straight colours of the image are; it is brought
                to their size. Only for a video format with alpha, where None is opaque.

        Raises:
            EncodeError: The image or the times are not as above (the writer can go on), the encoder failed or
                the disk is full (nothing is left of the file).
        """
        container = self._require_open()
        self._check_times(pts, duration)
        if alpha is not None:
            alpha = enlarge_alpha(alpha, (self.video_format.height, self.video_format.width))
        frame = self._converter.convert(image, alpha)
        if self.encoding.encoder_pix_fmt != self.encoding.pix_fmt:
            frame = self._repacker.reformat(frame, format=self.encoding.encoder_pix_fmt, threads=1)
        tag_frame(frame, self.encoding)
        frame.pts, frame.time_base = self._rescale(pts), self._time_base
        frame.duration = max(1, self._rescale(pts + duration) - frame.pts)
        # The encoder decides; a picture type carried over from decoding would force keyframes.
        frame.pict_type = 0
        self._durations[frame.pts] = frame.duration
        self._captions.put(frame.pts, captions)
        is_first = self._num_frames == 0
        # The first frame opens the encoder.
        with self._abort_on_failure(), ordinary_scheduling() if is_first else contextlib.nullcontext():
            self._mux(container, self._stream.encode(frame))
        if is_first:
            self._first_pts = pts
        self._num_frames += 1
        self._last_pts, self._end_pts = pts, pts + duration

    def close(self) -> SegmentInfo:
        """Write what the encoder still holds, flush to the disk, and give the file its name.

        Raises:
            EncodeError: No frame was written, the encoder failed, or the disk is full. Nothing is left on
            disk.
        """
        container = self._require_open()
        if self._num_frames == 0:
            self.abort()
            raise EncodeError(f"segment {self.path.name} has no frames; a segment needs at least one")
        with self._abort_on_failure():
            self._mux(container, self._stream.encode(None))
            container.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            num_bytes = self._file.tell()
            self._file.close()
            self._part_path.replace(self.path)
            sync_directory(self.path.parent)
        self._container = None
        return SegmentInfo(self.path, self._num_frames, self._first_pts, self._end_pts, num_bytes)

    def abort(self) -> None:
        """Give up: remove the unfinished file. Harmless after `close` or a second time."""
        if self._container is not None:
            # Closing writes a trailer, into a file that is about to go; it fails again where the disk is
            # full.
            with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                self._container.close()
            self._container = None
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._file.close()
            self._part_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self.abort()
        elif self._container is not None:
            self.close()

    def _open_container(self) -> OutputContainer:
        options = {
            "movflags": _MOVFLAGS,
            "movie_timescale": str(MOVIE_TIMESCALE),
            "video_track_timescale": str(self._time_base.denominator),
            # Else up to 256 KB of finished fragments wait in memory, unseen by whoever plays the growing
            # file.
            "flush_packets": "1",
        }
        muxer = TRAITS[self.encoding.codec].segment_muxer
        return av.open(self._file, "w", format=muxer, options=options, buffer_size=_WRITE_BUFFER_BYTES)

    def _add_stream(self, container: OutputContainer) -> VideoStream:
        rate = self.video_format.rate
        stream = container.add_stream(self.encoding.encoder, rate=rate)
        assert isinstance(stream, VideoStream)
        configure_context(
            stream.codec_context,
            self.encoding,
            time_base=self._time_base,
            rate=rate,
            sample_aspect_ratio=self.video_format.sample_aspect_ratio,
        )
        stream.time_base = self._time_base
        matrix = self.video_format.display_matrix
        if matrix is not None:
            stream.set_display_matrix(memoryview(matrix).cast("i").tolist())
        return stream

    def _check_times(self, pts: int, duration: int) -> None:
        if pts < 0 or duration < 1:
            raise EncodeError(f"pts must be at least 0 and duration at least 1, got {pts} and {duration}")
        if self._num_frames and self._rescale(pts) <= self._rescale(self._last_pts):
            raise EncodeError(f"pts must increase from frame to frame, got {pts} after {self._last_pts}")

    def _rescale(self, ticks: int) -> int:
        return round(ticks * self.video_format.time_base / self._time_base)

    def _mux(self, container: OutputContainer, packets: "list[Packet[VideoStream]]") -> None:
        for packet in packets:
            # SVT-AV1 returns no durations, and the last one of a file can be told from nothing else.
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration)
            container.mux(self._captions.add_to(packet))

    def _require_open(self) -> OutputContainer:
        if self._container is None:
            raise EncodeError(f"segment {self.path.name} is already closed")
        return self._container

    @contextlib.contextmanager
    def _abort_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise EncodeError(
                f"cannot write {self.path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        except BaseException:
            self.abort()
            raise


def _make_converter(encoding: ResolvedEncoding, video_format: VideoFormat) -> RgbToYuv | RgbFrames:
    if encoding.pix_fmt in RGB_LAYOUTS:
        return RgbFrames(video_format.width, video_format.height, pix_fmt=encoding.pix_fmt)
    return RgbToYuv(
        video_format.width,
        video_format.height,
        pix_fmt=encoding.pix_fmt,
        matrix=encoding.color.matrix,
        chroma_site=encoding.chroma_site,
        use_dither=encoding.use_dither,
    )


def mp4_time_base(time_base: Fraction) -> tuple[Fraction, bool]:
    """The MP4 time base for a source's: a whole number of ticks per second that fits 31 bits.

    Returns:
        The time base, and whether every tick of the source falls on one of its ticks.
    """
    if time_base.denominator <= _MAX_TIMESCALE:
        return Fraction(1, time_base.denominator), True
    return Fraction(1, MOVIE_TIMESCALE), False
