"""Joining segments and the source's other streams into the final file, without encoding the video again."""

import contextlib
import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream

from media._attachments import AttachedFile
from media._channel_layouts import has_reordered_samples
from media._chapters import shift_chapters
from media._copied_audio import CopiedAudio
from media._cover import AttachedCover, CoverArt
from media._matroska_shape import write_display_size
from media._open import open_input
from media._output_range import OutputRange
from media._projections import projection_boxes
from media._sample_entry import MP4_MUXERS, add_to_file
from media._segments import SegmentedVideo, scale_display_matrix
from media._subtitles import ConvertedSubtitle, CopiedSubtitle
from media._syncing import sync_directory
from media._tags import describe_lost_tags, tags_for
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
from media.containers import Container, container_of
from media.derived_names import beside
from media.errors import EncodeError
from media.frame_files import write_frame_files
from media.info import MediaInfo
from media.picture_files import is_frame_pattern
from media.writer import MOVIE_TIMESCALE

__all__ = ["JoinReport", "StreamOutcome", "join_segments"]


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
    """Make the final file: the segments' video with the source's audio, subtitles, chapters, cover and
    metadata.

    Video packets are copied, so frames and time stamps are exactly those of the segments; MKV and WebM round
    time stamps to milliseconds. Audio and subtitles are copied where the container carries their codec; other
    audio and text is encoded anew (`media.containers`). The file is written to `<destination>.part`, MP4 with
    its index in front so that it plays while it loads, and renamed when it is whole.

    Args:
        segments: Files written by `SegmentWriter` with the same options, in order.
        destination: The file; its name says the container. An existing one is replaced.
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
    if is_frame_pattern(Path(destination)):
        return _join_frames(segments, Path(destination), source)
    container = container_of(Path(destination))
    video = SegmentedVideo(segments)
    container.check_video("h265" if video.codec == "hevc" else video.codec)
    video.display_matrix = _display_matrix(source, video)
    video.boxes = projection_boxes(source.video, scale=Fraction(video.width, source.video.width))
    with contextlib.ExitStack() as stack:
        settled, tracks = _select_streams(source, timeline, video, container, stack)
        warnings = _write(Path(destination), source, timeline, video, tracks, container)
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


def _join_frames(segments: Sequence[Path], pattern: Path, source: MediaInfo) -> JoinReport:
    """One file for each frame; they have no place for anything else of the source."""
    num_frames, num_bytes, end = write_frame_files(segments, pattern)
    reason = "pictures have no place for it"
    outcomes = [StreamOutcome(s.index, "audio", s.codec, "dropped", reason) for s in source.audio]
    outcomes += [StreamOutcome(s.index, "subtitle", s.codec, "dropped", reason) for s in source.subtitles]
    chosen = StreamOutcome(source.video.index, "video", source.video.codec, "transcoded", "one file a frame")
    return JoinReport(
        path=pattern,
        streams=tuple(sorted([chosen, *outcomes], key=lambda outcome: outcome.index)),
        warnings=(),
        num_frames=num_frames,
        duration_seconds=end,
        num_bytes=num_bytes,
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
    source: MediaInfo,
    timeline: OutputRange,
    video: SegmentedVideo,
    container: Container,
    stack: contextlib.ExitStack,
) -> tuple[list[StreamOutcome], list[Track]]:
    """Decide about every stream of the source: an outcome at once, or a track that will have one."""
    settled: list[StreamOutcome] = []
    tracks: list[Track] = []
    with open_input(source.path, analysed_bytes=source.analysed_bytes) as opened:
        for stream in opened.streams:
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
            chosen = _choose(stream, source, timeline, container)
            if isinstance(chosen, str):
                settled.append(
                    StreamOutcome(stream.index, stream.type, codec_name(stream), "dropped", chosen)
                )
            else:
                stack.callback(chosen.close)
                tracks.append(chosen)
    return settled, tracks


def _choose(stream: Stream, source: MediaInfo, timeline: OutputRange, container: Container) -> Track | str:
    """A track for the stream, or why there is none."""
    codec = codec_name(stream)
    make: Callable[[SourceStream], Track | str]
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        if codec not in container.covers:
            held = ", ".join(sorted(container.covers)).replace("mjpeg", "jpeg")
            return f"{container.name} holds " + (f"covers as {held}, not {codec}" if held else "no covers")
        make = AttachedCover if container.has_attachments else CoverArt
    elif stream.type == "video":
        return "only the main video is upscaled"
    elif stream.type == "audio":
        if decoder_of(stream) is None and container.audio is not None:
            return "there is no decoder for it"
        make = partial(_audio_track, container=container)
    elif stream.type == "subtitle":
        if codec in container.subtitles and container.takes(stream, codec):
            make = CopiedSubtitle
        elif any(subtitle.is_text for subtitle in source.subtitles if subtitle.index == stream.index):
            make = partial(ConvertedSubtitle, encoder=container.text_encoder)
        else:
            return f"{container.name} holds subtitles as text, and these are pictures or of an unknown kind"
    elif stream.type == "attachment" and container.has_attachments:
        make = AttachedFile
    else:
        return f"{container.name} players have no use for {stream.type} streams"
    track = make(SourceStream(source, stream.index, timeline))
    if isinstance(track, str):
        return track
    if track.is_empty:
        track.close()
        return "nothing of it can be read in this part of the video"
    return track


def _audio_track(source: SourceStream, *, container: Container) -> Track | str:
    changes = sound_changes(source)
    if changes.is_encrypted:
        source.close()
        return "it is encrypted (DRM)"
    is_whole = changes.is_steady and not has_reordered_samples(source.stream)
    if is_whole and container.takes(source.stream, source.codec_name):
        return CopiedAudio(source, starts_at_zero=container.starts_at_zero)
    return TranscodedAudio(source, changes, encoder=container.audio_encoder)


def _write(
    destination: Path,
    source: MediaInfo,
    timeline: OutputRange,
    video: SegmentedVideo,
    tracks: Sequence[Track],
    container: Container,
) -> list[str]:
    """Mux everything into `<destination>.part`, make it durable and give it its name."""
    part = beside(destination, ".part")
    output_parts: list[OutputPart] = [video, *tracks]
    try:
        with _open_output(part, video, container) as output:
            for output_part in output_parts:
                output_part.add_to(output)
            warnings = _describe(output, source, timeline, container)
            feeds = [output_part.packets() for output_part in output_parts]
            for _, packet in heapq.merge(*feeds, key=lambda timed: timed.seconds):
                output.mux_one(packet)
        if video.boxes and container.muxer in MP4_MUXERS:
            add_to_file(part, video.boxes)
        if container.muxer in ("matroska", "webm") and video.sample_aspect_ratio != 1:
            shown_width = round(video.width * video.sample_aspect_ratio)
            if not write_display_size(part, (shown_width, video.height)):
                warnings.append(f"{container.name} does not say that its pixels are not square")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(destination)
        sync_directory(destination.parent)
    except (av.FFmpegError, OSError) as error:
        raise EncodeError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return warnings


def _open_output(part: Path, video: SegmentedVideo, container: Container) -> OutputContainer:
    if container.muxer not in ("mp4", "mov"):
        # Matroska writes a random identifier otherwise, and the same input would give other bytes each time.
        return av.open(str(part.absolute()), "w", format=container.muxer, options={"fflags": "+bitexact"})
    options = {
        "movflags": "faststart",
        "movie_timescale": str(MOVIE_TIMESCALE),
        "video_track_timescale": str(video.time_base.denominator),
    }
    return av.open(str(part.absolute()), "w", format=container.muxer, options=options)


def _describe(
    output: OutputContainer, source: MediaInfo, timeline: OutputRange, container: Container
) -> list[str]:
    """Write tags and chapters; before the header. Returns what had to be left out."""
    output.metadata.update(tags_for(source.metadata, container))
    warnings = list(describe_lost_tags(source.metadata, container))
    with open_input(str(source.path)) as opened:
        chapters = shift_chapters(opened.chapters(), timeline)
    if chapters:
        output.set_chapters(chapters)
    return warnings
