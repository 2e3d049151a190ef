"""Between jobs and the fields of their Redis hashes. Pure, so that the sync and the async reader share it.

A hash holds nothing that its key or another field tells: a million of them are to fit into little memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from jobs.clock import from_unix_ms
from jobs.deliveries import DeliveryStatus, ResultDelivery
from jobs.objects import token_of
from jobs.records import (
    InputInfo,
    Job,
    JobError,
    JobPlan,
    JobSpec,
    JobState,
    OutputInfo,
    Priority,
    Stage,
    Streaming,
)

FIELDS = (
    "spec", "owner", "priority", "state", "version", "updated_at", "processed_frames", "num_segments",
    "num_finished", "attempts", "is_planned", "stage", "started_at", "completed_at", "expires_at",
    "upscaling_started_at", "total_frames", "input", "run", "stream", "output", "warnings", "error",
    "delivery",
)  # fmt: skip
"""Of what a `Job` is made; a record has more, for the scripts."""


class _KeptSpec(JobSpec):
    """What the field `spec` holds. Those of the version before have all."""

    id: str = ""
    owner: str = ""


def spec_to_json(spec: JobSpec) -> str:
    """The field `spec`: nothing that is empty, or elsewhere in the record."""
    empty = {name for name in JobSpec.model_fields if not getattr(spec, name)}
    return spec.model_dump_json(exclude_none=True, exclude=empty | {"id", "owner", "priority"})


def input_to_json(found: InputInfo) -> str:
    """The field `input`: nothing that is None, so that the version before reads it of videos."""
    return found.model_dump_json(exclude_none=True)


def output_to_json(output: OutputInfo) -> str:
    """The field `output`."""
    return output.model_dump_json(exclude_none=True)


def job_of(job_id: str, values: Sequence[bytes | None]) -> Job | None:
    """Decodes the values of `FIELDS`; None where they are of no job."""
    # fmt: off
    (
        spec, owner, priority, state, version, updated_at, processed_frames, num_segments,
        num_finished, attempts, is_planned, stage, started_at, completed_at, expires_at,
        upscaling_started_at, total_frames, found, run, stream, output, warnings, error, delivery,
    ) = values
    # fmt: on
    if spec is None:
        return None
    # All records have these.
    assert owner
    assert priority
    assert state
    assert version
    assert updated_at
    assert processed_frames
    assert num_segments
    assert num_finished
    assert attempts
    kept = vars(_KeptSpec.model_validate_json(spec))
    kept |= {"id": job_id, "owner": owner.decode(), "priority": Priority(priority.decode())}
    if found is not None:
        kept["input"] = InputInfo.model_validate_json(found)
    job_spec = JobSpec.model_construct(**kept)
    return Job.model_construct(
        spec=job_spec,
        state=JobState(state.decode()),
        stage=Stage(stage.decode()) if stage else None,
        version=int(version),
        updated_at=from_unix_ms(updated_at),
        started_at=from_unix_ms(started_at) if started_at else None,
        completed_at=from_unix_ms(completed_at) if completed_at else None,
        expires_at=from_unix_ms(expires_at) if expires_at else None,
        processed_frames=int(processed_frames),
        total_frames=int(total_frames) if total_frames else None,
        upscaling_started_at=from_unix_ms(upscaling_started_at) if upscaling_started_at else None,
        num_segments=int(num_segments),
        num_finished_segments=int(num_finished),
        is_planned=is_planned == b"1",
        attempts=int(attempts),
        plan=JobPlan.model_validate_json(run) if run else None,
        streaming=Streaming.model_validate_json(stream) if stream else None,
        output=_output_of(job_spec, int(num_segments), output) if output else None,
        warnings=tuple(json.loads(warnings)) if warnings else (),
        error=JobError.model_validate_json(error) if error else None,
        delivery=ResultDelivery.model_validate_json(delivery) if delivery else _awaited_delivery(job_spec),
    )


def _output_of(spec: JobSpec, num_segments: int, content: bytes) -> OutputInfo:
    values = json.loads(content)
    if "key" in values:  # the version before kept the names of all objects
        preview_key = values.pop("preview_key", None)
        values["token"] = token_of(values.pop("key"))
        values["preview_token"] = None if preview_key is None else token_of(preview_key)
        for name in ("report_key", "segments_key"):
            values.pop(name, None)
    around = {"job_id": spec.id, "container": spec.options.container, "num_segments": num_segments}
    return OutputInfo.model_validate(values | around)


def _awaited_delivery(spec: JobSpec) -> ResultDelivery | None:
    if spec.deliver_to is None:
        return None
    return ResultDelivery(url=spec.deliver_to, status=DeliveryStatus.WAITING)
