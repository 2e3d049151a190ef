"""A still's run as JSON, from which another process makes the same picture of the same input."""

from __future__ import annotations

from typing import Any

from pipelines.model import Model
from pipelines.planning.kinds import plan_to_json
from pipelines.planning.plan import ChunkPlan
from workers.run.options import UpscaleOptions
from workers.run.record import changed_values
from workers.run.still import DecidedStill
from workers.segments.description import DESCRIPTION_VERSION, JobMismatchError, read_cutting
from workers.values import to_json_value


def describe_still(decided: DecidedStill, *, options: UpscaleOptions, model: Model) -> dict[str, Any]:
    """The run as JSON values, under the names that those of videos have."""
    return {
        "version": DESCRIPTION_VERSION,
        "options": to_json_value(options),
        "plan": plan_to_json(decided.plan),
        "decided": {"encoder setting": None, "model's": model.identity()},
    }


def rebuild_still(description: dict[str, Any], *, model: Model) -> tuple[UpscaleOptions, ChunkPlan]:
    """Options and tiles of the run that was described.

    Args:
        description: From `describe_still`.
        model: The model of this process.

    Raises:
        JobMismatchError: If another version has described it, or the model is not the same here.
    """
    options, plan = read_cutting(description)
    differences = [
        f"model's {name} was {old!r} and is {new!r}"
        for name, old, new in changed_values(description["decided"]["model's"], model.identity())
    ]
    if differences:
        raise JobMismatchError(differences)
    return options, plan
