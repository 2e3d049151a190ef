"""Which segments a run will make, found out by reading the source without the model.

Planning may stop after any segment and go on in another process from a `PlannerState`. A plan says all that
is needed to make its segment alone: where reading begins and ends, and the scene cuts in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jobs.values import Value
from media import Entry
from pipelines.planning.plan import ChunkPlan
from workers.errors import UpscaleError
from workers.run.access import SourceReader
from workers.run.borders import ReadyChunk, SegmentCutter
from workers.run.decisions import segment_ticks
from workers.run.options import UpscaleOptions
from workers.run.reading import FrameMark, SourceFrame, read_frames
from workers.run.record import ResumePoint
from workers.run.timing import StageClock


class PlanMismatchError(UpscaleError):
    """Raised when a source gives other frames than it gave when its segments were planned."""

    code = "plan_mismatch"


class PlannerState(Value):
    """Where planning goes on.

    Attributes:
        index: Number of the next segment.
        resume: Where it begins; None for the first.
        entry: Where in the file that is, as far as is known.
    """

    index: int = 0
    resume: ResumePoint | None = None
    entry: Entry | None = None


class SegmentPlan(Value):
    """One segment, decided. Times are in the reader's ticks, frames are counted as in an uninterrupted run.

    Attributes:
        index: Counted from 0.
        start: Where reading and the first chunk begin; None for the source's start.
        first_frame: Number of the first frame.
        end_frame: One past the last frame.
        first_pts: Pts of the first frame.
        end_pts: End of the last frame.
        read_stop: One past the last frame that its chunks need; more than `end_frame` where the last chunk
            shares frames with the next segment.
        cuts: Numbers of the frames inside what is read where a new shot begins.
        next_start: `start` of the next segment; None for the last.
        entry: Where in the file reading begins: without it, all before would be read to find that out. None
            where it is not known, or the file's start.
        next_entry: `entry` of the next segment.
    """

    index: int
    start: ResumePoint | None
    first_frame: int
    end_frame: int
    first_pts: int
    end_pts: int
    read_stop: int
    cuts: tuple[int, ...] = ()
    next_start: ResumePoint | None
    entry: Entry | None = None
    next_entry: Entry | None = None

    @property
    def num_frames(self) -> int:
        return self.end_frame - self.first_frame

    @property
    def is_last(self) -> bool:
        return self.next_start is None

    @property
    def next_state(self) -> PlannerState | None:
        """Where planning goes on after this segment; None after the last."""
        if self.next_start is None:
            return None
        return PlannerState(index=self.index + 1, resume=self.next_start, entry=self.next_entry)


def plan_segments(
    frames: Iterable[FrameMark],
    *,
    chunk_len: int,
    chunk_overlap: int,
    segment_ticks: int,
    resume: PlannerState | None = None,
) -> Iterator[SegmentPlan]:
    """Plans the segments that a run over these frames would write. Images in the frames are not looked at.

    Args:
        frames: From the source's start, or read from the resume point of `resume` on.
        chunk_len: Frames of a chunk.
        chunk_overlap: Frames that neighbouring chunks share.
        segment_ticks: A segment ends with the first chunk after so many ticks.
        resume: `next_state` of the last segment that was planned.

    Yields:
        Each segment as soon as it is known that it ends; only the last one `is_last`.

    Raises:
        PlanMismatchError: If no frame comes.
    """
    state = resume or PlannerState()
    cuts: list[int] = []

    def marks() -> Iterator[FrameMark]:
        for frame in frames:
            if frame.is_cut:
                cuts.append(frame.number)
            yield frame.mark() if isinstance(frame, SourceFrame) else frame

    cutter: SegmentCutter[FrameMark] = SegmentCutter(
        chunk_len=chunk_len, chunk_overlap=chunk_overlap, segment_ticks=segment_ticks, resume=state.resume
    )
    for step in cutter.run(marks()):
        if isinstance(step, ReadyChunk):
            continue
        # A chunk begins at a cut or not, all the same; what counts are cuts that end one.
        begin = state.resume.chunk_frame if state.resume else 0
        cuts[:] = [number for number in cuts if number > begin]
        plan = SegmentPlan(
            index=state.index,
            start=state.resume,
            first_frame=step.first_frame,
            end_frame=step.end_frame,
            first_pts=step.first_pts,
            end_pts=step.end_pts,
            read_stop=step.read_stop,
            cuts=tuple(number for number in cuts if number < step.read_stop),
            next_start=step.resume,
        )
        yield plan
        if plan.next_state is None:
            return
        state = plan.next_state
    first = state.resume.next_frame if state.resume else 0
    raise PlanMismatchError(
        f"segment {state.index} should begin at frame {first}, but the source ends before it; "
        "has the file changed?"
    )


def plan_source(
    reader: SourceReader,
    chunks: ChunkPlan,
    *,
    options: UpscaleOptions,
    resume: PlannerState | None = None,
    clock: StageClock | None = None,
) -> Iterator[SegmentPlan]:
    """Reads a source and plans the segments that `upscale_file` would write. Takes no model.

    Args:
        reader: Opened with the range and deinterlacing of `options`.
        chunks: Decided for that reader.
        options: Of the run.
        resume: `next_state` of the last segment that was planned; reading begins there.
        clock: Counts the time of reading.

    Raises:
        MediaError: If the source cannot be read.
        PlanMismatchError: If it ends before the resume point.
    """
    state = resume or PlannerState()
    frames = read_frames(
        reader,
        resume=state.resume,
        detect_cuts=options.detect_cuts,
        clock=clock or StageClock(),
        entry=state.entry,
    )
    plans = plan_segments(
        frames,
        chunk_len=chunks.chunk_len,
        chunk_overlap=chunks.chunk_overlap,
        segment_ticks=segment_ticks(reader, options),
        resume=resume,
    )
    entry = state.entry
    for plan in plans:
        if plan.start is None:  # of a part of the source
            entry = reader.entry_before(0)
        next_entry = None if plan.next_start is None else reader.entry_before(plan.next_start.read_pts)
        yield plan.model_copy(update={"entry": entry, "next_entry": next_entry})
        entry = next_entry
