from __future__ import annotations

from fractions import Fraction

import pytest

from media.errors import InvalidSizeError
from media.sizes import SizeRequest, TargetSize, target_size


def size(request: SizeRequest, width: int = 640, height: int = 360, rotation: int = 0) -> tuple[int, int]:
    target = target_size(request, width=width, height=height, rotation=rotation)
    return target.width, target.height


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("1", (640, 360)), ("1.5", (960, 540)), ("2", (1280, 720)), ("4/3", (854, 480)), ("0.5", (320, 180))],
)
def test_a_factor_multiplies_both_sides(scale: str, expected: tuple[int, int]) -> None:
    assert size(SizeRequest(scale=Fraction(scale))) == expected


def test_whole_multiples_of_odd_sides_stay_exact_and_others_become_even() -> None:
    assert size(SizeRequest(scale=Fraction(3)), 321, 181) == (963, 543)
    assert size(SizeRequest(scale=Fraction(3, 2)), 321, 181) == (482, 272)


def test_one_side_brings_the_other_with_it() -> None:
    assert size(SizeRequest(height=1080)) == (1920, 1080)
    assert size(SizeRequest(width=1000)) == (1000, 562)


def test_sides_are_those_of_the_turned_picture() -> None:
    assert size(SizeRequest(height=1280), rotation=-90) == (1280, 720)
    assert size(SizeRequest(height=1280), rotation=180) == (2276, 1280)


def test_nothing_asked_for_takes_the_models_scale() -> None:
    target = target_size(SizeRequest(), width=10, height=20, default_scale=4)
    assert (target.width, target.height) == (40, 80)


def test_another_shape_changes_the_pixels_aspect_instead_of_the_picture() -> None:
    target = target_size(SizeRequest(width=1920, height=1080), width=640, height=480)
    assert target.sample_aspect_ratio == Fraction(3, 4)
    assert len(target.warnings) == 1


def test_rounding_a_side_keeps_square_pixels() -> None:
    target = target_size(SizeRequest(width=1280, height=720), width=853, height=480)
    assert target == TargetSize(1280, 720, Fraction(1))


@pytest.mark.parametrize(
    "arguments",
    [{"scale": Fraction(0)}, {"scale": Fraction(17)}, {"height": 0}, {"scale": Fraction(2), "width": 10}],
)
def test_impossible_requests_are_refused(arguments: dict[str, Fraction]) -> None:
    with pytest.raises(InvalidSizeError):
        SizeRequest(**arguments)  # type: ignore[arg-type]


def test_a_side_beyond_what_encoders_take_is_refused() -> None:
    with pytest.raises(InvalidSizeError, match="30720"):
        size(SizeRequest(scale=Fraction(16)), 1920, 1080)
