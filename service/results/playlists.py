"""HLS playlists of a job: over the segments that are there, and complete when the plan is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.records import FinishedSegment, Job
from media.growing import SegmentIndex, audio_playlist, multivariant_playlist, video_playlist
from service.context import ServiceContext
from service.errors import GoneError, NotFoundError, NotReadyError
from service.results.audio import StreamAudio

MEDIA_TYPE = "application/vnd.apple.mpegurl"
PlaylistKind = Literal["playlist", "video", "audio"]

# Relative to the playlists, so that they work behind any proxy.
_VIDEO_URI, _AUDIO_URI, _AUDIO_FILE = "video.m3u8", "audio.m3u8", "audio.mp4"


@dataclass(frozen=True)
class Published:
    """What a playlist can tell of.

    Attributes:
        segments: From the first on without a hole; at least one.
        audio: The sound, if there is any.
        is_complete: Whether there will be no more.
    """

    segments: list[SegmentIndex]
    audio: StreamAudio | None
    is_complete: bool


def render_playlist(context: ServiceContext, job: Job, kind: PlaylistKind) -> str:
    """One of the playlists. Blocking.

    Raises:
        NotReadyError: If there is no segment yet.
        NotFoundError: If there is no sound to list.
        GoneError: If the segments are no longer there.
    """
    published = read_published(context, job)
    segments, audio = published.segments, published.audio
    if kind == "playlist":
        index = None if audio is None else audio.index
        return multivariant_playlist(segments, index, video_uri=_VIDEO_URI, audio_uri=_AUDIO_URI)
    if kind == "video":
        return video_playlist(
            segments, uri_of=lambda number: f"segments/{number}.mp4", is_finished=published.is_complete
        )
    if audio is None:
        raise NotFoundError(f"job {job.id} has no sound")
    available = None if published.is_complete else segments[-1].end_seconds
    return audio_playlist(audio.index, uri=_AUDIO_FILE, available_seconds=available)


def read_published(context: ServiceContext, job: Job) -> Published:
    """The segments that can be played now. Blocking.

    Raises:
        NotReadyError: If there is none yet.
        GoneError: If they are no longer there, or will not come.
    """
    found = context.segments.all(job) if job.is_playable else ()
    playable = _without_holes(found)
    if not playable:
        if job.state.is_final:
            raise GoneError(f"job {job.id} is {job.state} and has no segments; see /content for a result")
        raise NotReadyError(f"job {job.id} has no finished segment yet")
    if job.state.is_final and not context.storage.exists(playable[0].key):
        raise GoneError(f"the segments of job {job.id} were removed; see /content for the whole file")
    return Published(
        [SegmentIndex.from_dict(segment.boxes) for segment in playable],
        StreamAudio.read(context, job),
        job.is_planned and len(playable) == job.num_segments,
    )


def _without_holes(segments: Sequence[FinishedSegment]) -> list[FinishedSegment]:
    return [segment for number, segment in enumerate(segments) if segment.index == number]
