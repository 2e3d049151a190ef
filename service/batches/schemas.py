"""What batches look like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.batch_records import Batch, RejectedInput
from jobs.records import Job, JobState
from jobs.specs import Priority
from service.jobs.schemas import ErrorSchema
from service.jobs.submissions import MAX_LABELS, DeliverTo, JobSettings, LabelName, LabelValue, Source

_EXAMPLE_ID = "batch_01k9zq3v5n8w2c7m4t6y1x0abc"
MAX_REJECTED_SHOWN = 1000
MAX_RESULTS = 1000


class BatchInputRequest(BaseModel):
    """One input, with what differs from the batch's own settings."""

    model_config = ConfigDict(extra="forbid")

    source: Source
    filename: Annotated[str | None, Field(max_length=255)] = None
    options: Annotated[dict[str, Any], Field(description="Options that differ from the batch's.")] = {}
    priority: Priority | None = None
    labels: Annotated[
        dict[LabelName, LabelValue], Field(max_length=MAX_LABELS, description="Besides the batch's.")
    ] = {}
    metadata: Annotated[dict[str, Any] | None, Field(description="Instead of the batch's.")] = None
    deliver_to: DeliverTo | None = None


class BatchRequest(JobSettings):
    """A batch without files in it: inputs, or a manifest, or a prefix in an allowed bucket."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {"source": {"type": "upload", "upload_id": "upl_01k9zq3v5n8w2c7m4t6y1x0abc"}},
                        {
                            "source": {"type": "url", "url": "https://videos.example.com/b.mp4"},
                            "options": {"height": 1080},
                        },
                    ],
                    "options": {"scale": 2},
                    "labels": {"project": "archive"},
                }
            ]
        }
    )

    # Checked one by one, so that a wrong one does not stop the others.
    inputs: Annotated[list[Any] | None, Field(description="Each a BatchInputRequest.")] = None
    manifest: Annotated[
        str | None, Field(description="The inputs as text: JSON Lines, or CSV with a header.")
    ] = None
    prefix: Annotated[
        str | None,
        Field(max_length=2048, description="Every object below it.", examples=["s3://films/season-1/"]),
    ] = None


class BatchCounts(BaseModel):
    """Inputs by what has become of them."""

    total: int
    queued: Annotated[int, Field(description="With those that have not been looked at yet.")]
    in_progress: Annotated[int, Field(description="With those that are being cancelled.")]
    completed: int
    failed: int
    cancelled: int
    rejected: Annotated[int, Field(description="Inputs that became no job.")]
    deleted: Annotated[int, Field(description="Jobs that were deleted or have expired.")]


class RejectedSchema(BaseModel):
    """An input that became no job."""

    index: Annotated[int, Field(description="Position in what was submitted, from 0.")]
    line: Annotated[int | None, Field(description="In the manifest, from 1.")]
    filename: str | None
    error: ErrorSchema

    @classmethod
    def of(cls, item: RejectedInput) -> Self:
        """A rejected input as customers see it."""
        error = ErrorSchema(code=item.code, message=item.message)
        return cls(index=item.index, line=item.line, filename=item.filename, error=error)


class BatchLinks(BaseModel):
    """Where to go from here; paths on this server."""

    self: str
    jobs: str
    cancel: str
    results: str
    zip: str


class BatchSchema(BaseModel):
    """A batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _EXAMPLE_ID,
                    "object": "batch",
                    "status": "in_progress",
                    "counts": {
                        "total": 3,
                        "queued": 1,
                        "in_progress": 1,
                        "completed": 0,
                        "failed": 0,
                        "cancelled": 0,
                        "rejected": 1,
                        "deleted": 0,
                    },
                    "progress": 33,
                    "rejected": [
                        {
                            "index": 2,
                            "line": 3,
                            "filename": None,
                            "error": {"code": "not_found", "message": "there is no upload 'upl_x'"},
                        }
                    ],
                    "labels": {"project": "archive"},
                    "metadata": {},
                    "created_at": "2026-11-21T12:00:00Z",
                    "completed_at": None,
                    "expires_at": None,
                    "links": {
                        "self": f"/v1/batches/{_EXAMPLE_ID}",
                        "jobs": f"/v1/jobs?batch_id={_EXAMPLE_ID}",
                        "cancel": f"/v1/batches/{_EXAMPLE_ID}/cancel",
                        "results": f"/v1/batches/{_EXAMPLE_ID}/results",
                        "zip": f"/v1/batches/{_EXAMPLE_ID}/results.zip",
                    },
                }
            ]
        }
    )

    id: str
    object: Literal["batch"] = "batch"
    status: Annotated[
        Literal["in_progress", "completed", "failed", "cancelling", "cancelled"],
        Field(description="failed only if nothing was completed; see counts."),
    ]
    counts: BatchCounts
    progress: Annotated[int, Field(ge=0, le=100, description="Inputs of which nothing more is to come.")]
    rejected: Annotated[
        list[RejectedSchema], Field(description=f"The first {MAX_REJECTED_SHOWN}; none in a list of batches.")
    ]
    labels: dict[str, str]
    metadata: dict[str, Any]
    created_at: datetime
    completed_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="When the record is removed.")]
    links: BatchLinks

    @classmethod
    def of(cls, batch: Batch, rejected: list[RejectedInput]) -> Self:
        """A batch as customers see it."""
        spec, jobs, base = batch.spec, batch.jobs, f"/v1/batches/{batch.id}"
        waiting = batch.num_waiting
        return cls(
            id=spec.id,
            status=batch.status.value,  # type: ignore[arg-type] # never "queued"
            counts=BatchCounts(
                total=spec.num_inputs,
                queued=jobs[JobState.QUEUED] + (0 if batch.is_cancelled else waiting),
                in_progress=jobs[JobState.IN_PROGRESS] + jobs[JobState.CANCELLING],
                completed=jobs[JobState.COMPLETED],
                failed=jobs[JobState.FAILED],
                cancelled=jobs[JobState.CANCELLED] + (waiting if batch.is_cancelled else 0),
                rejected=batch.num_rejected,
                deleted=batch.num_deleted,
            ),
            progress=batch.progress,
            rejected=[RejectedSchema.of(item) for item in rejected[:MAX_REJECTED_SHOWN]],
            labels=spec.labels,
            metadata=spec.metadata,
            created_at=spec.created_at,
            completed_at=batch.completed_at,
            expires_at=batch.expires_at,
            links=BatchLinks.model_construct(
                self=base,
                jobs=f"/v1/jobs?batch_id={batch.id}",
                cancel=f"{base}/cancel",
                results=f"{base}/results",
                zip=f"{base}/results.zip",
            ),
        )


class BatchListSchema(BaseModel):
    """One page of batches."""

    object: Literal["list"] = "list"
    data: list[BatchSchema]
    has_more: bool
    next: Annotated[str | None, Field(description="Give as `after` for the next page.")]


class BatchResultSchema(BaseModel):
    """What has become of one job of a batch."""

    job_id: str
    filename: str
    status: JobState
    container: Annotated[
        str,
        Field(
            description="What the file is: mp4, mkv, mov or webm; of a still png, jpg, webp, avif, tiff or "
            "bmp. auto while a source is fetched."
        ),
    ]
    content: Annotated[str | None, Field(description="Where the file is, once it is there.")]
    size_bytes: int | None
    error: ErrorSchema | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """A job's result."""
        output, error = job.output, job.error
        return cls(
            job_id=job.id,
            filename=job.spec.filename,
            status=job.state,
            container=job.spec.options.container,
            content=None if output is None else f"/v1/jobs/{job.id}/content",
            size_bytes=None if output is None else output.size_bytes,
            error=None if error is None else ErrorSchema(code=error.code, message=error.message),
        )


class BatchResultsSchema(BaseModel):
    """One page of results, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[BatchResultSchema]
    has_more: bool
    next: Annotated[str | None, Field(description="Give as `after` for the next page.")]


class ResultsQuery(BaseModel):
    """Which part of the results."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = MAX_RESULTS
    after: Annotated[str | None, Field(max_length=64, description="`next` of the page before.")] = None


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str | None, Field(max_length=64, description="`next` of the page before.")] = None
