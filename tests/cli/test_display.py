from __future__ import annotations

from fractions import Fraction

import pytest
import typer

from cli.display import clock_time, describe, pace
from cli.values import parse_scale, parse_seconds
from workers.run.progress import Progress


def test_pace_counts_only_new_frames() -> None:
    assert pace(Progress("upscaling", 150, 250, 50), 20) == "5.00 fps, 0:20 left"
    assert pace(Progress("upscaling", 50, 250, 50), 20) == ""
    assert pace(Progress("upscaling", 600, None), 20) == "30 fps"


def test_a_moment_is_one_line() -> None:
    assert describe(Progress("joining", 10, 10), 1) == "joining"
    assert describe(Progress("upscaling", 10, 100), 1) == "upscaling, 10/100 frames, 10 fps, 0:09 left"


def test_times_look_like_a_clock() -> None:
    assert [clock_time(seconds) for seconds in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_times_and_factors_are_exact() -> None:
    assert parse_seconds("1:02:03.04") == Fraction(372304, 100)
    assert parse_seconds(".5") == Fraction(1, 2)
    assert parse_scale("1.1") == Fraction(11, 10)
    assert parse_scale("4/3x") == Fraction(4, 3)


@pytest.mark.parametrize("text", ["", "1:", "-1", "1h", "1/0"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_seconds(text)
