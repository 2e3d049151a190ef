"""Errors of the media package.

Every message says what was received, what is accepted, and what the user can do. `code` is stable: reports
and exit codes are built on it, messages may change.
"""

from typing import ClassVar


class MediaError(Exception):
    """Base of everything this package raises on purpose."""

    code: ClassVar[str] = "media"


class UnreadableInputError(MediaError):
    """Raised when the input is missing, empty, not a media file, or damaged beyond reading."""

    code = "unreadable_input"


class NoVideoError(MediaError):
    """Raised when the input is a media file without a video stream (cover art is not video)."""

    code = "no_video"


class NoFramesError(MediaError):
    """Raised when there is a video stream but not one picture can be had from it."""

    code = "no_frames"


class UnsupportedCodecError(MediaError):
    """Raised when the video is in a codec or pixel format this build cannot decode."""

    code = "unsupported_codec"


class InvalidSizeError(MediaError):
    """Raised when the size that is asked for is impossible or contradicts itself."""

    code = "invalid_request"


class StreamChoiceError(MediaError):
    """Raised when the video stream that is asked for is none."""

    code = "invalid_request"


class InputLimitError(MediaError):
    """Raised when the input is larger, longer or more complex than the limits allow."""

    code = "input_limit"


class EncoderUnavailableError(MediaError):
    """Raised when an encoder is missing or does not open on this machine."""

    code = "encoder_unavailable"


class EncodeError(MediaError):
    """Raised when frames cannot be encoded or the output cannot be written."""

    code = "encode_failed"


class SegmentMismatchError(MediaError):
    """Raised when segments cannot be joined because they were encoded differently or do not fit in time."""

    code = "segment_mismatch"


class SandboxError(MediaError):
    """Raised when the process that reads an input died of it, or answered with nonsense."""

    code = "input_crashed_decoder"


class InputTimeoutError(SandboxError):
    """Raised when reading an input takes longer, by the clock or in processor time, than it may."""

    code = "input_timeout"


class InputMemoryError(SandboxError):
    """Raised when reading an input takes more memory than it may."""

    code = "input_memory"
