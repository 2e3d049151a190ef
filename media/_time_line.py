"""One time line for all streams of a file whose time stamps begin anew or jump. Pure.

Jumps are found on the video, in the order of the file, and tell where the file was put together. Between two
of them all streams count alike, so one number a part, added to every stream's time stamps, makes one line.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.packet import Packet

from media.info import Stretch

MAX_GAP_SECONDS = 10
"""A larger hole in the video, which sound does not bridge, is taken for a jump of the clock."""

# In a slide show, holes of this many ordinary intervals are part of it.
_MIN_GAP_INTERVALS = 20

# Decoding times go on from packet to packet; presentation times go back by as many frames as are reordered.
_MAX_STEP_BACK_INTERVALS = 8
_MAX_REORDERED_INTERVALS = 20

# MPEG-TS counts 33 bits of 1/90000 s. FFmpeg takes a clock that begins anew, a minute or more before the
# file's start, for one that has run over, and adds that time.
_TS_WRAP_SECONDS = Fraction(1 << 33, 90_000)

# Nobody joins more files than that; more jumps come of damaged time stamps, and the reader smooths those.
MAX_STRETCHES = 1000

# Sound begins and ends some packets away from the picture; a step of less is none.
_SOUND_TOLERANCE_SECONDS = Fraction(1, 10)


@dataclass(frozen=True, kw_only=True)
class VideoRun:
    """Video packets in a row whose times go on, as met while reading. Seconds as the file says them."""

    first: Fraction
    """`packet_time` of the first packet."""
    begin: Fraction
    """Presentation time of the first packet."""
    end: Fraction
    """When the last picture ends."""
    position: int


@dataclass(frozen=True)
class TimeLine:
    """What was decided about a file's time.

    Attributes:
        stretches: At least one where there is video; the first one's shift is 0.
        closed, kept: The jumps forward that were closed, and those that were left: (seconds on the line,
            length).
        joints: Times on the line where time stamps begin anew.
    """

    stretches: tuple[Stretch, ...]
    joints: tuple[Fraction, ...] = ()
    closed: tuple[tuple[Fraction, Fraction], ...] = ()
    kept: tuple[tuple[Fraction, Fraction], ...] = ()


def has_decoding_times(format_name: str) -> bool:
    """Whether a container stores decoding times; see `packet_time`."""
    return "matroska" not in format_name


def packet_time(packet: "Packet[Any]", *, has_decoding_times: bool) -> int | None:
    """The time stamp that jumps are looked for in, in ticks.

    Args:
        packet: Of the video.
        has_decoding_times: Whether the container stores them. Matroska does not: FFmpeg makes them up of
            earlier packets, so a jump would show some packets late.
    """
    if has_decoding_times and packet.dts is not None:
        return packet.dts
    return packet.pts if packet.pts is not None else packet.dts


class RunFinder:
    """Divides the video's packets into runs.

    Args:
        interval: Seconds from frame to frame.
        has_decoding_times: As for `packet_time`.
    """

    def __init__(self, *, interval: Fraction, has_decoding_times: bool) -> None:
        back = _MAX_STEP_BACK_INTERVALS if has_decoding_times else _MAX_REORDERED_INTERVALS
        self._max_back = back * interval
        self._max_forward = max(Fraction(MAX_GAP_SECONDS), _MIN_GAP_INTERVALS * interval)
        self._latest: Fraction | None = None
        self._earliest: Fraction | None = None
        self.runs: list[VideoRun] = []

    @property
    def is_stuck(self) -> bool:
        """Whether all packets have the same time."""
        return len(self.runs) == 1 and self._latest == self.runs[0].first == self._earliest

    def add(self, time: Fraction, begin: Fraction, end: Fraction, position: int) -> None:
        """The next packet: its time, when its picture is shown, until when, and where it lies in the file."""
        latest = self._latest
        self._earliest = time if self._earliest is None else min(self._earliest, time)
        if latest is None or not -self._max_back <= time - latest <= self._max_forward:
            self.runs.append(VideoRun(first=time, begin=begin, end=end, position=position))
            self._latest = time
            return
        self._latest = max(latest, time)
        run = self.runs[-1]
        if end > run.end:
            self.runs[-1] = VideoRun(first=run.first, begin=run.begin, end=end, position=run.position)


def plan_time_line(
    runs: Sequence[VideoRun], *, sound_seconds: Collection[int], is_wrapping: bool, keep_gaps: bool
) -> TimeLine:
    """Put the runs one behind the other.

    Args:
        runs: From `RunFinder`.
        sound_seconds: The whole seconds, as the file counts, in which packets of sound begin. A hole in the
            video that has sound is a still picture, not a jump.
        is_wrapping: Whether the container's clock runs over (MPEG-TS).
        keep_gaps: Leave jumps forward as they are.
    """
    stretches: list[Stretch] = []
    joints: list[Fraction] = []
    closed: list[tuple[Fraction, Fraction]] = []
    kept: list[tuple[Fraction, Fraction]] = []
    for run in runs:
        if not stretches:
            stretches.append(_stretch(run, Fraction(0)))
            continue
        last = stretches[-1]
        line_end = last.end_seconds + last.shift_seconds
        gap = run.begin - last.end_seconds
        is_joint = gap < 0 or (is_wrapping and gap > _TS_WRAP_SECONDS / 2)
        is_still = not is_joint and _is_bridged(last.end_seconds, run.begin, sound_seconds)
        if is_still or (keep_gaps and not is_joint):
            if not is_still:
                kept.append((line_end, gap))
            stretches[-1] = Stretch(
                first_seconds=last.first_seconds,
                begin_seconds=last.begin_seconds,
                end_seconds=run.end,
                position=last.position,
                shift_seconds=last.shift_seconds,
            )
            continue
        if is_joint:
            joints.append(line_end)
        else:
            closed.append((line_end, gap))
        stretches.append(_stretch(run, line_end - run.begin))
    return TimeLine(tuple(stretches), tuple(joints), tuple(closed), tuple(kept))


def _stretch(run: VideoRun, shift: Fraction) -> Stretch:
    return Stretch(
        first_seconds=run.first,
        begin_seconds=run.begin,
        end_seconds=run.end,
        position=run.position,
        shift_seconds=shift,
    )


def _is_bridged(begin: Fraction, end: Fraction, sound_seconds: Collection[int]) -> bool:
    """Whether sound goes on through at least half of a hole."""
    inside = range(int(begin) + 1, int(end))
    return sum(1 for second in sound_seconds if second in inside) * 2 >= len(inside)


class VideoFollower:
    """Says how far to shift the video's packets, read in the order of the file from its start, or from a
    place in the first part."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._stretches = stretches
        self._number = 0
        self._has_begun = False

    @property
    def has_passed_break(self) -> bool:
        """Whether what was read last lies behind a break."""
        return self._number > 0

    def shift(self, time: Fraction | None, position: int | None) -> Fraction:
        """Seconds to add to a packet's time stamps, from its `packet_time` and where it lies in the file."""
        following = self._number + 1
        if self._has_begun and following < len(self._stretches):
            stretch = self._stretches[following]
            if time == stretch.first_seconds and (position is None or position >= stretch.position):
                self._number = following
        self._has_begun = True
        return self._stretches[self._number].shift_seconds if self._stretches else Fraction(0)


class SoundFollower:
    """Says how far to shift packets of sound: theirs jump where the video's do, give or take some packets."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._stretches = stretches
        self._number: int | None = None
        self._expected = Fraction(0)

    def shift(self, start: Fraction, duration: Fraction, position: int | None) -> Fraction:
        """Seconds to add to a packet's time stamps; packets in the order of the file."""
        if not self._stretches:
            return Fraction(0)
        if self._number is None:
            self._number = find_stretch(self._stretches, start, position)
        elif abs(start - self._expected) > _SOUND_TOLERANCE_SECONDS:
            line_expected = self._expected + self._stretches[self._number].shift_seconds
            self._number = min(
                range(self._number, len(self._stretches)),
                key=lambda number: abs(start + self._stretches[number].shift_seconds - line_expected),
            )
        self._expected = start + duration
        return self._stretches[self._number].shift_seconds


def find_stretch(stretches: Sequence[Stretch], seconds: Fraction, position: int | None) -> int:
    """The part that a time lies in: by its place in the file where that tells, else the first that has it."""
    if position is not None and any(stretch.position for stretch in stretches):
        return max(0, sum(1 for stretch in stretches if stretch.position <= position) - 1)
    for number, stretch in enumerate(stretches):
        if stretch.begin_seconds <= seconds < stretch.end_seconds:
            return number
    return min(range(len(stretches)), key=lambda number: _distance(stretches[number], seconds))


def on_line(stretches: Sequence[Stretch], seconds: Fraction) -> Fraction:
    """Where a time of the container (of a chapter) lies on the line; one in a closed gap lies at the gap."""
    if not stretches:
        return seconds
    stretch = stretches[find_stretch(stretches, seconds, None)]
    if len(stretches) > 1:
        seconds = min(seconds, stretch.end_seconds) if stretch is not stretches[-1] else seconds
        seconds = max(seconds, stretch.begin_seconds) if stretch is not stretches[0] else seconds
    return seconds + stretch.shift_seconds


def _distance(stretch: Stretch, seconds: Fraction) -> Fraction:
    return max(stretch.begin_seconds - seconds, seconds - stretch.end_seconds, Fraction(0))
