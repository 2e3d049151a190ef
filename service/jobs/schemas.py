"""What jobs look like on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from jobs.options import JobOptions, PictureKind
from jobs.records import Job, JobState, Stage
from jobs.specs import JobSpec, Priority
from jobs.transfers import DeliveryStatus, ResultDelivery, public_address
from service.jobs.example import EXAMPLE_JOB


class InputSchema(BaseModel):
    """What was found in the source. While it is still being fetched only its name is known."""

    filename: str
    size_bytes: int | None
    format: str | None
    codec: str | None
    width: int | None
    height: int | None
    rotation: int
    frame_rate: float | None
    duration_seconds: float | None
    num_frames: int | None
    has_audio: bool
    picture: Annotated[
        PictureKind | None,
        Field(description="Which kind of still it is, HEIF counts as jpg; null for all else."),
    ] = None


class DecidedSchema(BaseModel):
    """What the worker that planned the job made of its options and its source."""

    model: str
    width: Annotated[int, Field(description="Of the result, in pixels.")]
    height: Annotated[int, Field(description="Of the result, in pixels.")]
    codec: Annotated[str, Field(description="Of a still its kind.")]
    encoder: Annotated[
        str | None,
        Field(description="As FFmpeg calls it; null for stills, like the next three.", examples=["libx264"]),
    ]
    pix_fmt: str | None
    crf: Annotated[float | None, Field(description="In the terms of the codec.")]
    preset: Annotated[str | None, Field(description="In the terms of the encoder.")]


class OutputSchema(BaseModel):
    """The finished file."""

    width: int
    height: int
    num_frames: int
    duration_seconds: float
    size_bytes: int
    sha256: str


class ErrorSchema(BaseModel):
    """Why a job failed."""

    code: Annotated[str, Field(examples=["no_frames"])]
    message: str


class JobDeliverySchema(BaseModel):
    """How far the result is on its way to `deliver_to`."""

    url: Annotated[
        str,
        Field(
            description="Where it goes, without the address's query; a prefix until it is known what the "
            "source is."
        ),
    ]
    status: Annotated[
        DeliveryStatus, Field(description="waiting: for the result; pending: it is sent until it arrives.")
    ]
    attempts: int
    error: Annotated[ErrorSchema | None, Field(description="Of the last attempt.")]
    ended_at: Annotated[datetime | None, Field(description="When it was delivered or given up.")]


class JobLinks(BaseModel):
    """Where to go from here; paths on this server."""

    self: str
    events: str
    cancel: str
    retry: str
    content: str
    stream: str
    hls: str
    preview: str
    source: str
    report: str
    deliver: str


class JobSchema(BaseModel):
    """A job."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_JOB]})

    id: str
    object: Literal["job"] = "job"
    owner: Annotated[str, Field(description="Id of the API key; `local` on a server without keys.")]
    status: JobState
    stage: Annotated[
        Stage | None,
        Field(description="What is being done: fetching while queued, the others while in progress."),
    ]
    progress: Annotated[int, Field(ge=0, le=100, description="100 only when the file is there.")]
    processed_frames: int
    total_frames: Annotated[int | None, Field(description="An estimate until the plan is complete.")]
    fps: Annotated[float | None, Field(description="Frames per second of all workers together.")]
    eta_seconds: float | None
    queue_position: Annotated[int | None, Field(description="1 is next; only while it is queued.")]
    attempts: Annotated[int, Field(description="Most attempts that one of its tasks has taken.")]
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="When record and files are removed.")]
    input: InputSchema
    output: OutputSchema | None
    options: Annotated[
        JobOptions,
        Field(
            description="As they were submitted; the container auto becomes what it means for the source "
            "as soon as that is known."
        ),
    ]
    decided: Annotated[
        DecidedSchema | None, Field(description="What became of the options; null until it is planned.")
    ]
    priority: Priority
    labels: dict[str, str]
    metadata: dict[str, Any]
    batch_id: str | None
    warnings: Annotated[list[str], Field(description="What was repaired, changed or dropped.")]
    error: ErrorSchema | None
    delivery: Annotated[
        JobDeliverySchema | None, Field(description="null unless the result is to be delivered.")
    ]
    links: JobLinks

    @classmethod
    def of(cls, job: Job, queue_position: int | None) -> Self:
        """A job as customers see it."""
        return cls.model_validate(_values_of(job, queue_position))


def job_json(job: Job, queue_position: int | None) -> bytes:
    """As `JobSchema.of(...).model_dump_json()`, in a third of the time."""
    return to_json(_values_of(job, queue_position))


class JobListSchema(BaseModel):
    """One page of jobs."""

    object: Literal["list"] = "list"
    data: Annotated[list[JobSchema], Field(description="With a filter perhaps fewer than `limit`, or none.")]
    has_more: bool
    next: Annotated[str | None, Field(description="Give as `after` for the next page.")]


class JobEventSchema(BaseModel):
    """The data of a server-sent event."""

    type: Annotated[str, Field(examples=["progress"])]
    at: datetime
    detail: dict[str, Any]
    job: JobSchema | None


_OUTPUT, _DECIDED = tuple(OutputSchema.model_fields), tuple(DecidedSchema.model_fields)


def _values_of(job: Job, queue_position: int | None) -> dict[str, Any]:
    """The fields of `JobSchema`, in its order."""
    spec, plan, output, error = job.spec, job.plan, job.output, job.error
    return {
        "id": spec.id,
        "object": "job",
        "owner": spec.owner,
        "status": job.state,
        "stage": job.stage,
        "progress": job.progress,
        "processed_frames": job.processed_frames,
        "total_frames": job.total_frames,
        "fps": _rounded(job.frames_per_second),
        "eta_seconds": _rounded(job.eta_seconds),
        "queue_position": queue_position,
        "attempts": job.attempts,
        "created_at": spec.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "expires_at": job.expires_at,
        "input": _input_values(spec),
        "output": None if output is None else {name: getattr(output, name) for name in _OUTPUT},
        "options": spec.options,
        "decided": None if plan is None else {name: getattr(plan, name) for name in _DECIDED},
        "priority": spec.priority,
        "labels": spec.labels,
        "metadata": spec.metadata,
        "batch_id": spec.batch_id,
        "warnings": job.warnings,
        "error": None if error is None else {"code": error.code, "message": error.message},
        "delivery": None if job.delivery is None else _delivery_values(job.delivery),
        "links": _links(spec.id),
    }


def _delivery_values(delivery: ResultDelivery) -> dict[str, Any]:
    ended_ms = delivery.ended_ms
    return {
        "url": public_address(delivery.url),
        "status": delivery.status,
        "attempts": delivery.attempts,
        "error": delivery.code and {"code": delivery.code, "message": delivery.message},
        "ended_at": None if ended_ms is None else datetime.fromtimestamp(ended_ms / 1000, UTC),
    }


def _input_values(spec: JobSpec) -> dict[str, Any]:
    found = spec.input
    return {
        "filename": spec.filename,
        "size_bytes": found and found.size_bytes,
        "format": found and found.format_name,
        "codec": found and found.codec,
        "width": found and found.width,
        "height": found and found.height,
        "rotation": found.rotation if found else 0,
        "frame_rate": found and found.frame_rate,
        "duration_seconds": found and found.duration_seconds,
        "num_frames": found and found.num_frames,
        "has_audio": found is not None and found.has_audio,
        "picture": found and found.picture,
    }


def _links(job_id: str) -> dict[str, str]:
    base = f"/v1/jobs/{job_id}"
    return {
        "self": base,
        "events": f"{base}/events",
        "cancel": f"{base}/cancel",
        "retry": f"{base}/retry",
        "content": f"{base}/content",
        "stream": f"{base}/stream",
        "hls": f"{base}/hls/playlist.m3u8",
        "preview": f"{base}/preview.jpg",
        "source": f"{base}/source",
        "report": f"{base}/report",
        "deliver": f"{base}/deliver",
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
