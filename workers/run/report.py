"""What a run read, planned, wrote and warned of, as a value that becomes JSON."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from media import MediaError, MediaInfo, ResolvedEncoding, StreamOutcome
from pipelines.errors import OutOfMemoryError, PipelineError, is_out_of_memory
from pipelines.planning.plan import ChunkPlan
from workers.errors import DiskFullError, UpscaleError, is_disk_full
from workers.run.timing import TimedStage
from workers.values import to_json_value

REPORT_VERSION = 1

Status = Literal["done", "kept", "failed", "interrupted"]


@dataclass(frozen=True)
class OutputReport:
    """The file that was written.

    Attributes:
        path: Where.
        width: Of the stored picture, in pixels.
        height: Of the stored picture, in pixels.
        num_frames: Frames.
        duration_seconds: End of the last frame.
        size_bytes: Size.
        sha256: Of the file, if asked for.
        compare_video: Side-by-side video, if asked for.
        compare_image: Side-by-side picture, if asked for.
    """

    path: Path
    width: int
    height: int
    num_frames: int
    duration_seconds: Fraction
    size_bytes: int
    sha256: str | None = None
    compare_video: Path | None = None
    compare_image: Path | None = None


@dataclass(frozen=True)
class ErrorReport:
    """Why a run failed.

    Attributes:
        code: Stable name of the kind of error.
        message: For people.
        hints: What was kept and how to go on.
    """

    code: str
    message: str
    hints: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> ErrorReport:
        """Describes an exception of any kind."""
        hints = tuple(getattr(error, "__notes__", ()))
        code = error_code(error)
        if code == "unexpected":
            return cls(code, f"{type(error).__name__}: {error}", hints)
        return cls(code, str(error) or type(error).__name__, hints)


@dataclass(kw_only=True)
class UpscaleReport:
    """One input's run. Filled in as the run goes on, so a failed one tells how far it came.

    Attributes:
        source: The input as it was named.
        destination: The output.
        status: How it ended; "kept" if an earlier run had finished it.
        model: Name, device, dtype and licence.
        input: What `probe` found.
        plan: Chunks and tiles.
        findings: What the model found in the frames that this run restored, means by name: of one that
            estimates degradations `noise` (standard deviation in 8-bit levels), `blur` (Gaussian sigma in
            source pixels, below 0 where it was sharpened) and `compression` (0 for none to 1 for JPEG
            quality 40 or x264 at crf 32).
        encoding: The encoder's settings.
        options: As asked for.
        output: What was written.
        streams: What became of each stream of the source.
        num_segments: Segments that the output was joined from.
        num_resumed_frames: Frames that an earlier run had finished.
        num_cuts: Scene cuts that this run found.
        seconds: Time the run took, without loading the model.
        stage_seconds: Time by stage; stages overlap.
        frames_per_second: New frames by `seconds`.
        peak_host_bytes: Largest resident memory of the process so far.
        peak_device_bytes: Largest memory of the run on the GPU; None on the CPU.
        warnings: What the user may not expect.
        error: Why it failed.
    """

    source: Path
    destination: Path
    status: Status = "failed"
    model: dict[str, str] = field(default_factory=dict)
    input: MediaInfo | None = None
    plan: ChunkPlan | None = None
    findings: dict[str, float] = field(default_factory=dict)
    encoding: ResolvedEncoding | None = None
    options: dict[str, Any] = field(default_factory=dict)
    output: OutputReport | None = None
    streams: tuple[StreamOutcome, ...] = ()
    num_segments: int = 0
    num_resumed_frames: int = 0
    num_cuts: int = 0
    seconds: float = 0.0
    stage_seconds: dict[TimedStage, float] = field(default_factory=dict)
    frames_per_second: float | None = None
    peak_host_bytes: int = 0
    peak_device_bytes: int | None = None
    warnings: list[str] = field(default_factory=list)
    error: ErrorReport | None = None

    def warn(self, warnings: Iterable[str]) -> None:
        """Adds warnings that are not there yet."""
        self.warnings += [text for text in dict.fromkeys(warnings) if text not in self.warnings]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; see docs/cli.md."""
        values: dict[str, Any] = to_json_value(self)
        if values["plan"] is not None:
            # What the plan was made for repeats the rest of the report.
            for name in ("fit", "shape"):
                values["plan"].pop(name, None)
        return {"version": REPORT_VERSION, **values}


@contextmanager
def reported(report: UpscaleReport, device: torch.device) -> Iterator[None]:
    """Tells a report how a `with` block ended, how long it took and what memory it needed."""
    start = time.perf_counter()
    try:
        yield
    except BaseException as error:
        report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        report.error = ErrorReport.of(error)
        raise
    finally:
        report.seconds = time.perf_counter() - start
        report.peak_host_bytes = peak_host_bytes()
        report.peak_device_bytes = peak_device_bytes(device)


def error_code(error: BaseException) -> str:
    """The stable name of an error of any of our packages, "unexpected" for all others."""
    if is_disk_full(error):
        return DiskFullError.code
    if isinstance(error, MediaError | PipelineError | UpscaleError):
        return str(error.code)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return str(OutOfMemoryError.code)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "unexpected"


def peak_host_bytes() -> int:
    """Largest resident memory of this process since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Largest memory allocated on a GPU since the counter was reset; None for the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
