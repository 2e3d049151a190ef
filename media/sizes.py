"""From what the user asks for (a factor, a height, a width) to the size of the output. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from media.errors import InvalidSizeError

MAX_SCALE = 16
# What H.264 level 6.2 and the muxers around it can say; encoders check their own limits when they open.
MAX_SIDE = 16384


@dataclass(frozen=True, kw_only=True)
class SizeRequest:
    """Size of the output as the user says it: one factor, or height and/or width of the picture as it is
    shown.

    Attributes:
        scale: Factor for both sides.
        height: In pixels. Without a width, the width follows.
        width: In pixels. Without a height, the height follows.
    """

    scale: Fraction | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and (self.height is not None or self.width is not None):
            raise InvalidSizeError("give either a scale or a height and/or width, not both")
        if self.scale is not None and not 0 < self.scale <= MAX_SCALE:
            raise InvalidSizeError(
                f"scale must be above 0 and at most {MAX_SCALE}, got {float(self.scale):g}"
            )
        for name in ("height", "width"):
            side = getattr(self, name)
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise InvalidSizeError(f"{name} must lie in 1-{MAX_SIDE} pixels, got {side}")


@dataclass(frozen=True)
class TargetSize:
    """Size of the output as stored, before rotation.

    Attributes:
        width: In pixels.
        height: In pixels.
        sample_aspect_ratio: Width of a pixel by its height.
        warnings: What the user may not expect.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction
    warnings: tuple[str, ...] = ()


def target_size(
    request: SizeRequest,
    *,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction = Fraction(1),
    rotation: int = 0,
    default_scale: int = 4,
) -> TargetSize:
    """The output's size for a source of width x height pixels, as stored.

    A side that is asked for, or a whole multiple of the source's, comes out exactly. Others are rounded to
    even numbers, which 4:2:0 video needs. Where both sides are asked for and do not have the source's shape,
    the pixels' aspect ratio is changed so that the picture is not distorted.

    Args:
        request: What the user said; nothing at all means `default_scale`.
        width: Of the source, in pixels.
        height: Of the source, in pixels.
        sample_aspect_ratio: Of the source.
        rotation: Degrees by which players turn the source; sides in `request` are those of the turned
            picture.
        default_scale: The model's own factor.

    Raises:
        InvalidSizeError: If a side would be 0 or too large.
    """
    asked_width, asked_height = request.width, request.height
    if rotation % 180:
        asked_width, asked_height = asked_height, asked_width
    aspect = sample_aspect_ratio
    warnings: tuple[str, ...] = ()
    if asked_width is not None and asked_height is not None:
        out_width, out_height = asked_width, asked_height
        stretch = Fraction(out_width, width) / Fraction(out_height, height)
        # Within a pixel of the source's shape the asked size is that shape, rounded.
        if abs(out_height * width - out_width * height) >= max(width, height):
            aspect = (sample_aspect_ratio / stretch).limit_denominator(10_000)
            warnings = (
                f"{out_width}x{out_height} has another shape than {width}x{height}: players will show it "
                f"undistorted, with pixels of aspect {aspect.numerator}:{aspect.denominator}",
            )
    else:
        scale = _scale(request.scale, asked_width, asked_height, width, height, default_scale)
        out_width = asked_width or _scaled(width, scale)
        out_height = asked_height or _scaled(height, scale)
    if not (1 <= out_width <= MAX_SIDE and 1 <= out_height <= MAX_SIDE):
        raise InvalidSizeError(
            f"{width}x{height} would become {out_width}x{out_height}; sides must lie in 1-{MAX_SIDE} pixels, "
            "choose another scale"
        )
    return TargetSize(out_width, out_height, aspect, warnings)


def _scale(
    scale: Fraction | None,
    asked_width: int | None,
    asked_height: int | None,
    width: int,
    height: int,
    default_scale: int,
) -> Fraction:
    if scale is not None:
        return scale
    if asked_width is not None:
        return Fraction(asked_width, width)
    if asked_height is not None:
        return Fraction(asked_height, height)
    return Fraction(default_scale)


def _scaled(side: int, scale: Fraction) -> int:
    exact = side * scale
    if exact.denominator == 1:
        return int(exact)
    # Half up rather than Python's half to even: 1.5 and 2.5 times a side should not round in opposite
    # directions.
    return max(2, 2 * ((exact / 2 + Fraction(1, 2)).__floor__()))
