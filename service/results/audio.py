"""The sound of a growing stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from jobs.records import Job
from jobs.storage import Storage
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
    def read(cls, storage: Storage, job: Job) -> Self | None:
        """The sound of a job whose `streaming` is known; None if it has none. Blocking.

        Raises:
            ObjectNotFoundError: If it was removed.
            StorageError: If the storage does not answer.
        """
        sound = None if job.streaming is None else job.streaming.sound
        if sound is None:
            return None
        return cls(sound.key, SegmentIndex.from_dict(json.loads(storage.get_bytes(sound.index_key))))
