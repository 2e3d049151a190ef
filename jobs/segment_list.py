"""The segments of a completed job: a list in the storage, since the store keeps only what is polled."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from jobs.records import FinishedSegment

_SEGMENTS = TypeAdapter(tuple[FinishedSegment, ...])


def segments_to_json(segments: Sequence[FinishedSegment]) -> bytes:
    """For the object `OutputInfo.segments_key`."""
    return _SEGMENTS.dump_json(tuple(segments))


def segments_from_json(content: bytes) -> tuple[FinishedSegment, ...]:
    """What `segments_to_json` wrote.

    Raises:
        ValidationError: If it is something else (pydantic's).
    """
    return _SEGMENTS.validate_json(content)
