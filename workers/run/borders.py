"""Where chunks and segments end, decided while frames arrive. Pure; needs no pixels.

A segment ends with the first chunk that makes it long enough, or at a scene cut a little before: a segment
that begins inside a shot makes a shared chunk again, one that begins with a shot does not. The run that
restores frames and the planner that only counts them both follow the one rule here, so the segments of a plan
are those of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from pipelines.chunks import Chunk, ChunkScheduler
from workers.run.reading import FrameMark
from workers.run.record import ResumePoint

# At a cut, a segment ends with this share of its length. With segments of 10 s and shots of 4 s on average,
# segments made one by one make 6.3 % of the frames twice (chunks of 33 frames, 9 shared) instead of 10.3 %;
# one half would give 3.9 %, and a third more segments.
MIN_SHARE_AT_CUT = Fraction(3, 4)

F = TypeVar("F", bound=FrameMark)


@dataclass(frozen=True)
class ReadyChunk(Generic[F]):
    """A chunk whose frames are all there.

    Attributes:
        chunk: Which frames.
        frames: Those frames, in order.
    """

    chunk: Chunk
    frames: tuple[F, ...]


@dataclass(frozen=True)
class SegmentBorder:
    """The end of a segment. Times are in the reader's ticks.

    Attributes:
        first_frame: Number of the segment's first frame.
        end_frame: One past its last frame.
        first_pts: Pts of the first frame.
        end_pts: End of the last frame.
        read_stop: One past the last frame that its chunks need.
        resume: Where the next segment begins; None after the last.
    """

    first_frame: int
    end_frame: int
    first_pts: int
    end_pts: int
    read_stop: int
    resume: ResumePoint | None


class SegmentCutter(Generic[F]):
    """Cuts a row of frames into chunks and segments.

    Args:
        chunk_len: Frames of a chunk.
        chunk_overlap: Frames that neighbours share. More than half a chunk counts as half: else three chunks
            would meet, and a continued run would have to make all three again.
        segment_ticks: A segment ends with the first chunk after so many ticks, at a scene cut after
            `MIN_SHARE_AT_CUT` of them; None makes one segment.
        resume: Where an earlier run ended.
    """

    def __init__(
        self,
        *,
        chunk_len: int,
        chunk_overlap: int,
        segment_ticks: int | None,
        resume: ResumePoint | None = None,
    ) -> None:
        self.num_cuts = 0
        self._segment_ticks = segment_ticks
        self._scheduler = ChunkScheduler(
            chunk_len,
            min(chunk_overlap, chunk_len // 2),
            first_frame=resume.chunk_frame if resume else 0,
        )
        self._frames: dict[int, F] = {}
        self._first_frame = resume.next_frame if resume else 0
        self._first_pts = 0
        self._pending: SegmentBorder | None = None

    def run(self, frames: Iterable[F]) -> Iterator[ReadyChunk[F] | SegmentBorder]:
        """Takes all frames.

        Yields:
            Chunks as soon as they are whole, and after the last chunk of each segment its border: the last
            one has no resume point. Without a frame to make there is no border.
        """
        last: F | None = None
        for frame in frames:
            if frame.number < self._scheduler.start:
                continue  # read for the cut detector only
            yield from self._settle()
            self.num_cuts += frame.is_cut
            yield from self._close(self._scheduler.begin_frame(is_cut=frame.is_cut))
            yield from self._settle()
            self._frames[frame.number] = last = frame
            if frame.number == self._first_frame:
                self._first_pts = frame.pts
            yield from self._close(self._scheduler.end_frame())
        yield from self._close(self._scheduler.finish())
        if last is not None and last.number >= self._first_frame:
            yield self._border(last.number + 1, last, read_stop=last.number + 1, resume=None)
        elif self._pending is not None:
            yield SegmentBorder(**(vars(self._pending) | {"resume": None}))

    def _close(self, chunk: Chunk | None) -> Iterator[ReadyChunk[F] | SegmentBorder]:
        if chunk is None:
            return
        frames = tuple(self._frames[number] for number in range(chunk.start, chunk.stop))
        yield ReadyChunk(chunk, frames)
        self._end_segment(chunk, frames)
        if chunk.tail:
            yield from self._settle()
        for number in [n for n in self._frames if n < self._scheduler.start]:
            del self._frames[number]

    def _end_segment(self, chunk: Chunk, frames: tuple[F, ...]) -> None:
        """Ends the segment before the first frame that is not final, if it is long enough."""
        if self._segment_ticks is None or chunk.final_stop <= self._first_frame:
            return
        # Where chunks share nothing anyway, a cut saves nothing.
        saves_chunk = self._scheduler.overlap > 0 and not chunk.tail
        last = frames[chunk.final_stop - 1 - chunk.start]
        wanted = self._segment_ticks * (MIN_SHARE_AT_CUT if saves_chunk else 1)
        if last.pts + last.duration - self._first_pts < wanted:
            return
        # With shared frames at the border, their chunk is run again. Without, the chunk begins after the
        # border, and one frame more is read: whether a shot begins there depends on it.
        read = frames[0] if chunk.tail else frames[-1]
        resume = ResumePoint(
            next_frame=chunk.final_stop,
            chunk_frame=chunk.start if chunk.tail else chunk.stop,
            read_frame=read.number,
            read_pts=read.pts,
            cut_history=read.cut_history,
        )
        self._pending = self._border(chunk.final_stop, last, read_stop=chunk.stop, resume=resume)
        self._first_frame = chunk.final_stop
        if chunk.tail:
            self._first_pts = frames[chunk.final_stop - chunk.start].pts

    def _border(
        self, end_frame: int, last: F, *, read_stop: int, resume: ResumePoint | None
    ) -> SegmentBorder:
        return SegmentBorder(
            first_frame=self._first_frame,
            end_frame=end_frame,
            first_pts=self._first_pts,
            end_pts=last.pts + last.duration,
            read_stop=read_stop,
            resume=resume,
        )

    def _settle(self) -> Iterator[SegmentBorder]:
        """Passes on the border that was planned. After a chunk without a tail that waits for the next frame:
        only it tells that the segment was not the last."""
        if self._pending is not None:
            border, self._pending = self._pending, None
            yield border
