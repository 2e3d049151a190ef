"""The containers of outputs, by their names, and what each can carry besides the video."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import av
from av.stream import Stream

from media.errors import EncodeError


@dataclass(frozen=True, kw_only=True)
class Container:
    """One kind of output file.

    Attributes:
        name: For people.
        suffix: Of its files.
        muxer: FFmpeg's name.
        video: Codecs of the video that it may hold.
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
            codec: `h264`, `h265` or `av1`.

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
    video=frozenset({"h264", "h265", "av1"}),
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
    video=frozenset({"h264", "h265", "av1"}),
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
    video=frozenset({"av1"}),
    audio=frozenset({"opus", "vorbis"}),
    audio_encoder="libopus",
    subtitles=frozenset({"webvtt"}),
    text_encoder="webvtt",
    starts_at_zero=True,
)
CONTAINERS = (MP4, MKV, WEBM)
VIDEO_SUFFIXES = tuple(container.suffix for container in CONTAINERS)


def container_of(path: Path) -> Container:
    """The container of an output, by its name.

    Raises:
        EncodeError: If there is none for it.
    """
    for container in CONTAINERS:
        if path.suffix.lower() == container.suffix:
            return container
    raise EncodeError(f"{path.name!r} names no container we write; accepted are {', '.join(VIDEO_SUFFIXES)}")
