"""The writing stage: finished frames into segments, and a record of each finished segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from media import EncodeOptions, SegmentWriter, VideoFormat
from media.transparency import over_black
from workers.run.comparison import ViewAxes, save_png, side_by_side
from workers.run.decisions import DecidedRun
from workers.run.folder import WorkFolder
from workers.run.options import UpscaleOptions
from workers.run.record import ResumePoint, RunRecord, SegmentRecord
from workers.run.timing import StageClock


@dataclass(frozen=True, eq=False)
class FinishedFrame:
    """A frame of the output.

    Attributes:
        number: As in `SourceFrame`.
        image: (3, H, W), float32, [0, 1], on the CPU.
        source: (3, h, w), the frame it was made from; None where nobody compares.
        pts: In ticks of the video format.
        duration: In ticks.
        captions: As in `media.Frame`.
        alpha: (1, h, w), of the frame it was made from, as in `media.Frame`.
    """

    number: int
    image: Tensor
    source: Tensor | None
    pts: int
    duration: int
    captions: bytes = b""
    alpha: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """The image as it looks on black."""
        return over_black(self.image, self.alpha)

    @property
    def shown_source(self) -> Tensor | None:
        """The source as it looks on black."""
        return None if self.source is None else over_black(self.source, self.alpha)


@dataclass(frozen=True)
class SegmentEnd:
    """Says that a segment ends here.

    Attributes:
        resume: Where the next one begins; None after the last.
    """

    resume: ResumePoint | None


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What to write for comparison.

    Attributes:
        use_video: A side-by-side video.
        image_frame: Number of the frame for a side-by-side picture; None for no picture. Where the video
            turns out to be shorter, its first frame is taken.
        axes: How players turn the video.
    """

    use_video: bool = False
    image_frame: int | None = None
    axes: ViewAxes = field(default_factory=ViewAxes)

    @classmethod
    def of(cls, options: UpscaleOptions, decided: DecidedRun) -> ComparisonRequest:
        """What the options of a run ask for."""
        return cls(
            use_video=options.use_compare_video,
            image_frame=(decided.num_frames or 0) // 2 if options.use_compare_image else None,
            axes=ViewAxes.of(decided.info.video.display_matrix),
        )

    def video_format(self, result: VideoFormat) -> VideoFormat:
        """Of the side-by-side video, for that of the result."""
        if self.axes.is_transposed:
            return replace(result, height=2 * result.height)
        return replace(result, width=2 * result.width)


class SegmentSink:
    """Writes frames into segments of a work folder.

    Args:
        work: The folder.
        record: Of the run so far; what is written follows its segments.
        video_format: Of the frames.
        encode: How to compress them.
        comparison: What else to write.
        clock: Counts the time of encoding.
        on_frame: Called after each frame.
    """

    def __init__(
        self,
        work: WorkFolder,
        record: RunRecord,
        *,
        video_format: VideoFormat,
        encode: EncodeOptions,
        comparison: ComparisonRequest,
        clock: StageClock,
        on_frame: Callable[[], None],
    ) -> None:
        self.record = record
        self.warnings: list[str] = []
        self._work = work
        self._format, self._encode = video_format, encode
        self._comparison = comparison
        self._clock = clock
        self._on_frame = on_frame
        self._writer: SegmentWriter | None = None
        self._compare_writer: SegmentWriter | None = None

    def run(self, items: Iterable[FinishedFrame | SegmentEnd]) -> None:
        """Writes until the items end. An unfinished segment leaves nothing behind.

        Raises:
            EncodeError: If encoding fails or the disk is full.
            DiskFullError: If the record of a segment cannot be written.
        """
        try:
            for item in items:
                with self._clock.measure("write"):
                    self._take(item)
        finally:
            for writer in (self._writer, self._compare_writer):
                if writer is not None:
                    writer.abort()

    def _take(self, item: FinishedFrame | SegmentEnd) -> None:
        if isinstance(item, FinishedFrame):
            self._write(item)
            self._on_frame()
        elif self._writer is not None:
            self._end_segment(self._writer, item.resume)
        elif item.resume is None and self.record.segments:
            self._mark_last()

    def _write(self, frame: FinishedFrame) -> None:
        if self._writer is None:
            self._open_segment()
        assert self._writer is not None
        self._writer.write(frame.image, frame.pts, frame.duration, captions=frame.captions, alpha=frame.alpha)
        if frame.shown_source is not None:
            self._compare(frame, frame.shown_source)

    def _compare(self, frame: FinishedFrame, source: Tensor) -> None:
        picture = side_by_side(source, frame.shown, self._comparison.axes)
        if self._compare_writer is not None:
            self._compare_writer.write(picture, frame.pts, frame.duration)
        wanted = self._comparison.image_frame
        if wanted is not None and frame.number in (0, wanted):
            save_png(self._comparison.axes.show(picture), self._work.image_path)

    def _open_segment(self) -> None:
        index = len(self.record.segments)
        self._writer = SegmentWriter(
            self._work.path / self._work.segment_name(index), self._format, self._encode
        )
        self._note(self._writer)
        if self._comparison.use_video:
            self._compare_writer = SegmentWriter(
                self._work.path / self._work.compare_name(index),
                self._comparison.video_format(self._format),
                # Twice the size may be more than the graphics processor was seen to do.
                replace(self._encode, encoder="software"),
            )

    def _end_segment(self, writer: SegmentWriter, resume: ResumePoint | None) -> None:
        info = writer.close()
        self._note(writer)
        self._writer = None
        names = [info.path.name]
        if self._compare_writer is not None:
            names.append(self._compare_writer.close().path.name)
            self._compare_writer = None
        record = SegmentRecord(
            names=tuple(names),
            num_frames=info.num_frames,
            first_pts=info.first_pts,
            end_pts=info.end_pts,
            resume=resume,
        )
        self._save(self.record.with_segment(record))

    def _note(self, writer: SegmentWriter) -> None:
        self.warnings += [text for text in writer.warnings if text not in self.warnings]

    def _mark_last(self) -> None:
        """The segment that was finished last turns out to be the last of all."""
        *before, last = self.record.segments
        record = last.model_copy(update={"resume": None})
        self._save(self.record.model_copy(update={"segments": (*before, record)}))

    def _save(self, record: RunRecord) -> None:
        record.save(self._work.path)
        self.record = record
