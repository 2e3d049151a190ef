"""The nominal frame rate of a stream, out of several claims and what its time stamps show."""

import statistics
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

DEFAULT_RATE = Fraction(25)
_MAX_RATE = Fraction(240)

# Matroska rounds to milliseconds: 240 frames per second look like 250.
_AGREEMENT = 0.1
_STANDARD_RATES = tuple(
    Fraction(rate) for rate in (8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 240)
) + tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120))


def choose_rate(claims: Sequence[Fraction | None], pts: Sequence[int], time_base: Fraction) -> Fraction:
    """Pick the nominal frame rate.

    Args:
        claims: What container and codec say, the most trusted first. Any of them may be absurd: a Matroska
            file without a default duration claims 1000, an H.264 stream may claim its field rate.
        pts: Time stamps of the first packets in any order, in ticks; may be empty.
        time_base: Seconds per tick.

    Returns:
        Frames per second, in (0, 240].
    """
    sane = [claim for claim in claims if claim is not None and 0 < claim <= _MAX_RATE]
    measured = _measure(pts, time_base)
    if measured is None:
        return sane[0] if sane else DEFAULT_RATE
    for rate in (*sane, *sorted(_STANDARD_RATES, key=lambda standard: abs(standard / measured - 1))):
        if abs(rate / measured - 1) <= _AGREEMENT:
            return rate
    return min(measured.limit_denominator(1001), _MAX_RATE)


def _measure(pts: Sequence[int], time_base: Fraction) -> Fraction | None:
    """From the middle one of the distances between frames: unmoved by a gap or a few doubled frames."""
    ordered = sorted(set(pts))
    if len(ordered) < 3:
        return None
    steps = [later - earlier for earlier, later in pairwise(ordered)]
    return 1 / (statistics.median_low(steps) * time_base)
