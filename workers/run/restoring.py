"""The model's stage: source frames into chunks, chunks through the pipeline, finished frames and segment
ends out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.chunks import Chunk, ChunkJoiner
from pipelines.execution import HostCopier, MemoryRetry, dequantize, restore_chunk
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from workers.run.borders import ReadyChunk, SegmentCutter
from workers.run.decisions import DecidedRun
from workers.run.findings import MeanFindings
from workers.run.options import UpscaleOptions
from workers.run.reading import SourceFrame
from workers.run.record import ResumePoint
from workers.run.timing import StageClock
from workers.run.writing import FinishedFrame, SegmentEnd


@dataclass(frozen=True, kw_only=True)
class RestoreSettings:
    """How frames become larger ones.

    Attributes:
        height: Of the output, in pixels.
        width: Of the output, in pixels.
        plan: Chunks and tiles.
        seed: Of the noise, for pipelines that draw any.
        segment_ticks: A segment ends with the first chunk after so many ticks; None ends none before the
            last frame.
        keep_source: Whether finished frames carry the frame they were made from.
        memory_plan: What the model is given in place of `plan`, where that may have been too much. The chunks
            that it is given stay those of `plan`.
    """

    height: int
    width: int
    plan: ChunkPlan
    seed: int
    segment_ticks: int | None
    keep_source: bool
    memory_plan: ChunkPlan | None = None


def restore_settings(
    decided: DecidedRun,
    options: UpscaleOptions,
    *,
    segment_ticks: int | None,
    keep_source: bool,
    memory_plan: ChunkPlan | None = None,
) -> RestoreSettings:
    """The settings of a run; the arguments by name are those of `RestoreSettings`."""
    return RestoreSettings(
        height=decided.target.height,
        width=decided.target.width,
        plan=decided.plan,
        seed=options.seed,
        segment_ticks=segment_ticks,
        keep_source=keep_source,
        memory_plan=memory_plan,
    )


class Restorer:
    """Runs a model over a row of frames that does not end in memory.

    Args:
        model: The model.
        settings: What to do with it.
        put: Takes finished frames in order, and segment ends between them.
        clock: Counts the model's time.
        resume: Where an earlier run ended.

    Attributes:
        retries: Attempts that ran out of memory.
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
        self.retries: list[MemoryRetry] = []
        self._found = MeanFindings()
        self._model, self._settings, self._put, self._clock = model, settings, put, clock
        self._first_frame = resume.next_frame if resume else 0
        self._cutter: SegmentCutter[SourceFrame] = SegmentCutter(
            chunk_len=settings.plan.chunk_len,
            chunk_overlap=settings.plan.chunk_overlap,
            segment_ticks=settings.segment_ticks,
            resume=resume,
        )
        self._joiner = ChunkJoiner()
        # A GPU's frames travel at half their size; half a step of 16 bits is below what is written.
        self._copier = HostCopier("float32" if model.device.type == "cpu" else "uint16")
        self._held: dict[int, SourceFrame] = {}

    @property
    def warnings(self) -> list[str]:
        """What the user may not expect: of the model where it takes frames apart, and where memory did not
        suffice for the plan."""
        layout = self._settings.plan.layout()
        is_tiled = layout.rows * layout.cols > 1 or bool(self.retries)
        notes = self._model.card.notes if is_tiled else ()
        return list(dict.fromkeys([*notes, *(str(retry) for retry in self.retries)]))

    @property
    def findings(self) -> dict[str, float]:
        """What the model found in the chunks so far: means over their frames."""
        return self._found.means()

    @property
    def num_cuts(self) -> int:
        """Scene cuts among the frames so far."""
        return self._cutter.num_cuts

    @torch.no_grad()
    def run(self, frames: Iterable[SourceFrame]) -> None:
        """Takes all frames."""
        for step in self._cutter.run(frames):
            if isinstance(step, ReadyChunk):
                self._restore(step)
            elif step.resume is not None:
                self._put(SegmentEnd(step.resume))
        for number, image in self._joiner.flush():
            self._emit(number, image)
        self._put(SegmentEnd(None))

    def _restore(self, ready: ReadyChunk[SourceFrame]) -> None:
        """Runs the model on a chunk."""
        settings, chunk = self._settings, ready.chunk
        self._held |= {frame.number: frame for frame in ready.frames}
        clip = torch.stack([frame.image for frame in ready.frames]).to(self._model.device)
        batches = restore_chunk(
            self._model,
            clip,
            (settings.height, settings.width),
            settings.memory_plan or settings.plan,
            generator=self._generator(chunk),
            on_retry=self.retries.append,
        )
        # The copy to the host waits for the GPU, so the clock counts work and not only its launch.
        on_host = self._clock.iterate("model", self._to_host(batches))
        for number, image in self._joiner.join(chunk, on_host):
            self._emit(number, image)
        self._found.add(self._model.findings, len(chunk))
        for number in [n for n in self._held if n < chunk.final_stop]:
            del self._held[number]

    def _to_host(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        return (dequantize(batch) for batch in self._copier.copy(batches))

    def _generator(self, chunk: Chunk) -> torch.Generator:
        """Noise that depends on the chunk alone, so that a continued run draws the same."""
        generator = torch.Generator(device=self._model.device)
        return generator.manual_seed(self._settings.seed + chunk.start)

    def _emit(self, number: int, image: Tensor) -> None:
        frame = self._held[number]
        if number >= self._first_frame:
            source = frame.image if self._settings.keep_source else None
            self._put(
                FinishedFrame(number, image, source, frame.pts, frame.duration, frame.captions, frame.alpha)
            )
