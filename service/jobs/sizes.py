"""How large a result will be, before anything is run."""

from __future__ import annotations

from fractions import Fraction

from jobs.fleet import ModelInfo
from jobs.options import JobOptions, is_picture
from jobs.specs import InputInfo
from media.errors import InvalidSizeError
from media.sizes import SizeRequest, target_size
from service.errors import InvalidRequestError


def output_size(options: JobOptions, found: InputInfo, model: ModelInfo) -> tuple[int, int]:
    """(width, height) of the result in pixels, as stored.

    Raises:
        InvalidRequestError: If the size is impossible.
    """
    width, height, rotation = found.width, found.height, found.rotation
    if is_picture(options.container) and rotation % 180:  # stills are stored as they are shown
        width, height, rotation = height, width, 0
    # The decimal that was sent: 1.1 is 11/10 and not the nearest binary fraction.
    scale = None if options.scale is None else Fraction(str(options.scale))
    try:
        target = target_size(
            SizeRequest(scale=scale, height=options.height, width=options.width),
            width=width,
            height=height,
            rotation=rotation,
            default_scale=model.scale,
        )
    except InvalidSizeError as error:
        raise InvalidRequestError(
            str(error),
            errors=[{"loc": ["options", "scale"], "message": str(error), "received": repr(options.scale)}],
        ) from error
    return target.width, target.height


def output_frames(options: JobOptions, found: InputInfo) -> int | None:
    """Frames of the result, as well as the input tells; None where it does not."""
    if found.picture is not None:
        return 1
    start, wanted = options.start_seconds or 0.0, options.duration_seconds
    if not start and wanted is None and found.num_frames:
        return found.num_frames
    left = None if found.duration_seconds is None else max(0.0, found.duration_seconds - start)
    known = [length for length in (left, wanted) if length is not None]
    return max(1, round(min(known) * found.frame_rate)) if known else None
