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


def parse_rate(text: str) -> Fraction:
    """Reads frames per second: "24", "23.976", "30000/1001".

    Raises:
        typer.BadParameter: If it is none, or not from 1/3600 to 1000.
    """
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter(f"{text!r} is not a frame rate; write 24, 23.976 or 30000/1001") from error
    if not Fraction(1, 3600) <= rate <= 1000:
        raise typer.BadParameter(f"{text!r} frames per second; 1/3600 to 1000 are accepted")
    return rate


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
