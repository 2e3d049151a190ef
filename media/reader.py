"""Reading a video: R'G'B' float frames with time stamps that increase from 0."""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import Self
from weakref import WeakSet

from av.video.frame import VideoFrame
from torch import Tensor

from media._captions import CaptionQueue
from media._clock import TimedFrame, with_durations
from media._cueless import find_gap
from media._decoder import StreamDecoder, VideoPacket
from media._deinterlace import FIELDS_PER_FRAME, SETTLING_FRAMES, Deinterlacer
from media._entries import Entry, EntryFinder, last_before
from media._fitting import FittingConverter
from media._missing_frames import describe_truncation, explain_emptiness
from media._notes import Notes
from media._reading_range import ReadingRange, check_seconds
from media._seek import PacketMismatchError, find_entry, seek_to_entry, undamaged
from media._stamping import origin_ticks, stamp_frames
from media.color import RGB, effective_tags
from media.errors import NoFramesError
from media.frame import Frame
from media.info import TRANSPARENCY_WARNING, ColorTags, MediaInfo
from media.limits import DEFAULT_LIMITS, InputLimits

DEFAULT_NUM_THREADS = 4
"""Decoder threads. A 4K decoder takes 73 MB with one, 244 MB with 8, and the network is slower than one
anyway."""


class VideoReader:
    """Decodes the video stream of a file to R'G'B' frames. Not thread-safe.

    Damaged packets are skipped, bad time stamps repaired, pictures of another size fitted in, and
    a file that ends too early is read as far as it goes; `warnings` says so.

    Args:
        info: From `probe`.
        start_seconds: Read from here: the first frame is the first at or after this time (from the
            container's start), and pts count from this time. None: from the start.
        duration_seconds: Read frames before `start_seconds` + this. None: to the end.
        deinterlace: Turn each field into a frame, which doubles the rate. None: if the stream says it is
            interlaced.
        num_threads: Decoder threads, at least 1.
        limits: Reading stops with an error where a limit is exceeded.
        keep_alpha: Give transparent frames their alpha, instead of laying them over black.
        on_packet: Called for each packet that is read, also for those that give no frame: a sign of life
            while a reader looks for its place in a long file.

    Raises:
        ValueError: `start_seconds` is negative, or `duration_seconds` or `num_threads` is not positive.
    """

    def __init__(
        self,
        info: MediaInfo,
        *,
        start_seconds: Fraction | None = None,
        duration_seconds: Fraction | None = None,
        deinterlace: bool | None = None,
        num_threads: int = DEFAULT_NUM_THREADS,
        limits: InputLimits = DEFAULT_LIMITS,
        keep_alpha: bool = False,
        on_packet: Callable[[], None] | None = None,
    ) -> None:
        check_seconds(start_seconds, duration_seconds)
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}")
        video = info.video
        self.info = info
        self.is_deinterlaced = video.is_interlaced if deinterlace is None else deinterlace
        """Whether each field becomes a frame."""
        fields = self._fields = FIELDS_PER_FRAME if self.is_deinterlaced else 1
        self.width: int = video.width
        """Of the images, in pixels: as stored, not rotated."""
        self.height: int = video.height
        self.time_base: Fraction = video.time_base / fields
        """Seconds per tick of the frames' pts and durations."""
        self.rate: Fraction = video.rate * fields
        """Nominal frames per second."""
        self.color: ColorTags = effective_tags(
            video.color,
            video.width,
            video.height,
            is_rgb=video.color.matrix == RGB and video.color.full_range,
        )
        """What the images' values mean; the matrix is the one that was used, never "unspecified"."""
        self.warnings: Notes = Notes()
        """What had to be repaired or skipped; grows while frames are read."""
        self.keeps_alpha = keep_alpha and video.has_transparency
        """Whether frames have alpha."""
        self._is_forced = deinterlace is True
        self._num_threads, self._limits, self._on_packet = num_threads, limits, on_packet
        self._range = ReadingRange.of_seconds(start_seconds, duration_seconds, self.time_base)
        self._iterators: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self._is_closed = False
        self._finder: EntryFinder | None = None

    def frames(self, *, from_pts: int | None = None, entry: Entry | None = None) -> Iterator[Frame]:
        """Read frames; may be called again, each call reads the file anew.

        Args:
            from_pts: Begin at the first frame with at least this pts: the frames, bit for bit, and the pts
                that reading all frames gives from there on. Where seeking cannot guarantee that, the file is
                decoded from its start. None: all frames.
            entry: What `entry_before` gave for this pts, perhaps to another reader of the same file. Without
                it, the packets before `from_pts` are read to find one.

        Raises:
            NoFramesError: Not one frame can be had, or none lies in the chosen range.
            InputLimitError: The video is longer than allowed.
            UnreadableInputError: The file can no longer be opened.
            ValueError: The reader is closed.
        """
        if self._is_closed:
            raise ValueError("the reader is closed; make a new one to read again")
        self.warnings.begin_pass()
        frames = self._frames(max(0, from_pts or 0), entry)
        self._iterators.add(frames)
        return frames

    def entry_before(self, pts: int) -> Entry | None:
        """Where to begin to read frames from a time on, after the frames up to there have been read; None
        where it is not known, or only reading from the file's start is sure.

        Args:
            pts: Of a frame that was read.
        """
        return last_before(self._finder.entries if self._finder else [], self.needed_pts(pts))

    def take_entries(self) -> list[Entry] | None:
        """The entries found since the last call, which this reader then forgets; None where time stamps are
        not regular, so that those from before count no more."""
        if self._finder is None or not self._finder.is_regular:
            return None
        taken, self._finder.entries[:] = list(self._finder.entries), []
        return taken

    def needed_pts(self, pts: int) -> int:
        """The time, in ticks of the stream, from which on the picture of a frame depends."""
        video = self.info.video
        lead = SETTLING_FRAMES / video.rate / video.time_base if self.is_deinterlaced else 0
        return math.floor(self._stream_pts(pts) - lead)

    def close(self) -> None:
        """End all unfinished iterators and close their files; harmless a second time.

        An iterator that another thread is just advancing ends by itself before its next frame.
        """
        self._is_closed = True
        for frames in list(self._iterators):
            with suppress(ValueError):  # it is being advanced
                frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _frames(self, from_pts: int, entry: Entry | None) -> Generator[Frame, None, None]:
        position = self._range.first + from_pts
        is_empty = True
        try:
            for frame in self._frames_after_seek(position, entry):
                is_empty = False
                position = self._range.first + frame.pts + 1
                yield frame
        except PacketMismatchError:
            for frame in self._frames_from_start(position):
                is_empty = False
                yield frame
        if is_empty and from_pts == 0 and not self._is_closed:
            raise NoFramesError(explain_emptiness(self.info, self._range, self.time_base))

    def _frames_after_seek(self, position: int, entry: Entry | None) -> Iterator[Frame]:
        """Frames from a time on (output ticks, from the container's start), by the shortest sure way.

        Raises:
            PacketMismatchError: The way was not sure after all.
        """
        if position > 0 and entry is None:
            entry = self._find_entry(position)
        if position <= 0 or entry is None:
            yield from self._frames_from_start(position)
            return
        is_matroska = "matroska" in self.info.format_name and entry.position >= 0
        gap = find_gap(self.info.path, entry.position) if is_matroska else None
        with self._open(gap) as decoder:
            packets = seek_to_entry(decoder, entry)
            if packets is None:
                raise PacketMismatchError
            frames = undamaged(decoder, self._watch(decoder, packets, is_from_start=False), entry.pts)
            yield from self._select(decoder, frames, position)

    def _frames_from_start(self, position: int) -> Iterator[Frame]:
        with self._open() as decoder:
            frames = decoder.decode(self._watch(decoder, decoder.packets(), is_from_start=True))
            yield from self._select(decoder, frames, position)

    def _find_entry(self, position: int) -> Entry | None:
        with self._open() as decoder:
            return find_entry(
                decoder,
                before_pts=self.needed_pts(position - self._range.first),
                until_pts=self._stream_pts(position - self._range.first),
                first_pts=math.ceil(origin_ticks(self.info)),
            )

    def _watch(
        self, decoder: StreamDecoder, packets: Iterator[VideoPacket], *, is_from_start: bool
    ) -> Iterator[VideoPacket]:
        """Pass packets on, and remember the entries among them."""
        first_pts = math.ceil(origin_ticks(self.info))
        self._finder = EntryFinder.of(decoder, first_pts=first_pts, is_from_start=is_from_start)
        return self._finder.watch(decoder, packets)

    def _stream_pts(self, pts: int) -> int:
        """A frame's pts in ticks of the stream."""
        return math.floor((self._range.first + pts) / self._fields + origin_ticks(self.info))

    def _select(
        self, decoder: StreamDecoder, decoded: Iterator[VideoFrame], position: int
    ) -> Iterator[Frame]:
        """Time, choose the range, convert."""
        converter = FittingConverter(self.info.video, keep_alpha=self.keeps_alpha)
        captions = CaptionQueue()
        stamped = stamp_frames(
            decoded,
            self.info,
            may_be_spliced=lambda: decoder.has_stepped_back,
            max_seconds=self._limits.max_seconds,
            is_deinterlaced=self.is_deinterlaced,
            captions=captions,
            notes=self.warnings,
        )
        if self.is_deinterlaced:
            stamped = Deinterlacer(
                time_base=self.info.video.time_base,
                sample_aspect_ratio=self.info.video.sample_aspect_ratio,
                is_forced=self._is_forced,
            ).run(stamped)
        last: TimedFrame | None = None
        for timed_frame in with_durations(stamped, frame_interval=1 / self.rate / self.time_base):
            if self._is_closed or (self._range.end is not None and timed_frame.pts >= self._range.end):
                return
            last = timed_frame
            mine = captions.take(timed_frame.pts)
            if timed_frame.pts >= position:
                yield self._finish(converter, timed_frame, mine)
        if self._is_closed:
            return
        end = (last.pts + last.duration) * self.time_base if last is not None else Fraction(0)
        truncation = describe_truncation(self.info.video, end, is_cut_off=decoder.is_cut_off)
        if truncation is not None:
            self.warnings.add("truncated", truncation)

    def _finish(self, converter: FittingConverter, timed: TimedFrame, captions: bytes) -> Frame:
        frame, pts, duration = timed
        if not converter.expects(frame):
            self.warnings.add(
                f"size {frame.width}x{frame.height}",
                f"the picture size changes to {frame.width}x{frame.height} in the middle; those frames are "
                f"fitted into {self.width}x{self.height}",
            )
        if self._range.end is not None:
            duration = min(duration, self._range.end - pts)
        made = converter.convert(frame, out=self._make_room())
        if converter.has_met_transparency:
            self.warnings.add("alpha", TRANSPARENCY_WARNING)
        pts -= self._range.first
        return Frame(made[:3], pts, duration, captions, made[3:] if self.keeps_alpha else None)

    def _make_room(self) -> Tensor | None:
        """Where the next image, and alpha behind it, goes, for other processes; None is new memory."""
        return None

    def _open(self, gap: tuple[int, int] | None = None) -> StreamDecoder:
        return StreamDecoder(
            self.info.path,
            self.info.video.index,
            num_threads=self._num_threads,
            limits=self._limits,
            notes=self.warnings,
            on_packet=self._on_packet,
            stretches=self.info.stretches,
            gap=gap,
        )
