"""What a reader says where frames should be and none can be had."""

from fractions import Fraction

from media._reading_range import ReadingRange
from media.info import MediaInfo, VideoStreamInfo

# The stated duration of a whole file is often off by a frame or two.
_DURATION_TOLERANCE_FRAMES = 2


def describe_truncation(video: VideoStreamInfo, end: Fraction, *, is_cut_off: bool) -> str | None:
    """Report a file that stops before its time: many formats end without an error.

    Args:
        video: The stream that was read to its end.
        end: When its last frame ends, in seconds from the container's start.
        is_cut_off: Whether the decoder met an end that is none.
    """
    if is_cut_off:
        return f"the file is truncated: it cannot be read after {float(end):.2f} s"
    if video.duration_seconds is None:
        return None
    missing = video.start_seconds + video.duration_seconds - end
    if missing <= _DURATION_TOLERANCE_FRAMES / video.rate:
        return None
    return (
        f"the video ends at {float(end):.2f} s, {float(missing):.2f} s before the time the file "
        "states: it is probably truncated"
    )


def explain_emptiness(info: MediaInfo, asked: ReadingRange, time_base: Fraction) -> str:
    """Why there is not one frame in the range that was asked for, whose ticks are of `time_base`."""
    if asked.first == 0 and asked.end is None:
        return f"not one frame of '{info.path.name}' can be decoded; the file is damaged"
    start = float(asked.first * time_base)
    length = info.duration_seconds
    known = f"; the file lasts {float(length):.2f} s" if length is not None else ""
    return f"'{info.path.name}' has no frames from {start:g} s on in the chosen range{known}"
