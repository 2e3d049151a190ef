"""What can be played of a job: in the store until it is completed, then a list in the storage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from jobs.async_reader import AsyncJobReader
from jobs.errors import ObjectNotFoundError
from jobs.records import FinishedSegment, Job, StreamSound
from jobs.segment_list import SegmentList
from jobs.storage import Storage
from jobs.store import JobStore
from service.lanes import Lanes

# That of a three-hour film takes two megabytes.
_KEPT_LISTS = 4
_NOTHING = SegmentList(segments=())


class FinishedSegments:
    """Where a job's finished segments and the sound beside them are. A completed one's go an hour after its
    end.

    Args:
        store: Job records.
        reader: The same, for the event loop.
        storage: Objects.
        lanes: Threads.
    """

    def __init__(self, store: JobStore, reader: AsyncJobReader, storage: Storage, lanes: Lanes) -> None:
        self._store, self._reader, self._storage, self._lanes = store, reader, storage, lanes
        self._read = lru_cache(_KEPT_LISTS)(self._read_list)

    def all(self, job: Job) -> Sequence[FinishedSegment]:
        """All that are there, in order; with gaps while the job is unfinished. Blocking."""
        if job.output is None:
            return self._store.finished_segments(job.id)
        return self._kept(job.output.segments_key).segments

    def sound(self, job: Job) -> StreamSound | None:
        """The sound of a job that `is_playable`; None if it has none. Blocking."""
        if job.streaming is not None:
            return job.streaming.sound
        return None if job.output is None else self._kept(job.output.segments_key).sound

    async def one(self, job: Job, index: int) -> FinishedSegment | None:
        """One of them; None if it is not there, or not yet."""
        if job.output is None:
            return await self._reader.finished_segment(job.id, index)
        found = await self._lanes.storage.run(job.spec.owner, self.all, job)
        return found[index] if index < len(found) else None

    async def newest_preview(self, job: Job) -> str | None:
        """Key of a before/after picture of the last frame that is there."""
        if job.output is not None:
            return job.output.preview_key
        segment = await self._reader.newest_segment(job.id)
        return None if segment is None else segment.preview_key

    def _kept(self, key: str) -> SegmentList:
        try:
            return self._read(key)
        except ObjectNotFoundError:
            return _NOTHING

    def _read_list(self, key: str) -> SegmentList:
        return SegmentList.from_json(self._storage.get_bytes(key))
