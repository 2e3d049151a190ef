"""The model's stage: source frames into chunks, chunks through the pipeline, finished frames and segment
ends out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.options import DoveOptions
from pipelines.planning import UpscalePlan
from workers.chunks import Chunk, ChunkScheduler, CrossFader
from workers.manifest import ResumePoint
from workers.models import Model
from workers.reading import SourceFrame
from workers.timing import StageClock
from workers.writing import FinishedFrame, SegmentEnd


@dataclass(frozen=True, kw_only=True)
class RestoreSettings:
    """How frames become larger ones.

    Attributes:
        height: Of the output, in pixels.
        width: Of the output, in pixels.
        options: Of the pipeline.
        plan: Chunks and tiles.
        seed: Of the noise, for pipelines that draw any.
        segment_ticks: A segment ends with the first chunk after so many ticks.
        keep_source: Whether finished frames carry the frame they were made from.
    """

    height: int
    width: int
    options: DoveOptions
    plan: UpscalePlan
    seed: int
    segment_ticks: int
    keep_source: bool


class Restorer:
    """Runs a model over a row of frames that does not end in memory.

    Args:
        model: The model.
        settings: What to do with it.
        put: Takes finished frames in order, and segment ends between them.
        clock: Counts the model's time.
        resume: Where an earlier run ended.
    """

    def __init__(
        self,
        model: Model,
        settings: RestoreSettings,
        put: Callable[[FinishedFrame | SegmentEnd], None],
        *,
        clock: StageClock,
        resume: ResumePoint | None = None,
    ) -> None:
        self.num_cuts = 0
        self._model, self._settings, self._put, self._clock = model, settings, put, clock
        self._first_frame = resume.next_frame if resume else 0
        plan = settings.plan
        self._scheduler = ChunkScheduler(
            plan.chunk_len,
            # More than half would let three chunks meet, and a continued run would have to make all three
            # again.
            min(plan.chunk_overlap, plan.chunk_len // 2),
            first_frame=resume.chunk_frame if resume else 0,
        )
        self._fader = CrossFader(self._emit)
        self._buffer: dict[int, SourceFrame] = {}
        self._segment_start: int | None = None
        self._segment_end = 0
        self._pending_end: SegmentEnd | None = None

    @torch.no_grad()
    def run(self, frames: Iterable[SourceFrame]) -> None:
        """Takes all frames."""
        for frame in frames:
            if frame.number < self._scheduler.start:
                continue  # read for the cut detector only
            self._end_segment()
            self.num_cuts += frame.is_cut
            self._process(self._scheduler.begin_frame(is_cut=frame.is_cut))
            self._end_segment()
            self._buffer[frame.number] = frame
            self._process(self._scheduler.end_frame())
        self._process(self._scheduler.finish())
        self._fader.flush()
        self._put(SegmentEnd(None))

    def _process(self, chunk: Chunk | None) -> None:
        """Runs the pipeline on a chunk whose frames are all there."""
        if chunk is None:
            return
        settings = self._settings
        frames = [self._buffer[number] for number in range(chunk.start, chunk.stop)]
        clip = torch.stack([frame.image for frame in frames]).to(self._model.device)
        batches = self._model.pipeline.stream(
            clip,
            height=settings.height,
            width=settings.width,
            options=settings.options,
            plan=settings.plan,
            generator=self._generator(chunk),
        )
        self._fader.add(chunk, (_to_host(batch) for batch in self._clock.iterate("model", batches)))
        self._plan_segment_end(chunk, frames)
        for number in [n for n in self._buffer if n < min(self._scheduler.start, chunk.final_stop)]:
            del self._buffer[number]

    def _generator(self, chunk: Chunk) -> torch.Generator:
        """Noise that depends on the chunk alone, so that a continued run draws the same."""
        generator = torch.Generator(device=self._model.device)
        return generator.manual_seed(self._settings.seed + chunk.start)

    def _emit(self, number: int, image: Tensor) -> None:
        frame = self._buffer[number]
        if number < self._first_frame:
            return
        if self._segment_start is None:
            self._segment_start = frame.pts
        self._segment_end = frame.pts + frame.duration
        source = frame.image if self._settings.keep_source else None
        self._put(FinishedFrame(number, image, source, frame.pts, frame.duration))

    def _plan_segment_end(self, chunk: Chunk, frames: list[SourceFrame]) -> None:
        """Ends the segment before the first frame that is not final, if it is long enough."""
        if (
            self._segment_start is None
            or self._segment_end - self._segment_start < self._settings.segment_ticks
        ):
            return
        # With shared frames at the border, their chunk is run again. Without, the chunk begins after the
        # border, and one frame more is read: whether a shot begins there depends on it.
        read = frames[0] if chunk.tail else frames[-1]
        self._segment_start = None
        self._pending_end = SegmentEnd(
            ResumePoint(
                next_frame=chunk.final_stop,
                chunk_frame=chunk.start if chunk.tail else chunk.stop,
                read_frame=read.number,
                read_pts=read.pts,
                cut_history=read.cut_history,
            )
        )
        if chunk.tail:
            self._end_segment()

    def _end_segment(self) -> None:
        """Passes on the end that was planned. After a chunk without a tail that waits for the next frame:
        only it
        tells that the segment was not the last."""
        if self._pending_end is not None:
            self._put(self._pending_end)
            self._pending_end = None


def _to_host(batch: Tensor) -> Tensor:
    return batch.to(device="cpu", dtype=torch.float32)
