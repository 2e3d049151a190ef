"""Reading, writing and joining video files: containers, streams, frames, colour and time stamps. No model.

A name is imported when it is first used: probing needs no torch, and `media.sandbox` neither torch nor av.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from media._entries import Entry
    from media._losses import describe_output_losses
    from media._open import check_regular_file
    from media.encoder_choice import maker_of, pin_encoder
    from media.encoding import EncodeOptions, ResolvedEncoding, resolve_encoding
    from media.errors import (
        EncodeError,
        EncoderUnavailableError,
        InputLimitError,
        InputMemoryError,
        InputTimeoutError,
        MediaError,
        NoFramesError,
        NoVideoError,
        SandboxError,
        SegmentMismatchError,
        UnreadableInputError,
        UnsupportedCodecError,
    )
    from media.frame import Frame
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
    from media.limits import InputLimits
    from media.probing import probe
    from media.reader import VideoReader
    from media.video_format import VideoFormat
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
    "Entry",
    "Frame",
    "InputLimits",
    "VideoReader",
    "check_regular_file",
    "probe",
    # Writing
    "EncodeOptions",
    "ResolvedEncoding",
    "SegmentInfo",
    "SegmentWriter",
    "VideoFormat",
    "describe_output_losses",
    "maker_of",
    "pin_encoder",
    "resolve_encoding",
    # Joining
    "JoinReport",
    "StreamOutcome",
    "join_segments",
    # Errors
    "EncodeError",
    "EncoderUnavailableError",
    "InputLimitError",
    "InputMemoryError",
    "InputTimeoutError",
    "MediaError",
    "NoFramesError",
    "NoVideoError",
    "SandboxError",
    "SegmentMismatchError",
    "UnreadableInputError",
    "UnsupportedCodecError",
]

_HOMES = {
    "media._losses": ("describe_output_losses",),
    "media._open": ("check_regular_file",),
    "media.encoder_choice": ("maker_of", "pin_encoder"),
    "media.encoding": (
        "EncodeOptions",
        "ResolvedEncoding",
        "resolve_encoding",
    ),
    "media._entries": ("Entry",),
    "media.errors": (
        "EncodeError",
        "EncoderUnavailableError",
        "InputLimitError",
        "InputMemoryError",
        "InputTimeoutError",
        "MediaError",
        "NoFramesError",
        "NoVideoError",
        "SandboxError",
        "SegmentMismatchError",
        "UnreadableInputError",
        "UnsupportedCodecError",
    ),
    "media.frame": ("Frame",),
    "media.info": (
        "AudioStreamInfo",
        "Chapter",
        "ColorTags",
        "ContentLight",
        "MasteringDisplay",
        "MediaInfo",
        "OtherStreamInfo",
        "SubtitleStreamInfo",
        "VideoStreamInfo",
    ),
    "media.join": (
        "JoinReport",
        "StreamOutcome",
        "join_segments",
    ),
    "media.limits": ("InputLimits",),
    "media.probing": ("probe",),
    "media.reader": ("VideoReader",),
    "media.video_format": ("VideoFormat",),
    "media.writer": (
        "SegmentInfo",
        "SegmentWriter",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The result is kept, or `from media import x` would find the submodule of the same name once it exists.
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
