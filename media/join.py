"""Joining segments and the source's other streams into the final MP4, without encoding the video again."""

import contextlib
import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream

from media._copied_audio import CopiedAudio, mp4_takes
from media._cover import COVER_CODECS, CoverArt
from media._open import open_input
from media._output_range import OutputRange
from media._segments import SegmentedVideo, scale_display_matrix
from media._subtitles import ConvertedSubtitle
from media._time_line import on_line
from media._tracks import (
    SOUND_BEHIND_PICTURE,
    OutputPart,
    SourceStream,
    StreamOutcome,
    Track,
    codec_name,
    decoder_of,
)
from media._transcoded_audio import CHANGING_SOUND, TranscodedAudio, sound_changes
from media.errors import EncodeError
from media.info import MediaInfo
from media.writer import MOVIE_TIMESCALE, sync_directory

if TYPE_CHECKING:
    from av.container.core import Chapter as OutputChapter  # exists in the type stubs only

__all__ = ["JoinReport", "StreamOutcome", "join_segments"]

# The tags MP4 players read (iTunes style). FFmpeg's muxer leaves all others out without a word.
_MP4_METADATA = frozenset(
    [
        "title",
        "artist",
        "album_artist",
        "composer",
        "album",
        "date",
        "comment",
        "genre",
        "copyright",
        "grouping",
        "lyrics",
        "description",
        "synopsis",
        "show",
        "episode_id",
        "network",
        "keywords",
        "episode_sort",
        "season_number",
        "media_type",
        "track",
        "disc",
        "creation_time",
    ]
)
# Facts about the old file, not its content.
_CONTAINER_METADATA = frozenset(
    [
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
        "encoded_by",
        "software",
        "duration",
        "handler_name",
    ]
)


@dataclass(frozen=True)
class JoinReport:
    """What the final file holds and what became of every stream of the source."""

    path: Path
    streams: tuple[StreamOutcome, ...]
    """One for each stream of the source, in its order."""
    warnings: tuple[str, ...]
    num_frames: int
    duration_seconds: Fraction
    """End of the last video frame."""
    num_bytes: int


def join_segments(
    segments: Sequence[Path],
    destination: Path,
    *,
    source: MediaInfo,
    start_seconds: Fraction | None = None,
    duration_seconds: Fraction | None = None,
) -> JoinReport:
    """Make the final MP4: the segments' video with the source's audio, text subtitles, chapters, cover and
    metadata.

    Video packets are copied, so frames and time stamps are exactly those of the segments. Audio is copied
    where MP4 carries its codec and encoded to AAC otherwise; text subtitles become mov_text. The file is
    written to `<destination>.part`, with its index in front so that it plays while it loads, and renamed
    when it is whole.

    Args:
        segments: Files written by `SegmentWriter` with the same options, in order.
        destination: The MP4 file. An existing one is replaced.
        source: What `probe` said about the source file, which is read again here.
        start_seconds: Where in the source the first segment starts, after the container's own start; None
            is 0.
        duration_seconds: Length of the part that was written; None is to the end.

    Raises:
        SegmentMismatchError: The segments do not fit together.
        UnreadableInputError: The source cannot be opened any more.
        EncodeError: The file cannot be written. Nothing is left of it.
    """
    timeline = OutputRange.of_source(source, start_seconds, duration_seconds)
    video = SegmentedVideo(segments)
    video.display_matrix = _display_matrix(source, video)
    with contextlib.ExitStack() as stack:
        settled, tracks = _select_streams(source, timeline, video, stack)
        warnings = _write(Path(destination), source, timeline, video, tracks)
        outcomes = [*settled, *(track.outcome() for track in tracks)]
    warnings += [
        f"sound of stream {outcome.index}: {words}"
        for outcome in outcomes
        for words in (CHANGING_SOUND, SOUND_BEHIND_PICTURE)
        if words in outcome.detail
    ]
    return JoinReport(
        path=Path(destination),
        streams=tuple(sorted(outcomes, key=lambda outcome: outcome.index)),
        warnings=tuple(warnings),
        num_frames=video.num_frames,
        duration_seconds=video.end_seconds,
        num_bytes=Path(destination).stat().st_size,
    )


def _display_matrix(source: MediaInfo, video: SegmentedVideo) -> tuple[int, ...] | None:
    stream = source.video
    if stream.display_matrix is None:
        return None
    return scale_display_matrix(
        stream.display_matrix,
        scale_x=Fraction(video.width, stream.width),
        scale_y=Fraction(video.height, stream.height),
    )


def _select_streams(
    source: MediaInfo, timeline: OutputRange, video: SegmentedVideo, stack: contextlib.ExitStack
) -> tuple[list[StreamOutcome], list[Track]]:
    """Decide about every stream of the source: an outcome at once, or a track that will have one."""
    settled: list[StreamOutcome] = []
    tracks: list[Track] = []
    with open_input(source.path, analysed_bytes=source.analysed_bytes) as container:
        for stream in container.streams:
            if stream.index in source.other_programmes:
                reason = "it belongs to another programme than the video"
                settled.append(
                    StreamOutcome(stream.index, stream.type, codec_name(stream), "dropped", reason)
                )
                continue
            if stream.index == source.video.index:
                detail = f"upscaled to {video.width}x{video.height}, written as {video.codec}"
                settled.append(StreamOutcome(stream.index, "video", source.video.codec, "transcoded", detail))
                continue
            chosen = _choose(stream, source, timeline)
            if isinstance(chosen, str):
                settled.append(
                    StreamOutcome(stream.index, stream.type, codec_name(stream), "dropped", chosen)
                )
            else:
                stack.callback(chosen.close)
                tracks.append(chosen)
    return settled, tracks


def _choose(stream: Stream, source: MediaInfo, timeline: OutputRange) -> Track | str:
    """A track for the stream, or why there is none."""
    codec = codec_name(stream)
    make: Callable[[SourceStream], Track | str]
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        if codec not in COVER_CODECS:
            return f"MP4 holds covers as JPEG, PNG or BMP, not {codec}"
        make = CoverArt
    elif stream.type == "video":
        return "only the main video is upscaled"
    elif stream.type == "audio":
        if decoder_of(stream) is None:
            return "there is no decoder for it"
        make = _audio_track
    elif stream.type == "subtitle":
        if not any(subtitle.is_text for subtitle in source.subtitles if subtitle.index == stream.index):
            return "MP4 holds subtitles as text, and these are pictures or of an unknown kind"
        make = ConvertedSubtitle
    else:
        return f"MP4 players have no use for {stream.type} streams"
    track = make(SourceStream(source, stream.index, timeline))
    if isinstance(track, str):
        return track
    if track.is_empty:
        track.close()
        return "nothing of it can be read in this part of the video"
    return track


def _audio_track(source: SourceStream) -> Track | str:
    changes = sound_changes(source)
    if changes.is_encrypted:
        source.close()
        return "it is encrypted (DRM)"
    is_copied = changes.is_steady and mp4_takes(source)
    return CopiedAudio(source) if is_copied else TranscodedAudio(source, changes)


def _write(
    destination: Path,
    source: MediaInfo,
    timeline: OutputRange,
    video: SegmentedVideo,
    tracks: Sequence[Track],
) -> list[str]:
    """Mux everything into `<destination>.part`, make it durable and give it its name."""
    part = destination.with_name(destination.name + ".part")
    output_parts: list[OutputPart] = [video, *tracks]
    try:
        with _open_output(part, video) as output:
            for output_part in output_parts:
                output_part.add_to(output)
            warnings = _describe(output, source, timeline)
            feeds = [output_part.packets() for output_part in output_parts]
            for _, packet in heapq.merge(*feeds, key=lambda timed: timed.seconds):
                output.mux_one(packet)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(destination)
        sync_directory(destination.parent)
    except (av.FFmpegError, OSError) as error:
        raise EncodeError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return warnings


def _open_output(part: Path, video: SegmentedVideo) -> OutputContainer:
    options = {
        "movflags": "faststart",
        "movie_timescale": str(MOVIE_TIMESCALE),
        "video_track_timescale": str(video.time_base.denominator),
    }
    return av.open(str(part.absolute()), "w", format="mp4", options=options)


def _describe(output: OutputContainer, source: MediaInfo, timeline: OutputRange) -> list[str]:
    """Write tags and chapters; before the header. Returns what had to be left out."""
    tags = {key.lower(): value for key, value in source.metadata.items()}
    output.metadata.update({key: value for key, value in tags.items() if key in _MP4_METADATA})
    lost = sorted(tags.keys() - _MP4_METADATA - _CONTAINER_METADATA)
    warnings = [f"MP4 has no place for these tags: {', '.join(lost)}"] if lost else []
    with open_input(str(source.path)) as container:
        chapters = _shift_chapters(container.chapters(), timeline)
    if chapters:
        output.set_chapters(chapters)
    return warnings


def _shift_chapters(chapters: "Sequence[OutputChapter]", timeline: OutputRange) -> "list[OutputChapter]":
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
