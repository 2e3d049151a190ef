"""Between jobs and the fields of their Redis hashes. Pure, so that the sync and the async reader share it.

A hash holds nothing that its key or another field tells: a million of them are to fit into little memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from jobs.clock import from_unix_ms
from jobs.objects import token_of
from jobs.records import Job, JobError, JobPlan, JobState, OutputInfo, Stage, Streaming
from jobs.specs import InputInfo, JobSpec, Priority
from jobs.transfers import DeliveryStatus, ResultDelivery


class _KeptSpec(JobSpec):
    """What the field `spec` holds. Those of the version before have all."""

    id: str = ""
    owner: str = ""


_READERS: dict[str, Callable[[bytes], Any]] = {
    "spec": _KeptSpec.model_validate_json,
    "owner": bytes.decode,
    "priority": lambda value: Priority(value.decode()),
    "state": lambda value: JobState(value.decode()),
    "version": int,
    "updated_at": from_unix_ms,
    "processed_frames": int,
    "num_segments": int,
    "num_finished": int,
    "attempts": int,
    "is_planned": lambda value: value == b"1",
    "stage": lambda value: Stage(value.decode()),
    "started_at": from_unix_ms,
    "completed_at": from_unix_ms,
    "expires_at": from_unix_ms,
    "upscaling_started_at": from_unix_ms,
    "total_frames": int,
    "input": InputInfo.model_validate_json,
    "run": JobPlan.model_validate_json,
    "stream": Streaming.model_validate_json,
    "output": json.loads,
    "warnings": lambda value: tuple(json.loads(value)),
    "error": JobError.model_validate_json,
    "delivery": ResultDelivery.model_validate_json,
}
FIELDS = tuple(_READERS)
"""Of what a `Job` is made; a record has more, for the scripts."""
_OF_SPEC = {"owner", "priority", "input"}
_ATTRIBUTES = {"num_finished": "num_finished_segments", "run": "plan", "stream": "streaming"}


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
    read = zip(_READERS.items(), values, strict=True)
    found = {name: reader(value) for (name, reader), value in read if value is not None}
    if "spec" not in found:
        return None
    kept = vars(found.pop("spec")) | {name: found.pop(name) for name in _OF_SPEC & found.keys()}
    spec = JobSpec.model_construct(**kept | {"id": job_id})
    if "output" in found:
        found["output"] = _output_of(spec, found["num_segments"], found["output"])
    if spec.deliver_to is not None:
        found.setdefault("delivery", ResultDelivery(url=spec.deliver_to, status=DeliveryStatus.WAITING))
    attributes = {_ATTRIBUTES.get(name, name): value for name, value in found.items()}
    return Job.model_construct(spec=spec, **attributes)


def _output_of(spec: JobSpec, num_segments: int, values: dict[str, Any]) -> OutputInfo:
    if "key" in values:  # the version before kept the names of all objects
        preview_key = values.pop("preview_key", None)
        values["token"] = token_of(values.pop("key"))
        values["preview_token"] = None if preview_key is None else token_of(preview_key)
        for name in ("report_key", "segments_key"):
            values.pop(name, None)
    around = {"job_id": spec.id, "container": spec.options.container, "num_segments": num_segments}
    return OutputInfo.model_validate(values | around)
