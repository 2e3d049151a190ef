"""What a container says of its times: where it begins, how long it lasts, and whether that can be right."""

from collections.abc import Sequence
from fractions import Fraction

from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

_MICROSECOND = Fraction(1, 1_000_000)

# Even a still picture takes more; a smaller file that claims its duration has a broken header.
_MIN_BITS_PER_SECOND = 50


def find_origin(container: InputContainer, used: Sequence[Stream]) -> Fraction:
    """When the first of the streams that are used begins, exact.

    The container's own start is rounded to microseconds, and counts streams of data, which in broadcasts come
    a second before the picture they belong to.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in used
        if stream.start_time is not None and stream.time_base is not None
    ]
    if starts:
        return min(starts)
    start_time: int | None = container.start_time
    return Fraction(0) if start_time is None else start_time * _MICROSECOND


def plausible_duration(container: InputContainer, size_bytes: int, warnings: list[str]) -> Fraction | None:
    """The container's duration in seconds; None where it says none, or one that cannot be (warned of)."""
    if container.duration is None or container.duration <= 0:
        return None
    duration = container.duration * _MICROSECOND
    if size_bytes * 8 < duration * _MIN_BITS_PER_SECOND:
        warnings.append(f"the stated duration of {float(duration):.0f} s cannot be right and is ignored")
        return None
    return duration


def stated_video_duration(
    container: InputContainer, stream: VideoStream, start: Fraction, container_duration: Fraction | None
) -> Fraction | None:
    """How long the video itself lasts, as stated: without the hidden part before an edit list's start, and
    not the longer sound."""
    stated: list[Fraction] = []
    if stream.duration and stream.time_base:
        stated.append(stream.duration * stream.time_base)
    tagged_end = _parse_clock(stream.metadata.get("DURATION", ""))
    if tagged_end is not None and tagged_end > start:
        stated.append(tagged_end - start)
    is_alone = all(other.type not in ("audio", "subtitle") for other in container.streams)
    if container_duration is not None and container_duration > start and (stated or is_alone):
        stated.append(container_duration - start)
    return min(stated, default=None)


def _parse_clock(text: str) -> Fraction | None:
    """Matroska's "00:00:02.073000000" in seconds."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
