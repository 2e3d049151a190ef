"""What of a file does not come along, in words, as soon as its head is known. Pure."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from media._codecs import TRAITS, Codec
from media._projections import has_place_for_spherical, has_place_for_stereo
from media._tags import describe_lost_tags
from media.containers import MP4, container_of
from media.info import MediaInfo, VideoStreamInfo
from media.picture_files import is_frame_pattern

CAPTION_CODECS: frozenset[Codec] = frozenset({"h264", "h265", "av1"})
"""Of outputs: those that have a place for captions."""

_SPHERICAL_LOST = "the picture is spherical ({}); the result does not say so and is shown flat"
_STEREO_LOST = "the picture is stereoscopic (3D); the result does not say so, and players show both views"

DOLBY_VISION_WITHOUT_BASE = (
    "the video is Dolby Vision profile 5, which has no base picture for other players: colours will be wrong"
)


def describe_lost_views(video: VideoStreamInfo, muxer: str | None = MP4.muxer) -> Iterator[str]:
    """What is lost of a spherical or stereoscopic picture.

    Args:
        video: The source.
        muxer: FFmpeg's name of the output's; None for frames as files. MP4 has a place for the most.
    """
    spherical, stereo = video.spherical, video.stereo
    if spherical is not None and (muxer is None or not has_place_for_spherical(spherical, muxer)):
        kind = spherical.projection.replace("_", " ").replace("other", "in a projection of its own")
        yield _SPHERICAL_LOST.format(kind)
    if stereo is not None and stereo.layout != "mono" and (muxer is None or not has_place_for_stereo(stereo)):
        yield _STEREO_LOST


def describe_lost_captions(codec: Codec) -> str:
    """What is said where an output's codec has no place for the captions inside the video."""
    return f"closed captions inside the video are left out: {TRAITS[codec].name} has no place for them"


def describe_output_losses(
    video: VideoStreamInfo, codec: Codec, destination: Path, *, tags: Mapping[str, str] | None = None
) -> Iterator[str]:
    """What of the video and its file's tags does not come along in an output.

    Args:
        video: Of the source.
        codec: Of the output's video.
        destination: The output; only its name counts.
        tags: Of the source.
    """
    container = None if is_frame_pattern(destination) else container_of(destination)
    yield from describe_lost_views(video, None if container is None else container.muxer)
    if container is not None:
        yield from describe_lost_tags(tags or {}, container)
    if video.has_captions and codec not in CAPTION_CODECS:
        yield describe_lost_captions(codec)


def describe_lost_streams(info: MediaInfo) -> Iterator[str]:
    """What is lost with whole streams; those of other programmes are no part of the film."""
    pictures = [
        f"{subtitle.index} ({', '.join(filter(None, (subtitle.codec, subtitle.language)))})"
        for subtitle in info.subtitles
        if not subtitle.is_text and subtitle.index not in info.other_programmes
    ]
    if pictures:
        yield f"only an .mkv output keeps subtitles that are pictures: stream {', '.join(pictures)}"
    others = {
        is_kept: [
            f"{other.index} ({' '.join(filter(None, (other.kind, other.name)))})"
            for other in info.others
            if other.kind not in ("video", "attached_picture")
            and (other.kind == "attachment") == is_kept
            and other.index not in info.other_programmes
        ]
        for is_kept in (True, False)
    }
    if others[True]:
        yield f"only an .mkv output keeps attachments: stream {', '.join(others[True])}"
    if others[False]:
        yield f"data are left out, since players use none: stream {', '.join(others[False])}"
    undecodable = [str(sound.index) for sound in info.audio if sound.codec == "unknown"]
    if undecodable:
        yield f"sound that cannot be decoded here is left out: stream {', '.join(undecodable)}"
