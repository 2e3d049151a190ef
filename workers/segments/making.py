"""Making one planned segment, alone: the same bytes that a whole run writes for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from media import SegmentInfo, SegmentWriter
from pipelines.errors import OutOfMemoryError, is_out_of_memory
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from workers.errors import UpscaleError
from workers.run.decisions import DecidedRun, queued_frames
from workers.run.options import UpscaleOptions
from workers.run.reading import FrameSource, SourceFrame, read_frames
from workers.run.restoring import Restorer, restore_settings
from workers.run.stages import run_stages
from workers.run.threads import Channel
from workers.run.timing import StageClock
from workers.run.writing import FinishedFrame, SegmentEnd
from workers.segments.planning import PlanMismatchError, SegmentPlan
from workers.segments.preview import FramePair, make_pair


class SegmentStoppedError(UpscaleError):
    """Raised when `should_stop` ended the making of a segment. Nothing of it is left on the disk."""

    code = "segment_stopped"


@dataclass(frozen=True, eq=False)
class MadeSegment:
    """A finished segment.

    Attributes:
        info: The file: path, frames, times and size.
        preview: Its last frame.
        warnings: What the reader had to repair or skip so far, where memory did not suffice, and what the
            writer warns of. A reader that read this segment only counts what it met there.
        findings: What the model found, as in a report.
    """

    info: SegmentInfo
    preview: FramePair
    warnings: tuple[str, ...]
    findings: dict[str, float] = field(default_factory=dict)


def make_segment(
    reader: FrameSource,
    model: Model,
    decided: DecidedRun,
    plan: SegmentPlan,
    destination: Path,
    *,
    options: UpscaleOptions,
    memory_plan: ChunkPlan | None = None,
    on_frame: Callable[[int], None] = lambda num_done: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: StageClock | None = None,
) -> MadeSegment:
    """Makes one segment, whatever became of the others.

    Only what the segment needs is read. The file is the one that `upscale_file` writes for it with the same
    source, options, plan and model, byte for byte.

    Args:
        reader: Opened with the range and deinterlacing of `options`.
        model: The model that `decided` was planned for.
        decided: The run that the segment is a part of.
        plan: From `plan_segments`.
        destination: The segment file; it appears when it is whole.
        options: Of the run. Comparisons are not made: they are the command line's.
        memory_plan: Tiles for the model in place of those of `decided.plan`, which may have been too much.
        on_frame: Told from the writer's thread how many frames are written.
        should_stop: Asked before each frame is taken and each one is passed on to the writer. To end
            a long search for the first frame at once, close the reader too, in any thread.
        clock: Counts the time of the stages.

    Raises:
        SegmentStoppedError: If `should_stop` said so.
        PlanMismatchError: If the source does not have the planned frames.
        OutOfMemoryError: If memory does not suffice even after attempts with smaller tiles.
        MediaError: If the source cannot be read or the segment not be written.
        PipelineError: If the model fails.
    """
    clock = clock or StageClock()
    finished: Channel[FinishedFrame | SegmentEnd] = Channel(queued_frames(decided, model.device))
    gate = _Gate(plan, finished.put, should_stop)
    settings = restore_settings(
        decided, options, segment_ticks=None, keep_source=True, memory_plan=memory_plan
    )
    restorer = Restorer(model, settings, gate.put, clock=clock, resume=plan.start)
    written: list[tuple[SegmentInfo, tuple[str, ...]]] = []

    def write(items: Iterable[FinishedFrame | SegmentEnd]) -> None:
        written.append(_write(items, decided, destination, clock=clock, on_frame=on_frame))

    try:
        run_stages(
            restorer,
            finished,
            read=lambda: _read(reader, plan, clock),
            write=write,
            model=model,
            clock=clock,
            check=gate.check_stop,
        )
    except Exception as error:
        # Whoever wants it to stop may have closed the reader as well, in the middle of anything.
        gate.check_stop(error)
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"out of memory while making segment {plan.index}: {error}") from error
        raise
    assert gate.last is not None
    info, warnings = written[0]
    preview = make_pair(gate.last, decided)
    return MadeSegment(
        info, preview, (*reader.warnings, *restorer.warnings, *warnings), findings=restorer.findings
    )


def _read(reader: FrameSource, plan: SegmentPlan, clock: StageClock) -> Iterator[SourceFrame]:
    """The frames that a segment's chunks need, with the cuts that were planned: another machine's sums could
    be a bit off."""
    cuts = frozenset(plan.cuts)
    for frame in read_frames(reader, resume=plan.start, detect_cuts=False, clock=clock, entry=plan.entry):
        yield replace(frame, is_cut=frame.number in cuts)
        if frame.number + 1 >= plan.read_stop:
            return


def _write(
    items: Iterable[FinishedFrame | SegmentEnd],
    decided: DecidedRun,
    destination: Path,
    *,
    clock: StageClock,
    on_frame: Callable[[int], None],
) -> tuple[SegmentInfo, tuple[str, ...]]:
    """Encodes frames into a file until they end; an error leaves none behind."""
    with SegmentWriter(destination, decided.video_format, decided.encode) as writer:
        for num_done, item in enumerate(items, start=1):
            if isinstance(item, SegmentEnd):
                break
            with clock.measure("write"):
                writer.write(item.image, item.pts, item.duration, captions=item.captions, alpha=item.alpha)
            on_frame(num_done)
        with clock.measure("write"):
            return writer.close(), writer.warnings


class _Gate:
    """Lets the frames of one segment pass to the writer, and sees that they are the planned ones."""

    def __init__(
        self,
        plan: SegmentPlan,
        put: Callable[[FinishedFrame | SegmentEnd], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.last: FinishedFrame | None = None
        self._plan, self._put, self._should_stop = plan, put, should_stop
        self._num_frames = self._first_pts = 0

    def check_stop(self, error: Exception | None = None) -> None:
        """Raises SegmentStoppedError, from an error that it explains, if the segment was told to stop."""
        if isinstance(error, SegmentStoppedError):
            raise error
        if self._should_stop():
            raise SegmentStoppedError(f"segment {self._plan.index} was told to stop") from error

    def put(self, item: FinishedFrame | SegmentEnd) -> None:
        self.check_stop()
        if isinstance(item, SegmentEnd):
            self._check_end()
            self._put(item)
        elif item.number < self._plan.end_frame:  # those behind belong to the next segment's chunks too
            if self.last is None:
                self._first_pts = item.pts
            self.last = item
            self._num_frames += 1
            self._put(item)

    def _check_end(self) -> None:
        plan, last = self._plan, self.last
        end_pts = last.pts + last.duration if last is not None else 0
        got = (self._num_frames, self._first_pts, end_pts)
        planned = (plan.num_frames, plan.first_pts, plan.end_pts)
        if got != planned:
            raise PlanMismatchError(
                f"segment {plan.index} was planned with {planned[0]} frames from tick {planned[1]} to "
                f"{planned[2]}, the source gave {got[0]} from {got[1]} to {got[2]}; has the file changed?"
            )
