"""A run as JSON, from which another process rebuilds the same one for the same input.

What follows from the options is decided anew and compared: a process that would decide otherwise (another
version, another model) must not make segments of it, for they would not fit the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from media import MediaInfo
from pipelines.model import Model
from pipelines.planning.kinds import plan_from_json, plan_to_json
from pipelines.planning.plan import ChunkPlan
from workers.errors import UpscaleError
from workers.run.decisions import DecidedRun, SourceShape, decide_run
from workers.run.options import UpscaleOptions
from workers.run.record import changed_values
from workers.values import to_json_value

DESCRIPTION_VERSION = 3

_OPTIONS = TypeAdapter(UpscaleOptions)


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


def describe_run(decided: DecidedRun, *, options: UpscaleOptions, model: Model) -> dict[str, Any]:
    """The run as JSON values."""
    return {
        "version": DESCRIPTION_VERSION,
        # With the encoder that was decided here: a segment must not get another one elsewhere.
        "options": to_json_value(replace(options, encode=decided.encode)),
        "plan": plan_to_json(decided.plan),
        "num_frames": decided.num_frames,
        "decided": _decided(decided, model),
    }


def rebuild_run(
    description: dict[str, Any], info: MediaInfo, reader: SourceShape, *, model: Model
) -> tuple[UpscaleOptions, DecidedRun]:
    """The run that was described, and its options.

    Args:
        description: From `describe_run`.
        info: The same input, probed here.
        reader: Opened with the range and deinterlacing of `options_from_json(description["options"])`.
        model: The model of this process.

    Raises:
        JobMismatchError: If size, format, encoder settings or model are not the same here.
    """
    options, plan = read_cutting(description)
    decided = decide_run(info, reader, model=model, options=options, plan=plan)
    before, after = description["decided"], _decided(decided, model)
    differences = [
        f"{group} {name} was {old!r} and is {new!r}"
        for group in after
        for name, old, new in changed_values(before[group], after[group])
    ]
    if differences:
        raise JobMismatchError(differences)
    return options, decided


def read_cutting(description: dict[str, Any]) -> tuple[UpscaleOptions, ChunkPlan]:
    """Options and chunks of the run that was described: what cutting it into segments takes. No model.

    Raises:
        JobMismatchError: If another version has described it.
    """
    version = description.get("version")
    if version != DESCRIPTION_VERSION:
        raise JobMismatchError([f"version of the description was {version} and is {DESCRIPTION_VERSION}"])
    return options_from_json(description["options"]), plan_from_json(description["plan"])


def options_from_json(values: dict[str, Any]) -> UpscaleOptions:
    """The options that `to_json_value` wrote.

    Raises:
        ValidationError: If a field is unknown or of another type (pydantic's).
        InvalidRequestError: If a value is not allowed.
    """
    return _OPTIONS.validate_python(values)


def _decided(decided: DecidedRun, model: Model) -> dict[str, dict[str, Any]]:
    """What every worker must decide alike."""
    return {
        "size": to_json_value(decided.target),
        "format": to_json_value(decided.video_format),
        "encoder setting": to_json_value(decided.encoding),
        "model's": model.identity(),
    }
