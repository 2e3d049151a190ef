"""Errors of the growing stream."""

from typing import ClassVar

from media.errors import MediaError


class MalformedSegmentError(MediaError):
    """Raised when bytes are not a fragmented MP4 as `SegmentWriter` and `extract_audio` write it."""

    code: ClassVar[str] = "malformed_segment"
