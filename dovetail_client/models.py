"""What the service says, as frozen values. Fields that a newer service adds are kept, not refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dovetail_client._words import BatchStatus, JobStatus, Priority, Stage, UploadStatus


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, protected_namespaces=())


M = TypeVar("M", bound=BaseModel)


class Problem(Value):
    """Why a job failed or an input was refused: a stable code, and words for people."""

    code: str
    message: str = ""


class JobInput(Value):
    """What the service found in the source. Pixels, bytes and seconds.

    Attributes:
        picture: Which kind of still it is (png, jpg, also of HEIF, webp, avif, tiff, bmp); None for all else.
    """

    filename: str | None = None
    size_bytes: int | None = None
    format: str | None = None
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    rotation: int = 0
    frame_rate: float | None = None
    duration_seconds: float | None = None
    num_frames: int | None = None
    has_audio: bool = False
    picture: str | None = None


class JobOutput(Value):
    """The result. Pixels, bytes and seconds; `sha256` is that of the file."""

    width: int
    height: int
    num_frames: int
    duration_seconds: float
    size_bytes: int
    sha256: str


class JobDelivery(Value):
    """How far a result is on its way to `deliver_to`.

    Attributes:
        url: Where it goes, without the address's query.
        status: waiting, pending, delivered or failed.
        error: Of the last attempt.
    """

    url: str
    status: str
    attempts: int = 0
    error: Problem | None = None
    ended_at: datetime | None = None


class Job(Value):
    """A job as it was when the service answered.

    Attributes:
        progress: 0-100.
        processed_frames: Frames that are finished.
        total_frames: Frames of the result; None until it is planned.
        fps: Frames per second of work.
        eta_seconds: Estimate of the time left.
        queue_position: 1 is the next one; None unless queued.
        expires_at: When the service deletes the job and its files.
        owner: Id of the key whose job it is.
        options: Every option by name, as it was submitted.
        decided: What became of them (model, size, codec, crf, ...); None until it is planned.
        delivery: None unless the result is to be delivered.
        links: Paths of everything that belongs to the job.
    """

    id: str
    owner: str | None = None
    status: JobStatus
    stage: Stage | None = None
    progress: float = 0
    processed_frames: int = 0
    total_frames: int | None = None
    fps: float | None = None
    eta_seconds: float | None = None
    queue_position: int | None = None
    attempts: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    input: JobInput = JobInput()
    output: JobOutput | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    decided: dict[str, Any] | None = None
    priority: Priority = Priority.NORMAL
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    batch_id: str | None = None
    warnings: tuple[str, ...] = ()
    error: Problem | None = None
    delivery: JobDelivery | None = None
    links: dict[str, str | None] = Field(default_factory=dict)


class Page(Value, Generic[M]):
    """One page of a list.

    Attributes:
        next: What to give as `after` for the next page; None on the last one.
    """

    data: tuple[M, ...]
    has_more: bool = False
    next: str | None = None


JobList = Page[Job]


class JobEvent(Value):
    """Something that happened to a job.

    Attributes:
        id: Where one may go on listening (`last_event_id`).
        type: status, progress, segment, warning, completed, failed, cancelled; reset where events were lost.
        job: The job as it was then; None where the event does not say.
    """

    id: str
    type: str
    at: datetime | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
    job: Job | None = None


class BatchCounts(Value):
    """How many jobs of a batch are in which state."""

    total: int = 0
    queued: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    deleted: int = 0


class RejectedInput(Value):
    """An input of a batch of which no job was made."""

    index: int
    line: int | None = None
    filename: str | None = None
    error: Problem


class Batch(Value):
    """Jobs that were submitted together; `progress` is 0-100."""

    id: str
    status: BatchStatus
    counts: BatchCounts = BatchCounts()
    progress: float = 0
    rejected: tuple[RejectedInput, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    links: dict[str, str | None] = Field(default_factory=dict)


class BatchResult(Value):
    """What became of one job of a batch."""

    job_id: str
    filename: str | None = None
    status: JobStatus
    container: str = "mp4"
    content: str | None = None
    size_bytes: int | None = None
    error: Problem | None = None


class Upload(Value):
    """A file on its way to the service, or there.

    Attributes:
        offset: Bytes that are there.
        expires_at: When the service forgets it unless a job uses it.
    """

    id: str
    status: UploadStatus
    size_bytes: int
    offset: int
    filename: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Model(Value):
    """A model that the service offers."""

    id: str
    kind: str | None = None
    scale: float | None = None
    licence: str | None = None
    is_default: bool = False
    megapixels_per_second: float | None = None
    available: bool = True


class OutputSize(Value):
    """Width and height of a result in pixels."""

    width: int
    height: int


class Estimate(Value):
    """What a job would cost. Seconds are None while the service has no measurements.

    Attributes:
        memory_bytes: Of the device, at most.
        seconds: Of work.
        queue_seconds: Before work begins.
        fits: Whether the service can do it at all.
    """

    frames: int | None = None
    output: OutputSize | None = None
    megapixels: float | None = None
    tiles: dict[str, Any] | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    queue_seconds: float | None = None
    fits: bool = True
    warnings: tuple[str, ...] = ()


class UploadPart(Value):
    """Where a part of an upload is sent to."""

    number: int
    offset: int
    size_bytes: int
    url: str = Field(repr=False)


class UploadParts(Value):
    """How far the parts of an upload are: numbers of those that are there, addresses of others."""

    part_size_bytes: int
    num_parts: int = 0
    arrived: tuple[int, ...] = ()
    parts: tuple[UploadPart, ...] = ()
    expires_at: datetime | None = None
