"""The reading stage: decoded frames, numbered, with the scene cuts among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from media import Frame, VideoReader
from workers.manifest import ResumePoint
from workers.scenes import CutDetector
from workers.timing import StageClock


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """A frame of the source.

    Attributes:
        number: Counted from the first frame that is read in an uninterrupted run.
        image: (3, h, w), float32, [0, 1].
        pts: In the reader's ticks.
        duration: In ticks.
        is_cut: Whether a new shot begins with it.
        cut_history: State of the cut detector after it.
    """

    number: int
    image: Tensor
    pts: int
    duration: int
    is_cut: bool
    cut_history: tuple[float, ...]


def read_frames(
    reader: VideoReader, *, resume: ResumePoint | None, detect_cuts: bool, clock: StageClock
) -> Iterator[SourceFrame]:
    """Reads all frames, or those from a resume point on."""
    first = resume.read_frame if resume else 0
    detector = CutDetector(resume.cut_history if resume else ())
    frames: Iterator[Frame] = reader.frames(from_pts=resume.read_pts if resume else None)
    for number, frame in enumerate(clock.iterate("read", frames), start=first):
        if number == first and resume is not None:
            # What was found out about this frame is in the history already.
            detector.start_at(frame.image)
            is_cut = False
        else:
            is_cut = detect_cuts and detector.is_cut(frame.image)
        yield SourceFrame(number, frame.image, frame.pts, frame.duration, is_cut, detector.history)
