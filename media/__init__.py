"""Reading, writing and joining video files: containers, streams, frames, colour and time stamps. No model."""

from media.encoding import EncodeOptions, ResolvedEncoding, VideoFormat, resolve_encoding
from media.errors import (
    EncodeError,
    EncoderUnavailableError,
    InputLimitError,
    MediaError,
    NoFramesError,
    NoVideoError,
    SegmentMismatchError,
    UnreadableInputError,
    UnsupportedCodecError,
)
from media.info import (
    AudioStreamInfo,
    Chapter,
    ColorTags,
    ContentLight,
    MasteringDisplay,
    MediaInfo,
    OtherStreamInfo,
    SubtitleStreamInfo,
    VideoStreamInfo,
)
from media.join import JoinReport, StreamOutcome, join_segments
from media.probe import InputLimits, probe
from media.reader import Frame, VideoReader
from media.writer import SegmentInfo, SegmentWriter

__all__ = [  # noqa: RUF022 - grouped by topic
    # Describing
    "AudioStreamInfo",
    "Chapter",
    "ColorTags",
    "ContentLight",
    "MasteringDisplay",
    "MediaInfo",
    "OtherStreamInfo",
    "SubtitleStreamInfo",
    "VideoStreamInfo",
    # Reading
    "Frame",
    "InputLimits",
    "VideoReader",
    "probe",
    # Writing
    "EncodeOptions",
    "ResolvedEncoding",
    "SegmentInfo",
    "SegmentWriter",
    "VideoFormat",
    "resolve_encoding",
    # Joining
    "JoinReport",
    "StreamOutcome",
    "join_segments",
    # Errors
    "EncodeError",
    "EncoderUnavailableError",
    "InputLimitError",
    "MediaError",
    "NoFramesError",
    "NoVideoError",
    "SegmentMismatchError",
    "UnreadableInputError",
    "UnsupportedCodecError",
]
