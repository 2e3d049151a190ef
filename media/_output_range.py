"""The part of a source that a joined file shows, and where it ends."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from media.info import MediaInfo, Stretch

# Stated durations are often estimates from the bit rate.
_END_MARGIN, _END_MARGIN_SECONDS = Fraction(11, 10), 10

# Sound may falter where a film ends.
_MAX_HOLE_SECONDS = 1


@dataclass(frozen=True)
class OutputRange:
    """The part of the source that the output shows, and where the output's zero lies.

    Attributes:
        zero: Source time, in seconds as its packets count, that becomes 0.
        duration: Length of the output in seconds, None for "to the end".
        is_cut: Whether the output starts inside the source; if not, what lies before zero (decoder priming)
            is kept.
        stretches: Of the source; its time is that on their line. Empty where its time stamps do not break.
        picture_end: When the last picture ends, in seconds of the output, as far as that is known. Sound that
            begins anew behind it, after a hole, is left out: a small file would become hours of silence.
        end: Somewhat behind the end of all that the source says it has. Nothing is read from there on.
    """

    zero: Fraction
    duration: Fraction | None
    is_cut: bool
    stretches: tuple[Stretch, ...] = ()
    picture_end: Fraction | None = None
    end: Fraction | None = None

    @classmethod
    def of_source(
        cls, source: MediaInfo, start_seconds: Fraction | None, duration_seconds: Fraction | None
    ) -> Self:
        """The part of a source that a range in seconds from its start means."""
        start = Fraction(start_seconds or 0)
        stated = source.video.duration_seconds
        picture_end = source.video_end_seconds
        if picture_end is None and stated is not None:
            picture_end = source.video.start_seconds + stated
        num_frames = source.video.num_frames_estimate
        counted = None if num_frames is None else num_frames / source.video.rate
        ends = [end for end in (picture_end, source.duration_seconds, counted) if end is not None]
        return cls(
            zero=source.origin_seconds + start,
            duration=None if duration_seconds is None else Fraction(duration_seconds),
            is_cut=start > 0,
            stretches=source.stretches,
            picture_end=None if picture_end is None else picture_end - start,
            end=max(ends) * _END_MARGIN + _END_MARGIN_SECONDS - start if ends else None,
        )

    def shift(self, time_base: Fraction) -> int:
        """Ticks to subtract from a time stamp."""
        return round(self.zero / time_base)

    def is_after_end(self, seconds: Fraction) -> bool:
        """Whether an output time lies at or behind the end of the range, or of the source."""
        return self.is_behind_source(seconds) or (self.duration is not None and seconds >= self.duration)

    def is_behind_source(self, seconds: Fraction) -> bool:
        """Whether an output time lies behind all that the source says it has."""
        return self.end is not None and seconds >= self.end

    def is_hole_behind_picture(self, end: Fraction, start: Fraction) -> bool:
        """Whether sound stops and begins again where there is no picture any more."""
        return self.picture_end is not None and start >= self.picture_end and start - end > _MAX_HOLE_SECONDS
