"""Time stamps that can be relied on: strictly increasing, from 0, with durations, whatever the file says."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from av.video.frame import VideoFrame

from media._notes import Notes

# A step back of up to this many frame intervals is a bad time stamp; more is a new count, as after a splice.
_MAX_JITTER_FRAMES = 8


class TimedFrame(NamedTuple):
    """A decoded frame with the time it is shown, in ticks from the container's start."""

    frame: VideoFrame
    pts: int
    duration: int
    """At least 1."""


class Clock:
    """Gives every frame its pts: the file's own wherever that is possible.

    Args:
        time_base: Seconds per tick.
        rate: Frames per second; spaces frames without a time stamp.
        origin_ticks: The container's start, subtracted.
        notes: Where repairs are reported.
    """

    def __init__(self, *, time_base: Fraction, rate: Fraction, origin_ticks: Fraction, notes: Notes) -> None:
        self._interval = 1 / rate / time_base
        self._time_base = time_base
        self._origin = origin_ticks
        self._notes = notes
        self._last = -1
        self._shift = 0
        self._anchor = Fraction(0)
        self._num_missing = 0

    def stamp(self, raw_pts: int | None, *, may_be_spliced: bool = True) -> int:
        """The pts of the next frame: larger than the one before, at least 0.

        Args:
            raw_pts: As the decoder gives it.
            may_be_spliced: Whether a large step back can be a new count. Where the packets do not step back,
                the decoder has lost a keyframe and gives frames in the wrong order.
        """
        if raw_pts is None:
            pts = round(self._anchor + self._num_missing * self._interval)
            self._num_missing += 1
            self._notes.add("no_pts", "frames without time stamps were spaced by the frame rate")
        else:
            pts = self._place(round(raw_pts - self._origin), may_be_spliced)
            self._anchor, self._num_missing = pts + self._interval, 0
        self._last = max(pts, self._last + 1)
        return self._last

    def _place(self, pts: int, may_be_spliced: bool) -> int:
        pts += self._shift
        step_back = self._last - pts
        if may_be_spliced and self._last >= 0 and step_back > _MAX_JITTER_FRAMES * self._interval:
            target = self._last + max(1, round(self._interval))
            self._shift += target - pts
            seconds = float(step_back * self._time_base)
            at = float(self._last * self._time_base)
            self._notes.add(
                "splice",
                f"time stamps jump back by {seconds:.3f} s after {at:.3f} s (files joined end to end?); the "
                "video goes on without a break, sound may be out of step from there",
            )
            return target
        if step_back >= 0:
            self._notes.add(
                "jitter",
                lambda n: f"{n} frame time stamps were doubled or ran backwards; they were moved forward",
            )
        return pts


def with_durations(frames: Iterable[VideoFrame], *, frame_interval: Fraction) -> Iterator[TimedFrame]:
    """Add how long each frame is shown: until the next one.

    The last frame's own duration counts where the frame before showed that the file's durations can be
    believed (Matroska without a default duration says 1 ms for all); else the last one is shown as long as
    the one before it.

    Args:
        frames: With pts, strictly increasing.
        frame_interval: Nominal ticks per frame, for a single frame that says nothing.
    """
    held: VideoFrame | None = None
    held_pts = 0
    previous: tuple[int, int] | None = None  # duration as said, interval as it was
    for frame in frames:
        assert frame.pts is not None
        if held is not None:
            previous = (held.duration, frame.pts - held_pts)
            yield TimedFrame(held, held_pts, frame.pts - held_pts)
        held, held_pts = frame, frame.pts
    if held is None:
        return
    said = held.duration
    if previous is None:
        last = said if said > 0 else round(frame_interval)
    else:
        last = said if said > 0 and abs(previous[0] - previous[1]) <= 1 else previous[1]
    yield TimedFrame(held, held_pts, max(1, last))
