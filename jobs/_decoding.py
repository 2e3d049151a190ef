"""From a job's Redis hash to a `Job`. Pure, so that the sync and the async reader share it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from jobs.records import InputInfo, Job, JobError, JobSpec, JobState, OutputInfo, Stage

JOB_KEY = "dv:job:{}"


def job_from_hash(values: Mapping[bytes, bytes]) -> Job:
    """Decodes what HGETALL gives for an existing job."""
    text = {name.decode(): value.decode() for name, value in values.items()}
    stage, output, error = text.get("stage"), text.get("output"), text.get("error")
    spec = JobSpec.model_validate_json(text["spec"])
    if "input" in text:
        spec = spec.model_copy(update={"input": InputInfo.model_validate_json(text["input"])})
    return Job.model_construct(
        spec=spec,
        state=JobState(text["state"]),
        stage=Stage(stage) if stage else None,
        version=int(text["version"]),
        updated_at=_time(text["updated_at"]),
        started_at=_optional_time(text.get("started_at")),
        completed_at=_optional_time(text.get("completed_at")),
        expires_at=_optional_time(text.get("expires_at")),
        processed_frames=int(text["processed_frames"]),
        total_frames=int(text["total_frames"]) if "total_frames" in text else None,
        upscaling_started_at=_optional_time(text.get("upscaling_started_at")),
        num_segments=int(text["num_segments"]),
        num_finished_segments=int(text["num_finished"]),
        is_planned=text["is_planned"] == "1",
        attempts=int(text["attempts"]),
        plan=_optional_json(text.get("plan")),
        streaming=_optional_json(text.get("streaming")),
        output=OutputInfo.model_validate_json(output) if output else None,
        warnings=tuple(json.loads(text.get("warnings", "[]"))),
        error=JobError.model_validate_json(error) if error else None,
    )


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(float(milliseconds)) / 1000, UTC)


def _optional_time(milliseconds: str | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)


def _optional_json(text: str | None) -> dict[str, object] | None:
    return None if text is None else json.loads(text)
