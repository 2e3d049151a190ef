"""Looking into an input before it is read: which stream, what it means, what will be lost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from media._channel_layouts import layout_of
from media._cropping import with_crop
from media._decoder import has_decoder
from media._dolby_vision import read_profile
from media._first_look import FirstLook, check_size, look
from media._late_sound import open_with_all_sound
from media._losses import DOLBY_VISION_WITHOUT_BASE, describe_lost_streams, describe_lost_views
from media._mp4_tracks import with_unread_sphere
from media._programmes import read_programmes
from media._rates import choose_rate
from media._stated_times import find_origin, plausible_duration, stated_video_duration
from media._stream_choice import describe_choice
from media._surveyed_info import with_survey
from media._video_streams import PICTURE_ONLY, list_video_streams, order_to_try
from media._whole_picture import with_whole_picture
from media.errors import InputLimitError, MediaError
from media.info import (
    PROFILE_WITHOUT_BASE,
    AudioStreamInfo,
    Chapter,
    MediaInfo,
    OtherStreamInfo,
    SubtitleStreamInfo,
    VideoStreamInfo,
)
from media.limits import DEFAULT_LIMITS, InputLimits
from media.picture_files import kind_of_tiled_still

__all__ = ["probe"]

_TRANSPORT_STREAM = "mpegts"
_WITH_DOLBY_VISION = ("mp4", "matroska", "mpegts")
_TEXT_SUBTITLES = frozenset(
    {
        "subrip", "ass", "ssa", "mov_text", "webvtt", "text", "microdvd", "mpl2", "sami", "stl", "subviewer",
        "subviewer1", "eia_608", "realtext", "jacosub", "pjs", "vplayer", "ttml",
    }
)  # fmt: skip


def probe(
    path: str | Path,
    *,
    limits: InputLimits = DEFAULT_LIMITS,
    video_stream: int | None = None,
    keep_gaps: bool = False,
    is_quick: bool = False,
) -> MediaInfo:
    """Find out what a file contains.

    Decodes the first frame, and reads the packets of files whose time stamps may break, which takes a second
    for each 200 MB or so.

    Args:
        path: A regular file; the name is never taken for a URL, protocol, pattern or option.
        limits: What to refuse.
        video_stream: Index of the video stream to take; None chooses.
        keep_gaps: Leave holes in the time stamps as they are, however long.
        is_quick: Read 50 packets only. Readers then smooth breaks in the video's time stamps as they meet
            them, and other streams get out of step there.

    Raises:
        VideoStreamError: `video_stream` is no video.
        UnreadableInputError: The file is missing, empty, not a media file, or damaged at its head.
        NoVideoError: There is no video stream; cover art does not count.
        NoFramesError: The video stream gives no picture.
        UnsupportedCodecError: The video's codec or pixel format cannot be decoded.
        InputLimitError: The input exceeds `limits`.
    """
    with open_with_all_sound(path, limits=limits) as (container, analysed_bytes):
        absolute = Path(container.name)
        candidates = list_video_streams(absolute, container, limits=limits)
        ordered = order_to_try(absolute, container, candidates, video_stream)
        stream, first = _first_usable(absolute, ordered, limits)
        info = _collect(absolute, container, stream, first)
        info = replace(info, analysed_bytes=analysed_bytes)
    if kind_of_tiled_still(info.metadata):
        return with_whole_picture(info, limits)
    info = _with_losses(with_unread_sphere(info))
    notice = describe_choice(info.video.index, candidates)
    if notice is not None:
        info = replace(info, warnings=(notice, *info.warnings))
    if not is_quick:
        info = with_survey(info, keep_gaps=keep_gaps, limits=limits)
    info = with_crop(info)
    _check_duration(info, limits)
    return info


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


def _collect(path: Path, container: InputContainer, stream: VideoStream, first: FirstLook) -> MediaInfo:
    other_programmes = _other_programmes(path, container, stream)
    sounds = [sound for sound in container.streams.audio if sound.index not in other_programmes]
    origin = find_origin(container, [stream, *sounds])
    size_bytes = path.stat().st_size
    warnings = list(first.warnings)
    duration = plausible_duration(container, size_bytes, warnings)
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
        other_programmes=other_programmes,
        chapters=tuple(_chapters(container, origin)),
        metadata=dict(container.metadata),
        warnings=tuple(warnings),
    )


def _other_programmes(path: Path, container: InputContainer, stream: VideoStream) -> tuple[int, ...]:
    """Streams that belong to programmes, but to none that the video is in."""
    if container.format.name != _TRANSPORT_STREAM:
        return ()
    programmes = read_programmes(path).values()
    mine = set().union(*(pids for pids in programmes if stream.id in pids))
    others = set().union(*programmes) - mine
    return tuple(s.index for s in container.streams if s.id in others) if mine else ()


def _with_losses(info: MediaInfo) -> MediaInfo:
    """The info with all that will be lost and is known by now."""
    warnings = [*info.warnings, *describe_lost_views(info.video), *describe_lost_streams(info)]
    profile = None
    if any(name in info.format_name for name in _WITH_DOLBY_VISION):
        profile = read_profile(info.path)
    if profile == PROFILE_WITHOUT_BASE:
        warnings.append(DOLBY_VISION_WITHOUT_BASE)
    video = replace(info.video, dolby_vision_profile=profile)
    return replace(info, video=video, warnings=tuple(warnings))


def _check_duration(info: MediaInfo, limits: InputLimits) -> None:
    if info.duration_seconds is not None and info.duration_seconds > limits.max_seconds:
        raise InputLimitError(
            f"'{info.path.name}' lasts {float(info.duration_seconds):.0f} s; at most {limits.max_seconds:g} "
            "s are accepted, so cut it"
        )


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
    duration = stated_video_duration(container, stream, start, container_duration)
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
        spherical=first.spherical,
        stereo=first.stereo,
        has_captions=first.has_captions,
        mastering_display=first.mastering_display,
        content_light=first.content_light,
    )


def _audio_info(stream: AudioStream) -> AudioStreamInfo:
    context = stream.codec_context if has_decoder(stream) else None
    layout = layout_of(context) if context else None
    return AudioStreamInfo(
        index=stream.index,
        codec=_codec_name(stream),
        sample_rate=context.sample_rate if context else 0,
        channels=layout.nb_channels if layout else 0,
        layout=layout.name if layout else "unknown",
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
            name=stream.metadata.get("filename") or _title(stream) or _timecode(stream),
        )


def _timecode(stream: Stream) -> str | None:
    start = stream.metadata.get("timecode")
    return f"timecode {start}" if start else None


def _kind(stream: Stream) -> Literal["video", "attached_picture", "data", "attachment", "unknown"]:
    if stream.type == "video":
        return "attached_picture" if stream.disposition & PICTURE_ONLY else "video"
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
