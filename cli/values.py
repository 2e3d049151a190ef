"""Values that users type: factors, times."""

from __future__ import annotations

import re
from fractions import Fraction

import typer

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?")


def parse_scale(text: str) -> Fraction:
    """Reads a factor: "2", "1.5", "3/2" or "2x".

    Raises:
        typer.BadParameter: If it is none.
    """
    try:
        return Fraction(text.strip().removesuffix("x"))
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter(f"{text!r} is not a factor; write 2, 1.5 or 3/2") from error


def parse_seconds(text: str | Fraction) -> Fraction:
    """Reads a time: "90", "1.5", "1:30", "0:01:30.25".

    Raises:
        typer.BadParameter: If it is none.
    """
    if isinstance(text, Fraction):  # typer parses defaults too
        return text
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time; write seconds (1.5) or 0:01:30")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)
