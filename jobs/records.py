"""What becomes of a job, as API and workers tell each other by the store: state, plan, segments, result."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from jobs import objects
from jobs.options import ContainerName
from jobs.specs import JobSpec
from jobs.transfers import ResultDelivery
from jobs.values import Value


class JobState(StrEnum):
    """Where a job is. The words are those of `docs/glossary.md`."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself (a failed job can be tried again)."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class Stage(StrEnum):
    """What is being done to a job: fetching while it is queued, the others while it is in progress."""

    FETCHING = "fetching"
    PLANNING = "planning"
    UPSCALING = "upscaling"
    JOINING = "joining"


class JobError(Value):
    """Why a job failed: a stable code, and a message for people."""

    code: str
    message: str


class OutputInfo(Value):
    """The finished file. Its record has what cannot be told from the job's.

    Attributes:
        job_id: Whose.
        container: What kind of file it is.
        num_segments: That it was joined of.
        width: In pixels.
        height: In pixels.
        num_frames: Frames.
        duration_seconds: End of the last frame.
        size_bytes: Size.
        sha256: Of the file; also its ETag.
        token: Of the attempt that has joined it, as far as names of objects have it.
        preview_token: Of the attempt that has made the last segment; None where it left no picture.
    """

    job_id: str = Field(exclude=True)
    container: ContainerName = Field(exclude=True)
    num_segments: int = Field(exclude=True)
    width: int
    height: int
    num_frames: int
    duration_seconds: float
    size_bytes: int
    sha256: str
    token: str
    preview_token: str | None = None

    @property
    def key(self) -> str:
        """Of the file in the storage."""
        return objects.output_key(self.job_id, self.token, self.container)

    @property
    def report_key(self) -> str:
        """Of the media report in the storage."""
        return objects.report_key(self.job_id, self.token)

    @property
    def segments_key(self) -> str:
        """Of the list of segments in the storage (`jobs.segment_list`), for who still plays them."""
        return objects.segments_key(self.job_id, self.token)

    @property
    def preview_key(self) -> str | None:
        """Of a before/after picture of the last segment's last frame."""
        if self.preview_token is None:
            return None
        return objects.preview_key(self.job_id, self.num_segments - 1, self.preview_token)


class JobPlan(Value):
    """What the planner decided, as far as others than workers want to know.

    Attributes:
        model: Its name.
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        codec: Of the result; of a still its kind.
        encoder: As FFmpeg calls it; None for stills, like the next three.
        pix_fmt: Of the result.
        crf: In the terms of the codec.
        preset: In the terms of the encoder.
        description_key: Of the whole run in the storage, for workers; None once the job is completed.
    """

    model: str
    width: int
    height: int
    codec: str
    encoder: str | None = None
    pix_fmt: str | None = None
    crf: float | None = None
    preset: str | None = None
    description_key: str | None = None


class StreamSound(Value):
    """The source's sound as a fragmented MP4 of its own, for the growing stream.

    Attributes:
        key: Of the file in the storage.
        size_bytes: Of the file, as far as players need it.
        index_key: Of the index of its fragments (`media.growing`) in the storage.
    """

    key: str
    size_bytes: int
    index_key: str


class Streaming(Value):
    """What the growing stream needs besides the segments.

    Attributes:
        sound: None if there is none.
    """

    sound: StreamSound | None


class FinishedSegment(Value):
    """A part of the output that is in the storage.

    Attributes:
        index: Position in the output.
        key: Of the file in the storage.
        num_frames: Frames in it.
        size_bytes: Size of the file.
        seconds: How long the attempt took.
        output_pixels: Width times height times frames.
        boxes: Index of its fragments (`media.growing`), for streaming.
        preview_key: Of a before/after picture of its last frame.
        warnings: What had to be repaired in it.
        findings: What the model found in it, for the report.
    """

    index: int
    key: str
    num_frames: int
    size_bytes: int
    seconds: float
    output_pixels: int
    boxes: dict[str, Any] = Field(default_factory=dict)
    preview_key: str | None = None
    warnings: tuple[str, ...] = ()
    findings: dict[str, float] = Field(default_factory=dict)


class Job(Value):
    """A job as it is now.

    Attributes:
        spec: What was submitted.
        state: Where it is.
        stage: What is being done; None where it waits or has ended.
        version: Grows with every change; the ETag.
        updated_at: Of the last change.
        started_at: When the first attempt began.
        completed_at: When it reached its final state.
        expires_at: When record and files go; None while it is unfinished.
        processed_frames: In finished segments and in running attempts.
        total_frames: Exact once the plan is complete, an estimate before.
        upscaling_started_at: When the first segment's first attempt began.
        num_segments: Planned so far.
        num_finished_segments: Of these.
        is_planned: Whether all segments are known.
        attempts: Largest number of attempts that one of its tasks has taken.
        plan: What the planner decided; None before.
        streaming: What the growing stream needs besides the segments; None before that is known, and once
            the job is completed: it is in the list of segments then.
        output: The finished file.
        warnings: What the customer should know about the result.
        error: Why it failed.
        delivery: How far its result is on the way to the customer's storage; None if it is not to go there.
    """

    spec: JobSpec
    state: JobState
    stage: Stage | None = None
    version: int = 1
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    processed_frames: int = 0
    total_frames: int | None = None
    upscaling_started_at: datetime | None = None
    num_segments: int = 0
    num_finished_segments: int = 0
    is_planned: bool = False
    attempts: int = 0
    plan: JobPlan | None = None
    streaming: Streaming | None = None
    output: OutputInfo | None = None
    warnings: tuple[str, ...] = ()
    error: JobError | None = None
    delivery: ResultDelivery | None = None

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def is_playable(self) -> bool:
        """Whether it is known what the growing stream needs besides the segments."""
        return self.streaming is not None or self.output is not None

    @property
    def progress(self) -> int:
        """0-100; 100 only when the file is there."""
        if self.state is JobState.COMPLETED:
            return 100
        if not self.total_frames:
            return 0
        return min(99, 100 * self.processed_frames // self.total_frames)

    @property
    def frames_per_second(self) -> float | None:
        """Of all workers together since upscaling began; None before there is anything to measure."""
        if self.upscaling_started_at is None or not self.processed_frames:
            return None
        end = self.completed_at or datetime.now(UTC)
        seconds = (end - self.upscaling_started_at).total_seconds()
        return self.processed_frames / seconds if seconds > 0 else None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the frames are done at the speed so far; None where that is unknown."""
        speed = self.frames_per_second
        if self.state is not JobState.IN_PROGRESS or speed is None or self.total_frames is None:
            return None
        return max(0, self.total_frames - self.processed_frames) / speed
