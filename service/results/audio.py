"""The sound of a growing stream, as the planner has described it in `Job.streaming`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from jobs.records import Job
from media.growing import SegmentIndex


@dataclass(frozen=True)
class StreamAudio:
    """The source's sound as a fragmented MP4 of its own.

    Attributes:
        key: Of the file in the storage.
        index: Where its fragments are.
    """

    key: str
    index: SegmentIndex

    @classmethod
    def of(cls, job: Job) -> Self | None:
        """The sound of a job whose `streaming` is known; None if it has none."""
        described = (job.streaming or {}).get("audio")
        if described is None:
            return None
        return cls(described["key"], SegmentIndex.from_dict(described["index"]))

    @property
    def size(self) -> int:
        """Bytes of the file, as far as players need it."""
        last = self.index.fragments[-1]
        return last.offset + last.size
