"""Whether a job may be made: of its options, its source and its model."""

from __future__ import annotations

from typing import get_args

from jobs.fleet import ModelInfo
from jobs.options import JobOptions, PictureKind, is_picture
from jobs.specs import InputInfo
from service.context import ServiceContext
from service.errors import InvalidRequestError, QuotaError
from service.jobs.sizes import output_frames, output_size
from service.models.catalogue import known_models

# Of stills that may be in tiles, which cannot be read as a video.
_TILED_CODECS = ("hevc", "av1")


def decide_container(options: JobOptions, found: InputInfo) -> tuple[JobOptions, InputInfo]:
    """The options and what was found, where it is known what the source is.

    Raises:
        InvalidRequestError: If a video is to become a picture, or a picture in tiles a video.
    """
    options = options.of_source(found.picture)
    if not is_picture(options.container):
        if found.picture is not None and found.codec in _TILED_CODECS:
            raise InvalidRequestError(
                f"a HEIF or AVIF picture becomes a picture, container is {options.container}; choose auto or "
                f"one of {', '.join(get_args(PictureKind))}",
                errors=[
                    {
                        "loc": ["options", "container"],
                        "message": f"auto or one of {', '.join(get_args(PictureKind))}",
                        "received": repr(options.container),
                    }
                ],
            )
        return options, found
    if found.picture is None:
        raise InvalidRequestError(
            f"container {options.container} is for stills, and the source is a video ({found.codec}); it can "
            "become mp4, mkv, mov or webm",
            errors=[
                {
                    "loc": ["options", "container"],
                    "message": "mp4, mkv, mov or webm for a video",
                    "received": repr(options.container),
                }
            ],
        )
    # They tell what a video made of it would lose.
    return options, found.model_copy(update={"warnings": ()})


def check_found(options: JobOptions, found: InputInfo, model: ModelInfo, *, max_output_pixels: int) -> None:
    """Checks what a job asks for against its input and the customer's limits.

    Args:
        options: Of the job.
        found: Its input.
        model: Its model.
        max_output_pixels: Of the result; 0 is no limit.

    Raises:
        InvalidRequestError: If the model cannot do it.
        QuotaError: If the result is larger than allowed.
    """
    check_range(options, found)
    width, height = output_size(options, found, model)
    pixels = width * height * (output_frames(options, found) or 0)
    if max_output_pixels and pixels > max_output_pixels:
        raise QuotaError(
            f"the result would have {pixels / 1e9:.2f} gigapixels, your key allows "
            f"{max_output_pixels / 1e9:.2f}; choose a smaller scale or a part of the video"
        )


def check_range(options: JobOptions, found: InputInfo) -> None:
    """Checks that the wanted part lies in the video.

    Raises:
        InvalidRequestError: If it does not.
    """
    start = None if is_picture(options.container) else options.start_seconds
    if start is not None and found.duration_seconds is not None and start >= found.duration_seconds:
        raise InvalidRequestError(
            f"start_seconds {start:g} lies behind the end of the video, {found.duration_seconds:g} s",
            errors=[
                {
                    "loc": ["options", "start_seconds"],
                    "message": f"below {found.duration_seconds:g}",
                    "received": f"{start:g}",
                }
            ],
        )


def find_model(context: ServiceContext, name: str | None) -> ModelInfo:
    """The model of a name, or the default.

    Raises:
        InvalidRequestError: If there is none of that name.
    """
    models = known_models(context)
    if name is None:
        return models[0]
    for model in models:
        if model.name == name:
            return model
        if model.kind == "standin" and name.startswith(model.name):
            return model.model_copy(update={"name": name})
    known = ", ".join(model.name for model in models if model.is_listed)
    raise InvalidRequestError(
        f"there is no model {name!r}; there are {known}",
        errors=[{"loc": ["options", "model"], "message": f"one of {known}", "received": repr(name)}],
    )
