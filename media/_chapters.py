"""The chapters of a joined file."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from media._output_range import OutputRange
from media._time_line import on_line
from media.writer import MOVIE_TIMESCALE

if TYPE_CHECKING:
    from av.container.core import Chapter as OutputChapter  # exists in the type stubs only


def shift_chapters(chapters: "Sequence[OutputChapter]", timeline: OutputRange) -> "list[OutputChapter]":
    """The chapters that touch the range, cut to it, on the output's time line."""
    time_base = Fraction(1, MOVIE_TIMESCALE)
    shifted: list[OutputChapter] = []
    for chapter in chapters:
        chapter_base = chapter["time_base"] or Fraction(1, 1000)
        first, last = (on_line(timeline.stretches, chapter[edge] * chapter_base) for edge in ("start", "end"))
        start, end = max(Fraction(0), first - timeline.zero), last - timeline.zero
        if timeline.duration is not None:
            end = min(end, timeline.duration)
        if end > start:
            shifted.append(
                {
                    "id": chapter["id"],
                    "start": round(start / time_base),
                    "end": round(end / time_base),
                    "time_base": time_base,
                    "metadata": chapter["metadata"],
                }
            )
    return shifted
