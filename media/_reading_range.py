"""The part of a video that a reader is asked for."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Self


@dataclass(frozen=True)
class ReadingRange:
    """Which frames to read: those with a pts from `first` to before `end`.

    Attributes:
        first: In ticks from the container's start; counts as 0 in what is read.
        end: In the same ticks; None is to the end of the video.
    """

    first: int
    end: int | None

    @classmethod
    def of_seconds(
        cls, start_seconds: Fraction | None, duration_seconds: Fraction | None, time_base: Fraction
    ) -> Self:
        """The ticks of a range in seconds."""
        start = start_seconds or 0
        end = None if duration_seconds is None else math.ceil((start + duration_seconds) / time_base)
        return cls(math.ceil(start / time_base), end)


def check_seconds(start_seconds: Fraction | None, duration_seconds: Fraction | None) -> None:
    """Check that a range can be one.

    Raises:
        ValueError: The start is negative, or the duration not positive.
    """
    if start_seconds is not None and start_seconds < 0:
        raise ValueError(f"start_seconds must be at least 0, got {float(start_seconds):g}")
    if duration_seconds is not None and duration_seconds <= 0:
        raise ValueError(f"duration_seconds must be positive, got {float(duration_seconds):g}")
