"""Playing a result while it grows: indices of segment files, the order of one growing MP4, HLS playlists.

Bytes only, no HTTP. Nothing here needs torch or PyAV, except `media.growing.audio`, which workers import by
its own name.
"""

from media.growing.errors import MalformedSegmentError
from media.growing.formats import TrackFormat
from media.growing.hls import audio_playlist, multivariant_playlist, video_playlist
from media.growing.index import Fragment, SegmentIndex, index_segment
from media.growing.stream import GrowingStream, Piece, stream_init
from media.growing.tracks import AUDIO_TRACK_ID, VIDEO_TRACK_ID, merge_inits, retrack

__all__ = [  # noqa: RUF022 - grouped by topic
    # Indexing
    "Fragment",
    "SegmentIndex",
    "TrackFormat",
    "index_segment",
    # One growing MP4
    "AUDIO_TRACK_ID",
    "VIDEO_TRACK_ID",
    "GrowingStream",
    "Piece",
    "merge_inits",
    "retrack",
    "stream_init",
    # HLS
    "audio_playlist",
    "multivariant_playlist",
    "video_playlist",
    # Errors
    "MalformedSegmentError",
]
