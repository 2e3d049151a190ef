"""What may be asked of a job, as the keyword arguments of `submit` and its relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

PriorityName = Literal["high", "normal", "low"]


class JobOptions(TypedDict, total=False):
    """What to make of a video or still; the service has a default for everything, and checks the values.

    Keys:
        model: One of `models()`.
        scale: Factor for both sides; or `height` and/or `width` of the result, in pixels.
        codec: Of the result; "auto" goes by its size.
        crf: Constant quality, lower is better: 0-51, for av1 and vp9 0-63.
        preset: Speed of the encoder: ultrafast ... placebo, for av1 also 0 ... 13, for vp9 0 ... 5.
        pix_fmt: yuv420p, yuv422p, yuv444p, or these with 10le (not vp9).
        encoder: Who encodes; "auto" is the workers' graphics processor where it works.
        container: Of the result; "auto" is mp4, and for a still its own kind. What grows while it is made is
            always MP4.
        keep_matrix: Whether standard definition keeps its colour matrix when it is enlarged to HD.
        start_seconds, duration_seconds: The part to upscale.
        deinterlace: None does what the video says.
        detect_cuts: Whether each shot is treated for itself.
        video_stream: Index of the video stream to take; None chooses the film.
        keep_gaps: Whether holes of more than 10 s in the time stamps stay.
        force: Whether to go on where the colours will be wrong (Dolby Vision profile 5).
    """

    model: str | None
    scale: float | None
    height: int | None
    width: int | None
    codec: Literal["auto", "h264", "h265", "av1", "vp9"]
    crf: float | None
    preset: str | None
    pix_fmt: str | None
    encoder: Literal["auto", "software", "nvenc", "qsv", "amf"]
    container: Literal["auto", "mp4", "mkv", "mov", "webm", "png", "jpg", "webp", "avif", "tiff", "bmp"]
    keep_matrix: bool
    start_seconds: float | None
    duration_seconds: float | None
    deinterlace: bool | None
    detect_cuts: bool
    video_stream: int | None
    keep_gaps: bool
    force: bool


class WebhookTarget(TypedDict):
    """Who is told: `url`, and the names of the events that are wanted (all, if it has none)."""

    url: str
    events: NotRequired[Sequence[str]]


class JobFields(TypedDict, total=False):
    """What a job carries besides its options.

    Keys:
        priority: A job of a higher priority goes first.
        labels: To find jobs by.
        metadata: Anything of your own, given back as it is.
        webhook: A URL, or a URL and events.
        deliver_to: Where the result is sent: s3://bucket/key, s3://bucket/prefix/, or an https:// address to
            PUT it to.
    """

    priority: PriorityName
    labels: Mapping[str, str]
    metadata: Mapping[str, Any]
    webhook: str | WebhookTarget
    deliver_to: str


class SubmitOptions(JobOptions, JobFields, total=False):
    """All keyword arguments that say what job to make."""


def request_fields(given: SubmitOptions) -> dict[str, Any]:
    """The fields of a request: options in their own object, `webhook` always as an object.

    Raises:
        TypeError: If there is no such option.
    """
    known = [*JobOptions.__annotations__, *JobFields.__annotations__]
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(f"no option {', '.join(unknown)}; there are {', '.join(known)}")
    options = {name: value for name, value in given.items() if name in JobOptions.__annotations__}
    fields = {name: value for name, value in given.items() if name not in options}
    if options:
        fields["options"] = options
    if isinstance(fields.get("webhook"), str):
        fields["webhook"] = {"url": fields["webhook"]}
    return fields
