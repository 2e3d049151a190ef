"""What estimates look like on the wire."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.options import MAX_SIDE, JobOptions
from jobs.specs import Priority
from service.jobs.submissions import Source

_MAX_SECONDS = 864_000
_MAX_FRAMES = 1_000_000_000


class EstimateInput(BaseModel):
    """A video that is not here yet."""

    model_config = ConfigDict(extra="forbid")

    width: Annotated[int, Field(ge=1, le=MAX_SIDE, description="Stored picture, in pixels.")]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE, description="Stored picture, in pixels.")]
    frame_rate: Annotated[float, Field(gt=0, le=1000, description="Frames per second.")] = 30.0
    duration_seconds: Annotated[float | None, Field(gt=0, le=_MAX_SECONDS)] = None
    num_frames: Annotated[int | None, Field(ge=1, le=_MAX_FRAMES, description="Instead of a duration.")] = (
        None
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.duration_seconds is None and self.num_frames is None:
            raise ValueError("give duration_seconds or num_frames")
        return self


class EstimateRequest(BaseModel):
    """A job that might be submitted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "input": {
                        "width": 640,
                        "height": 360,
                        "frame_rate": 25,
                        "duration_seconds": 60,
                    },
                    "options": {"scale": 4},
                }
            ]
        },
    )

    source: Annotated[Source | None, Field(description="A finished upload, or an address to fetch.")] = None
    input: Annotated[EstimateInput | None, Field(description="Or its measures.")] = None
    options: JobOptions = JobOptions()
    priority: Priority = Priority.NORMAL

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.source is None) == (self.input is None):
            raise ValueError("give either a source or an input")
        return self


class OutputSize(BaseModel):
    """The result's picture, as stored."""

    width: int
    height: int


class TilesSchema(BaseModel):
    """How a frame and the time axis would be cut up."""

    rows: int
    cols: int
    tile_width: Annotated[int, Field(description="Pixels of the network's output.")]
    tile_height: int
    chunk_frames: Annotated[int, Field(description="Frames that pass the network at once.")]


class EstimateSchema(BaseModel):
    """What the job would take."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "frames": 1500,
                    "output": {"width": 2560, "height": 1440},
                    "megapixels": 5529.6,
                    "tiles": {
                        "rows": 1,
                        "cols": 2,
                        "tile_width": 1312,
                        "tile_height": 1440,
                        "chunk_frames": 16,
                    },
                    "memory_bytes": 2147483648,
                    "seconds": 4030.0,
                    "queue_seconds": 0.0,
                    "fits": True,
                    "warnings": [],
                }
            ]
        }
    )

    frames: Annotated[int | None, Field(description="Of the result; null where the source does not tell.")]
    output: OutputSize
    megapixels: Annotated[float | None, Field(description="Of all frames of the result together.")]
    tiles: Annotated[TilesSchema | None, Field(description="null for models that work without a network.")]
    memory_bytes: Annotated[
        int | None,
        Field(description="Of the device, without the weights; of the smallest plan if none fits."),
    ]
    seconds: Annotated[
        float | None,
        Field(description="With the workers that are alive; null before anything was measured, or without."),
    ]
    queue_seconds: Annotated[
        float | None,
        Field(
            description="That unfinished jobs of the same or a higher priority still take; the longest "
            "wait, since jobs of one priority take turns."
        ),
    ]
    fits: Annotated[bool, Field(description="Whether memory and the API key's limits allow it.")]
    warnings: list[str]
