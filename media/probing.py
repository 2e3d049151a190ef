"""Looking into an input before it is read: which stream, what it means, what will be lost."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from media._decoder import has_decoder
from media._first_look import FirstLook, check_size, look
from media._open import open_input
from media._rates import choose_rate
from media.errors import InputLimitError, MediaError, NoVideoError
from media.info import (
    AudioStreamInfo,
    Chapter,
    MediaInfo,
    OtherStreamInfo,
    SubtitleStreamInfo,
    VideoStreamInfo,
)
from media.limits import DEFAULT_LIMITS, InputLimits

__all__ = ["probe"]

_MICROSECOND = Fraction(1, 1_000_000)

# Even a still picture takes more; a smaller file that claims its duration has a broken header.
_MIN_BITS_PER_SECOND = 50

_PICTURE_ONLY = Disposition.attached_pic | Disposition.timed_thumbnails
_TEXT_SUBTITLES = frozenset(
    {
        *(
            "subrip",
            "ass",
            "ssa",
            "mov_text",
            "webvtt",
            "text",
            "microdvd",
            "mpl2",
            "sami",
            "stl",
            "subviewer",
        ),
        *("subviewer1", "eia_608", "realtext", "jacosub", "pjs", "vplayer", "ttml"),
    }
)


def probe(path: str | Path, *, limits: InputLimits = DEFAULT_LIMITS) -> MediaInfo:
    """Find out what a file contains. Decodes the first frame and reads about 50 packets.

    Args:
        path: A regular file; the name is never taken for a URL, protocol, pattern or option.
        limits: What to refuse.

    Raises:
        UnreadableInputError: The file is missing, empty, not a media file, or damaged at its head.
        NoVideoError: There is no video stream; cover art does not count.
        NoFramesError: The video stream gives no picture.
        UnsupportedCodecError: The video's codec or pixel format cannot be decoded.
        InputLimitError: The input exceeds `limits`.
    """
    with open_input(path, limits=limits) as container:
        absolute = Path(container.name)
        candidates = [s for s in container.streams.video if not s.disposition & _PICTURE_ONLY]
        if not candidates:
            raise NoVideoError(_explain_no_video(absolute, container))
        stream, first = _first_usable(absolute, candidates, limits)
        return _collect(absolute, container, stream, first, limits)


def _explain_no_video(path: Path, container: InputContainer) -> str:
    kinds = ", ".join(sorted({stream.type for stream in container.streams}))
    if kinds in ("", "data", "unknown"):
        return f"'{path.name}' has no readable stream; it was probably cut off, so copy or upload it again"
    cover = " (a cover picture, which is no video)" if container.streams.video else ""
    return f"'{path.name}' has no video stream, only {kinds}{cover}; give a file with moving pictures"


def _first_usable(
    path: Path, candidates: Sequence[VideoStream], limits: InputLimits
) -> tuple[VideoStream, FirstLook]:
    """The first stream that gives a picture; where none does, the first one's error."""
    errors: list[MediaError] = []
    for stream in candidates:
        try:
            if has_decoder(stream):  # size first: a small file can hold a frame of gigabytes
                check_size(path, stream.codec_context.width, stream.codec_context.height, limits)
            return stream, look(path, stream.index, limits=limits)
        except MediaError as error:
            errors.append(error)
    raise errors[0]


def _collect(
    path: Path, container: InputContainer, stream: VideoStream, first: FirstLook, limits: InputLimits
) -> MediaInfo:
    origin = _exact_origin(container)
    size_bytes = path.stat().st_size
    warnings = list(first.warnings)
    duration = _plausible_duration(container, size_bytes, warnings)
    if duration is not None and duration > limits.max_seconds:
        raise InputLimitError(
            f"'{path.name}' lasts {float(duration):.0f} s; at most {limits.max_seconds:g} s are accepted, so "
            "cut it"
        )
    warnings.extend(_stream_warnings(stream, first))
    return MediaInfo(
        path=path,
        format_name=container.format.name,
        size_bytes=size_bytes,
        duration_seconds=duration,
        origin_seconds=origin,
        video=_video_info(container, stream, first, origin, duration),
        audio=tuple(_audio_info(s) for s in container.streams.audio),
        subtitles=tuple(_subtitle_info(s) for s in container.streams.subtitles),
        others=tuple(_other_streams(container, stream)),
        chapters=tuple(_chapters(container, origin)),
        metadata=dict(container.metadata),
        warnings=tuple(warnings),
    )


def _exact_origin(container: InputContainer) -> Fraction:
    """The container's start; FFmpeg rounds it to microseconds, the stream it comes from has it exactly."""
    start_time: int | None = container.start_time
    if start_time is None:
        return Fraction(0)
    rounded = start_time * _MICROSECOND
    for stream in container.streams:
        if stream.start_time is not None and stream.time_base is not None:
            exact = stream.start_time * stream.time_base
            if abs(exact - rounded) <= _MICROSECOND:
                return exact
    return rounded


def _plausible_duration(container: InputContainer, size_bytes: int, warnings: list[str]) -> Fraction | None:
    if container.duration is None or container.duration <= 0:
        return None
    duration = container.duration * _MICROSECOND
    if size_bytes * 8 < duration * _MIN_BITS_PER_SECOND:
        warnings.append(f"the stated duration of {float(duration):.0f} s cannot be right and is ignored")
        return None
    return duration


def _stream_warnings(stream: VideoStream, first: FirstLook) -> Iterator[str]:
    if stream.metadata.get("alpha_mode") == "1" and not first.has_alpha:
        yield "transparency is dropped; the picture is shown as it is stored, without it"


def _video_info(
    container: InputContainer,
    stream: VideoStream,
    first: FirstLook,
    origin: Fraction,
    container_duration: Fraction | None,
) -> VideoStreamInfo:
    assert stream.time_base is not None
    start = (
        max(Fraction(0), (first.raw_pts or 0) * stream.time_base - origin) if first.raw_pts else Fraction(0)
    )
    rate = choose_rate(
        (stream.guessed_rate, stream.average_rate, stream.base_rate), first.packet_pts, stream.time_base
    )
    duration = _video_duration(container, stream, start, container_duration)
    estimate = stream.frames or (round(duration * rate) if duration is not None else None)
    return VideoStreamInfo(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pix_fmt=first.pix_fmt,
        bit_depth=first.bit_depth,
        time_base=stream.time_base,
        rate=rate,
        start_seconds=start,
        duration_seconds=duration,
        num_frames_estimate=estimate,
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
        display_matrix=first.display_matrix,
        rotation=first.rotation,
        is_interlaced=first.is_interlaced,
        has_alpha=first.has_alpha,
        alpha=first.alpha,
        color=first.color,
        mastering_display=first.mastering_display,
        content_light=first.content_light,
    )


def _video_duration(
    container: InputContainer, stream: VideoStream, start: Fraction, container_duration: Fraction | None
) -> Fraction | None:
    """How long the video itself lasts, as stated: without the hidden part before an edit list's start, and
    not the longer sound."""
    stated: list[Fraction] = []
    if stream.duration and stream.time_base:
        stated.append(stream.duration * stream.time_base)
    tagged_end = _parse_clock(stream.metadata.get("DURATION", ""))
    if tagged_end is not None and tagged_end > start:
        stated.append(tagged_end - start)
    is_alone = all(other.type not in ("audio", "subtitle") for other in container.streams)
    if container_duration is not None and container_duration > start and (stated or is_alone):
        stated.append(container_duration - start)
    return min(stated, default=None)


def _parse_clock(text: str) -> Fraction | None:
    """Matroska's "00:00:02.073000000" in seconds."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _audio_info(stream: AudioStream) -> AudioStreamInfo:
    context = stream.codec_context if has_decoder(stream) else None
    return AudioStreamInfo(
        index=stream.index,
        codec=_codec_name(stream),
        sample_rate=context.sample_rate if context else 0,
        channels=context.channels if context else 0,
        layout=context.layout.name if context else "unknown",
        bit_rate=(context.bit_rate or None) if context else None,
        language=stream.language,
        title=_title(stream),
        disposition=_disposition_names(stream),
    )


def _subtitle_info(stream: SubtitleStream) -> SubtitleStreamInfo:
    codec = _codec_name(stream)
    return SubtitleStreamInfo(
        index=stream.index,
        codec=codec,
        is_text=codec in _TEXT_SUBTITLES,
        language=stream.language,
        title=_title(stream),
        disposition=_disposition_names(stream),
    )


def _other_streams(container: InputContainer, chosen: VideoStream) -> Iterator[OtherStreamInfo]:
    for stream in container.streams:
        if stream.index == chosen.index or stream.type in ("audio", "subtitle"):
            continue
        yield OtherStreamInfo(
            index=stream.index,
            kind=_kind(stream),
            codec=_codec_name(stream),
            name=stream.metadata.get("filename") or _title(stream),
        )


def _kind(stream: Stream) -> Literal["video", "attached_picture", "data", "attachment", "unknown"]:
    if stream.type == "video":
        return "attached_picture" if stream.disposition & _PICTURE_ONLY else "video"
    return stream.type if stream.type in ("data", "attachment") else "unknown"


def _chapters(container: InputContainer, origin: Fraction) -> Iterator[Chapter]:
    for chapter in container.chapters():
        time_base = chapter["time_base"]
        if time_base is None:
            continue
        yield Chapter(
            start_seconds=max(Fraction(0), chapter["start"] * time_base - origin),
            end_seconds=max(Fraction(0), chapter["end"] * time_base - origin),
            title=chapter["metadata"].get("title"),
        )


def _codec_name(stream: Stream) -> str:
    return stream.codec_context.codec.canonical_name if has_decoder(stream) else "unknown"


def _title(stream: Stream) -> str | None:
    return stream.metadata.get("title") or None


def _disposition_names(stream: Stream) -> tuple[str, ...]:
    return tuple(str(flag.name) for flag in Disposition if flag & stream.disposition)
