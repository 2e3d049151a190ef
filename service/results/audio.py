"""The sound of a growing stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from jobs.records import Job
from media.growing import SegmentIndex
from service.context import ServiceContext


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
    def read(cls, context: ServiceContext, job: Job) -> Self | None:
        """The sound of a job that `is_playable`; None if it has none. Blocking.

        Raises:
            ObjectNotFoundError: If it was removed.
            StorageError: If the storage does not answer.
        """
        sound = context.segments.sound(job)
        if sound is None:
            return None
        index = json.loads(context.storage.get_bytes(sound.index_key))
        return cls(sound.key, SegmentIndex.from_dict(index))
