"""What models look like on the wire."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.fleet import ModelInfo


class ModelSchema(BaseModel):
    """A model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "dovetail-nano-2",
                    "object": "model",
                    "kind": "propagation",
                    "scale": 4,
                    "licence": "Apache-2.0",
                    "is_default": True,
                    "megapixels_per_second": 1.37,
                    "available": True,
                }
            ]
        }
    )

    id: Annotated[str, Field(description="For the option `model`.")]
    object: Literal["model"] = "model"
    kind: Annotated[
        str,
        Field(
            description="diffusion, per_frame, propagation, interpolation or standin; unknown until a worker "
            "has loaded it."
        ),
    ]
    scale: Annotated[int, Field(description="Factor when a job gives no size.")]
    licence: Annotated[str, Field(description="Of the weights.")]
    is_default: Annotated[bool, Field(description="Taken by jobs that name none.")]
    megapixels_per_second: Annotated[
        float | None, Field(description="Output of one worker, as measured lately; null before the first.")
    ]
    available: Annotated[
        bool,
        Field(description="Whether a living worker has it. Jobs are taken in any case, and wait for one."),
    ]

    @classmethod
    def of(cls, model: ModelInfo, *, speed: float | None, is_available: bool) -> Self:
        """A model as customers see it."""
        return cls(
            id=model.name,
            kind=model.kind,
            scale=model.scale,
            licence=model.licence,
            is_default=model.is_default,
            megapixels_per_second=None if speed is None else round(speed, 3),
            available=is_available,
        )


class ModelListSchema(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelSchema]
