"""What a customer may ask of a job, checked before anything is queued."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Codec = Literal["auto", "h264", "h265", "av1", "vp9"]
Encoder = Literal["auto", "software", "nvenc", "qsv", "amf"]
VideoContainer = Literal["mp4", "mkv", "mov", "webm"]
PictureKind = Literal["png", "jpg", "webp", "avif", "tiff", "bmp"]
"""Stills, by the endings of their files."""
ContainerName = Literal["auto", VideoContainer, PictureKind]
"""Of results; "auto" only while the source is not known."""

MAX_SCALE = 16
MAX_SIDE = 16384
"""Pixels; what H.264 level 6.2 and the muxers around it can say."""

_MAX_CRF: dict[str, int] = {"auto": 51, "h264": 51, "h265": 51, "av1": 63, "vp9": 63}
_CONTAINER_CODECS: dict[str, tuple[Codec, ...]] = {
    "mp4": ("auto", "h264", "h265", "av1", "vp9"),
    "mkv": ("auto", "h264", "h265", "av1", "vp9"),
    "mov": ("auto", "h264", "h265"),
    "webm": ("auto", "av1", "vp9"),
}
_PICTURE_KINDS: dict[str, PictureKind] = {kind: kind for kind in get_args(PictureKind)}
_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
_CODEC_PRESETS: dict[str, tuple[str, ...]] = {
    "av1": _PRESETS + tuple(str(number) for number in range(14)),
    "vp9": _PRESETS + tuple(str(number) for number in range(6)),
}
_PIX_FMTS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
_420_PIX_FMTS = ("yuv420p", "yuv420p10le")
_CODEC_PIX_FMTS: dict[str, tuple[str, ...]] = {"av1": _420_PIX_FMTS, "vp9": _PIX_FMTS[:3]}

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def picture_kind(container: ContainerName) -> PictureKind | None:
    """Which kind of stills results of this kind are; None for videos."""
    return _PICTURE_KINDS.get(container)


def is_picture(container: ContainerName) -> bool:
    """Whether results of this kind are stills."""
    return container in _PICTURE_KINDS


class JobOptions(BaseModel):
    """What to make of a video or still. Everything has a default: the model's own scale, H.264 at its usual
    quality (H.265 or AV1 where the result is larger than hardware plays H.264), for a still its own kind.

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
    codec: Annotated[
        Codec,
        Field(
            description="Video codec of the result. auto is h264 up to 4096x2304, which hardware plays, "
            "h265 up to 8192x4320, av1 above; in webm always av1. vp9 has 8 bits and refuses HDR."
        ),
    ] = "auto"
    crf: Annotated[
        float | None,
        Field(
            ge=0,
            le=63,
            description="Constant quality, lower is better: 0-51 for h264 and h265, 0-63 for av1 and vp9. "
            "With the codec auto it is h264's, and another codec gets what looks about like it; in "
            "webm it is av1's.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        Field(
            max_length=20,
            description="Speed of the encoder: ultrafast ... placebo, in each encoder's own terms; for av1 "
            "also 0 ... 13, for vp9 0 ... 5.",
        ),
    ] = None
    pix_fmt: Annotated[
        str | None,
        Field(max_length=20, description="yuv420p, yuv422p or yuv444p, or these with 10le (not vp9)."),
    ] = None
    encoder: Annotated[
        Encoder,
        Field(
            description="Who encodes: software, or the graphics processors of the workers. auto tries nvenc, "
            "qsv and amf on the worker that plans the job and takes software where none works; all segments "
            "get the same encoder, so every worker needs it."
        ),
    ] = "software"
    container: Annotated[
        ContainerName,
        Field(
            description="File of the result. auto is mp4, and for a still its own kind: png, jpg, webp, "
            "avif, tiff or bmp. These are for stills only; pictures in them are upright, with the source's "
            "transparency and colour profile. mkv keeps what MP4 cannot: sound of any codec, bitmap "
            "subtitles, attachments, all tags. webm holds av1 or vp9, and Opus. What is played while it "
            "grows is always MP4."
        ),
    ] = "auto"
    keep_matrix: Annotated[
        bool,
        Field(
            description="Keep the colour matrix of standard definition in a result of HD size, where players "
            "assume BT.709; else it is converted."
        ),
    ] = False
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
        if self.crf is not None and self.codec in ("av1", "vp9") and self.crf != int(self.crf):
            raise ValueError(f"crf {self.crf:g} is not whole; {self.codec} takes whole numbers 0-63")
        accepted = _CONTAINER_CODECS.get(self.container, (self.codec,))  # a still has none
        if self.codec not in accepted:
            raise ValueError(f"a {self.container} cannot hold {self.codec}; it takes {' or '.join(accepted)}")
        presets = _CODEC_PRESETS.get(self.codec, _PRESETS)
        if self.preset is not None and self.preset not in presets:
            raise ValueError(
                f"preset {self.preset!r} is not one of codec {self.codec}'s: {', '.join(presets)}"
            )
        pix_fmts = _CODEC_PIX_FMTS.get(self.codec, _PIX_FMTS)
        if self.pix_fmt is not None and self.pix_fmt not in pix_fmts:
            raise ValueError(f"pix_fmt {self.pix_fmt!r} is not one of {self.codec}'s: {', '.join(pix_fmts)}")
        if self.encoder in ("nvenc", "qsv", "amf"):
            self._check_hardware()
        return self

    def of_source(self, picture: PictureKind | None) -> JobOptions:
        """The options, once it is known what the source is: none of them is left open by it.

        Args:
            picture: Which kind of still it is; None for all else. Options of videos mean nothing to stills.
        """
        if self.container != "auto":
            return self
        return self.model_copy(update={"container": picture or "mp4"})

    def _check_hardware(self) -> None:
        if self.codec == "vp9":
            raise ValueError(f"encoder {self.encoder} cannot do vp9; software can")
        if self.crf == 0:
            raise ValueError(f"encoder {self.encoder} cannot do crf 0 (lossless); software can")
        if self.pix_fmt not in (None, *_420_PIX_FMTS):
            raise ValueError(f"encoder {self.encoder} cannot do pix_fmt {self.pix_fmt}; software can")
        if self.codec == "h264" and self.pix_fmt == "yuv420p10le":
            raise ValueError(f"encoder {self.encoder} cannot do H.264 with 10 bits; software can")
        if self.preset is not None and self.preset not in _PRESETS:
            raise ValueError(f"encoder {self.encoder} takes no preset {self.preset!r}: {', '.join(_PRESETS)}")

    def to_json(self) -> dict[str, Any]:
        """All options by name, as JSON values."""
        return self.model_dump(mode="json")
