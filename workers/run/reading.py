"""The reading stage: decoded frames, numbered, with the scene cuts among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from media import Entry, Frame
from workers.run.record import ResumePoint
from workers.run.scenes import CutDetector
from workers.run.timing import StageClock


class FrameSource(Protocol):
    """What this package needs of a reader while it reads: a `VideoReader`, in this process or another."""

    @property
    def warnings(self) -> Sequence[str]:
        """What had to be repaired or skipped so far."""
        ...

    def frames(self, *, from_pts: int | None = None, entry: Entry | None = None) -> Iterator[Frame]:
        """As in `VideoReader`."""
        ...

    def entry_before(self, pts: int) -> Entry | None:
        """As in `VideoReader`."""
        ...


@dataclass(frozen=True, eq=False)
class FrameMark:
    """What is known of a frame of the source besides its pixels.

    Attributes:
        number: Counted from the first frame that is read in an uninterrupted run.
        pts: In the reader's ticks.
        duration: In ticks.
        is_cut: Whether a new shot begins with it.
        cut_history: State of the cut detector after it.
    """

    number: int
    pts: int
    duration: int
    is_cut: bool
    cut_history: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SourceFrame(FrameMark):
    """A frame of the source.

    Attributes:
        image: (3, h, w), float32, [0, 1].
        captions: As in `media.Frame`.
        alpha: As in `media.Frame`.
    """

    image: Tensor
    captions: bytes = b""
    alpha: Tensor | None = None

    def mark(self) -> FrameMark:
        """The frame without its image, which takes 11 MB at 1280x720."""
        return FrameMark(self.number, self.pts, self.duration, self.is_cut, self.cut_history)


def read_frames(
    reader: FrameSource,
    *,
    resume: ResumePoint | None,
    detect_cuts: bool,
    clock: StageClock,
    entry: Entry | None = None,
) -> Iterator[SourceFrame]:
    """Reads all frames, or those from a resume point on, the way to which `entry` may tell."""
    first = resume.read_frame if resume else 0
    detector = CutDetector(resume.cut_history if resume else ())
    frames: Iterator[Frame] = reader.frames(from_pts=resume.read_pts if resume else None, entry=entry)
    for number, frame in enumerate(clock.iterate("read", frames), start=first):
        if number == first and resume is not None:
            # What was found out about this frame is in the history already.
            detector.start_at(frame.image)
            is_cut = False
        else:
            is_cut = detect_cuts and detector.is_cut(frame.image)
        yield SourceFrame(
            number,
            frame.pts,
            frame.duration,
            is_cut,
            detector.history,
            frame.image,
            frame.captions,
            frame.alpha,
        )
