"""From the fields of a job's Redis hash to a `Job`. Pure, so that the sync and the async reader share it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from jobs.deliveries import Delivery, DeliveryStatus
from jobs.records import InputInfo, Job, JobError, JobPlan, JobSpec, JobState, OutputInfo, Stage, Streaming

JOB_KEY = "dv:job:{}"
FIELDS = (
    "spec", "state", "version", "updated_at", "processed_frames", "num_segments", "num_finished", "attempts",
    "is_planned", "stage", "started_at", "completed_at", "expires_at", "upscaling_started_at", "total_frames",
    "input", "run", "stream", "output", "warnings", "error", "delivery",
)  # fmt: skip
"""Of what a `Job` is made; a record has more, for the scripts."""


def job_of(values: Sequence[bytes | None]) -> Job | None:
    """Decodes the values of `FIELDS`; None where they are of no job."""
    # fmt: off
    (
        spec, state, version, updated_at, processed_frames, num_segments, num_finished, attempts,
        is_planned, stage, started_at, completed_at, expires_at, upscaling_started_at, total_frames,
        found, run, stream, output, warnings, error, delivery,
    ) = values
    # fmt: on
    if spec is None:
        return None
    # All records have these.
    assert state
    assert version
    assert updated_at
    assert processed_frames
    assert num_segments
    assert num_finished
    assert attempts
    submitted = JobSpec.model_validate_json(spec)
    if found is not None:
        submitted = submitted.model_copy(update={"input": InputInfo.model_validate_json(found)})
    return Job.model_construct(
        spec=submitted,
        state=JobState(state.decode()),
        stage=Stage(stage.decode()) if stage else None,
        version=int(version),
        updated_at=_time(updated_at),
        started_at=_time(started_at) if started_at else None,
        completed_at=_time(completed_at) if completed_at else None,
        expires_at=_time(expires_at) if expires_at else None,
        processed_frames=int(processed_frames),
        total_frames=int(total_frames) if total_frames else None,
        upscaling_started_at=_time(upscaling_started_at) if upscaling_started_at else None,
        num_segments=int(num_segments),
        num_finished_segments=int(num_finished),
        is_planned=is_planned == b"1",
        attempts=int(attempts),
        plan=JobPlan.model_validate_json(run) if run else None,
        streaming=Streaming.model_validate_json(stream) if stream else None,
        output=OutputInfo.model_validate_json(output) if output else None,
        warnings=tuple(json.loads(warnings)) if warnings else (),
        error=JobError.model_validate_json(error) if error else None,
        delivery=Delivery.model_validate_json(delivery) if delivery else _awaited_delivery(submitted),
    )


def _awaited_delivery(spec: JobSpec) -> Delivery | None:
    if spec.deliver_to is None:
        return None
    return Delivery(url=spec.deliver_to, status=DeliveryStatus.WAITING)


def _time(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(float(milliseconds)) / 1000, UTC)
