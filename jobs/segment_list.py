"""What plays of a completed job: a list in the storage, since the store keeps only what is polled."""

from __future__ import annotations

from typing import Self

from pydantic import TypeAdapter

from jobs.records import FinishedSegment, StreamSound
from jobs.values import Value

_OF_THE_VERSION_BEFORE = TypeAdapter(tuple[FinishedSegment, ...])


class SegmentList(Value):
    """The object `OutputInfo.segments_key`.

    Attributes:
        segments: All, in order.
        sound: Of the growing stream; None if it has none.
    """

    segments: tuple[FinishedSegment, ...]
    sound: StreamSound | None = None

    def to_json(self) -> bytes:
        """For the storage."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """What `to_json` wrote, also the version before's.

        Raises:
            ValidationError: If it is something else (pydantic's).
        """
        if content.startswith(b"["):  # the sound is in the job's record
            return cls(segments=_OF_THE_VERSION_BEFORE.validate_json(content))
        return cls.model_validate_json(content)
