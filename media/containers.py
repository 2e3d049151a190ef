"""The containers of outputs, by their names, and what each can carry besides the video."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from media._codecs import Codec
from media.errors import EncodeError
from media.picture_files import FRAME_CODECS, is_frame_pattern

if TYPE_CHECKING:
    from av.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Container:
    """One kind of output file.

    Attributes:
        name: For people.
        suffix: Of its files.
        muxer: FFmpeg's name.
        video: Codecs of the video that it may hold.
        default_video: What it holds where nobody names a codec; None leaves that to the size.
        audio: Codecs of sound that are copied into it; None tries each by writing a header. Others are
            encoded by `audio_encoder`.
        audio_encoder: FFmpeg's name.
        subtitles: Codecs of subtitles that are copied into it.
        text_encoder: What other text becomes, FFmpeg's name.
        covers: Codecs of cover pictures.
        has_attachments: Whether fonts and other files come along.
        starts_at_zero: Whether no packet may lie before 0, which others hide with an edit list.
        metadata: Tags that it has a place for; None for all.
    """

    name: str
    suffix: str
    muxer: str
    video: frozenset[str]
    default_video: Codec | None = None
    audio: frozenset[str] | None
    audio_encoder: str
    subtitles: frozenset[str] = frozenset()
    text_encoder: str
    covers: frozenset[str] = frozenset()
    has_attachments: bool = False
    starts_at_zero: bool = False
    metadata: frozenset[str] | None = None

    def check_video(self, codec: str) -> None:
        """Makes sure that the video may be in it.

        Args:
            codec: As `EncodeOptions` calls it.

        Raises:
            EncodeError: If it may not.
        """
        if codec not in self.video:
            accepted = " or ".join(sorted(self.video))
            raise EncodeError(f"{self.name} cannot hold {codec}; choose {accepted}, or another container")

    def takes(self, stream: Stream, codec: str) -> bool:
        """Whether a stream's packets can go into such a file as they are.

        The codec's name is not enough: MP3 below 16 kHz, for one, passes until the header is written. So a
        header is written, to memory.
        """
        if self.audio is not None and codec not in self.audio:
            return False
        import av  # the command line reads names here, and should start without it

        try:
            with av.open(io.BytesIO(), "w", format=self.muxer) as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
        except (av.FFmpegError, ValueError):
            return False
        return True


# The tags MP4 players read (iTunes style). FFmpeg's muxer leaves all others out without a word.
_MP4_METADATA = frozenset({
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright",
    "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords",
    "episode_sort",
    "season_number", "media_type", "track", "disc", "creation_time",
})  # fmt: skip

MP4 = Container(
    name="MP4",
    suffix=".mp4",
    muxer="mp4",
    video=frozenset({"h264", "h265", "av1", "vp9"}),
    # MP4 also accepts vorbis and dts, which hardly anything plays from MP4, and mp2, likewise.
    audio=frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}),
    audio_encoder="aac",
    text_encoder="mov_text",
    covers=frozenset({"mjpeg", "png", "bmp"}),
    metadata=_MP4_METADATA,
)
MKV = Container(
    name="MKV",
    suffix=".mkv",
    muxer="matroska",
    video=frozenset({"h264", "h265", "av1", "vp9"}),
    audio=None,
    audio_encoder="aac",
    subtitles=frozenset({"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}),
    text_encoder="srt",
    covers=frozenset({"mjpeg", "png"}),
    has_attachments=True,
    starts_at_zero=True,
)
WEBM = Container(
    name="WebM",
    suffix=".webm",
    muxer="webm",
    video=frozenset({"av1", "vp9"}),
    default_video="av1",
    audio=frozenset({"opus", "vorbis"}),
    audio_encoder="libopus",
    subtitles=frozenset({"webvtt"}),
    text_encoder="webvtt",
    starts_at_zero=True,
)
MOV = Container(
    name="MOV",
    suffix=".mov",
    muxer="mov",
    video=frozenset({"h264", "h265", "prores"}),
    audio=None,
    audio_encoder="aac",
    text_encoder="mov_text",
    metadata=_MP4_METADATA,
)
CONTAINERS = (MP4, MKV, MOV, WEBM)
OUTPUT_SUFFIXES = tuple(container.suffix for container in CONTAINERS)


def check_output(path: Path, codec: str) -> None:
    """Makes sure that an output can be written under its name.

    Args:
        path: The output, or the pattern of its frames.
        codec: Of its video.

    Raises:
        EncodeError: If it cannot.
    """
    if not is_frame_pattern(path):
        container_of(path).check_video(codec)
    elif codec != default_codec(path):
        raise EncodeError(f"the frames {path.name!r} are {default_codec(path)}, they cannot be {codec}")


def default_codec(path: Path) -> Codec | None:
    """The codec of an output where nobody names one; None leaves it to the size.

    Raises:
        EncodeError: If there is no container for the name.
    """
    if is_frame_pattern(path):
        return FRAME_CODECS[path.suffix.lower()]
    return container_of(path).default_video


def container_of(path: Path) -> Container:
    """The container of an output, by its name.

    Raises:
        EncodeError: If there is none for it.
    """
    for container in CONTAINERS:
        if path.suffix.lower() == container.suffix:
            return container
    raise EncodeError(f"{path.name!r} names no container we write; accepted are {', '.join(OUTPUT_SUFFIXES)}")
