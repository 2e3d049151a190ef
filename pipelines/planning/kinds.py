"""The kinds of plans and shapes there are: one place that plans for any of them and reads them from JSON.

A new kind of model with a plan of its own is added here and in `pipelines.loaders`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, TypeAdapter

from pipelines.planning.clip_plan import ClipPlan, ClipShape, plan_clips
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.frame_plan import FramePlan, FrameShape, plan_frames
from pipelines.planning.plan import ChunkPlan, ChunkRequest
from pipelines.planning.planner import plan_diffusion
from pipelines.planning.shapes import DiffusionShape

ModelShape = DiffusionShape | FrameShape | ClipShape
"""What the planner needs to know of a model."""

AnyPlan = Annotated[DiffusionPlan | FramePlan | ClipPlan, Discriminator("kind")]
AnyShape = Annotated[DiffusionShape | FrameShape | ClipShape, Discriminator("kind")]

_PLANS: TypeAdapter[ChunkPlan] = TypeAdapter(AnyPlan)
_SHAPES: TypeAdapter[ModelShape] = TypeAdapter(AnyShape)


def plan_chunks(shape: ModelShape, request: ChunkRequest) -> ChunkPlan:
    """Chooses chunks and tiles: as few and as large as the memory allows.

    Raises:
        InvalidOptionError: If sizes contradict one another.
        OutOfMemoryError: If the smallest plan is estimated not to fit.
    """
    if isinstance(shape, DiffusionShape):
        return plan_diffusion(shape, request)
    if isinstance(shape, ClipShape):
        return plan_clips(shape, request)
    return plan_frames(shape, request)


def plan_to_json(plan: ChunkPlan) -> dict[str, Any]:
    """A plan as JSON values."""
    values: dict[str, Any] = _PLANS.dump_python(plan, mode="json")
    return values


def plan_from_json(values: dict[str, Any]) -> ChunkPlan:
    """The plan that `plan_to_json` wrote.

    Raises:
        ValidationError: If it is none (pydantic's).
    """
    return _PLANS.validate_python(values)


def shape_to_json(shape: ModelShape) -> dict[str, Any]:
    """A shape as JSON values."""
    values: dict[str, Any] = _SHAPES.dump_python(shape, mode="json")
    return values


def shape_from_json(values: dict[str, Any]) -> ModelShape:
    """The shape that `shape_to_json` wrote.

    Raises:
        ValidationError: If it is none (pydantic's).
    """
    return _SHAPES.validate_python(values)
