"""What a customer may ask of a job, checked before anything is queued."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Codec = Literal["h264", "h265", "av1"]

MAX_SCALE = 16
MAX_SIDE = 16384
"""Pixels; what H.264 level 6.2 and the muxers around it can say."""

_MAX_CRF: dict[str, int] = {"h264": 51, "h265": 51, "av1": 63}
_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
_AV1_PRESETS = tuple(str(number) for number in range(14))
_PIX_FMTS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
_AV1_PIX_FMTS = ("yuv420p", "yuv420p10le")

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class JobOptions(BaseModel):
    """What to make of a video. Everything has a default: the model's own scale, H.264 at its usual quality.

    Raises:
        pydantic.ValidationError: If a value is outside its range, unknown, or contradicts another.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"scale": 2, "codec": "h264", "crf": 18}]},
    )

    model: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="One of GET /v1/models; null for the default."),
    ] = None
    scale: Annotated[
        float | None,
        Field(gt=0, le=MAX_SCALE, description="Factor for both sides; null for the model's own."),
    ] = None
    height: Annotated[
        Side | None, Field(description="Height of the result as shown, in pixels, instead of a scale.")
    ] = None
    width: Annotated[
        Side | None, Field(description="Width of the result as shown, in pixels, instead of a scale.")
    ] = None
    codec: Annotated[Codec, Field(description="Video codec of the result.")] = "h264"
    crf: Annotated[
        float | None,
        Field(
            ge=0,
            le=63,
            description="Constant quality, lower is better: 0-51 for h264 and h265, 0-63 for av1.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        Field(max_length=20, description="ultrafast ... placebo for h264 and h265, 0 ... 13 for av1."),
    ] = None
    pix_fmt: Annotated[
        str | None, Field(max_length=20, description="yuv420p, yuv422p or yuv444p, or these with 10le.")
    ] = None
    start_seconds: Annotated[
        float | None,
        Field(ge=0, le=864_000, description="Where the part to upscale begins; null is the start."),
    ] = None
    duration_seconds: Annotated[
        float | None,
        Field(gt=0, le=864_000, description="How long the part is, as for a preview; null is all."),
    ] = None
    deinterlace: Annotated[
        bool | None, Field(description="Make each field a frame; null does what the video says.")
    ] = None
    detect_cuts: Annotated[bool, Field(description="Treat each shot for itself.")] = True
    video_stream: Annotated[
        int | None,
        Field(ge=0, lt=1000, description="Index of the video stream to take; null chooses the film."),
    ] = None
    keep_gaps: Annotated[
        bool, Field(description="Leave holes of more than 10 s in the time stamps as they are.")
    ] = False
    force: Annotated[
        bool, Field(description="Go on where the colours will be wrong (Dolby Vision profile 5).")
    ] = False

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.scale is not None and (self.height is not None or self.width is not None):
            raise ValueError("give either a scale or a height and/or width, not both")
        if self.crf is not None and self.crf > _MAX_CRF[self.codec]:
            raise ValueError(
                f"crf {self.crf:g} is outside 0-{_MAX_CRF[self.codec]}, the range of {self.codec}"
            )
        if self.crf is not None and self.codec == "av1" and self.crf != int(self.crf):
            raise ValueError(f"crf {self.crf:g} is not whole; av1 takes whole numbers 0-63")
        presets = _AV1_PRESETS if self.codec == "av1" else _X26X_PRESETS
        if self.preset is not None and self.preset not in presets:
            raise ValueError(f"preset {self.preset!r} is not one of {self.codec}'s: {', '.join(presets)}")
        pix_fmts = _AV1_PIX_FMTS if self.codec == "av1" else _PIX_FMTS
        if self.pix_fmt is not None and self.pix_fmt not in pix_fmts:
            raise ValueError(f"pix_fmt {self.pix_fmt!r} is not one of {self.codec}'s: {', '.join(pix_fmts)}")
        return self

    def to_json(self) -> dict[str, Any]:
        """All options by name, as JSON values."""
        return self.model_dump(mode="json")
