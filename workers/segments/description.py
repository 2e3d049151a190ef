"""A job as JSON, from which another process rebuilds the same one for the same input.

What follows from the options is decided anew and compared: a process that would decide otherwise (another
version, another model) must not make segments of this job, for they would not fit the others.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from media import EncodeOptions, MediaInfo
from media.sizes import SizeRequest
from pipelines.dove.options import DoveOptions
from workers.errors import UpscaleError
from workers.models import Model, plan_from_json
from workers.run.options import UpscaleOptions
from workers.run.record import changed_values
from workers.run.spec import Job, SourceShape, plan_job
from workers.values import to_json_value

DESCRIPTION_VERSION = 1


class JobMismatchError(UpscaleError):
    """Raised when this process would not make what a job's description says.

    Attributes:
        differences: One line for each value that differs.
    """

    code = "job_mismatch"

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            f"this worker cannot make segments of the job: {'; '.join(differences)}. All workers need the "
            "same version, model, device and dtype"
        )
        self.differences = differences


def describe_job(job: Job, *, options: UpscaleOptions, model: Model) -> dict[str, Any]:
    """The job as JSON values."""
    return {
        "version": DESCRIPTION_VERSION,
        "options": to_json_value(options),
        "plan": to_json_value(job.plan),
        "num_frames": job.num_frames,
        "decided": _decided(job, model),
    }


def rebuild_job(
    description: dict[str, Any], info: MediaInfo, reader: SourceShape, *, model: Model
) -> tuple[UpscaleOptions, Job]:
    """The job that was described, and its options.

    Args:
        description: From `describe_job`.
        info: The same input, probed here.
        reader: Opened with the range and deinterlacing of `options_from_json(description["options"])`.
        model: The model of this process.

    Raises:
        JobMismatchError: If size, format, encoder settings or model are not the same here.
    """
    version = description.get("version")
    if version != DESCRIPTION_VERSION:
        raise JobMismatchError([f"version of the description was {version} and is {DESCRIPTION_VERSION}"])
    options = options_from_json(description["options"])
    plan = plan_from_json(description["plan"])
    job = plan_job(info, reader, model=model, options=options, plan=plan)
    before, after = description["decided"], _decided(job, model)
    differences = [
        f"{group} {name} was {old!r} and is {new!r}"
        for group in after
        for name, old, new in changed_values(before[group], after[group])
    ]
    if differences:
        raise JobMismatchError(differences)
    return options, job


def options_from_json(values: dict[str, Any]) -> UpscaleOptions:
    """The options that `to_json_value` wrote.

    Raises:
        TypeError: If a field is unknown.
        InvalidRequestError: If a value is not allowed.
    """
    size = values["size"]
    fractions = {
        name: _fraction(values[name]) for name in ("start_seconds", "duration_seconds", "segment_seconds")
    }
    nested = {
        "size": SizeRequest(**(size | {"scale": _fraction(size["scale"])})),
        "encode": EncodeOptions(**values["encode"]),
        "model": DoveOptions(**values["model"]),
    }
    return UpscaleOptions(**(values | fractions | nested))


def _decided(job: Job, model: Model) -> dict[str, dict[str, Any]]:
    """What every worker must decide alike."""
    return {
        "size": to_json_value(job.target),
        "format": to_json_value(job.video_format),
        "encoder setting": to_json_value(job.encoding),
        "model's": model.identity(),
    }


def _fraction(value: str | None) -> Fraction | None:
    return None if value is None else Fraction(value)
