"""The only way this package opens an input: formats that can pull in other files or URLs stay closed."""

import errno
import os
from pathlib import Path

import av
from av.container import InputContainer

from media._cueless import ShortenedFile
from media.errors import InputLimitError, UnreadableInputError
from media.limits import DEFAULT_LIMITS, InputLimits

# Demuxers that read one file and nothing else. Left out: hls, concat, dash, sdp, rtsp, image2 and lavfi,
# which open what the file's text or name tells them to (other files of this machine, URLs), and tty, which
# takes any text for a film. Verified with 19 attack files (none opens) and 74 ordinary ones (all open).
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,apng,mxf,rm,dv,ivf,h264,"
    "hevc,m4v,av1,obu,nut,wtv,y4m,yuv4mpegpipe,mjpeg,h263,mp3,aac,wav,flac,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
# Bytes are what limits the search for streams that begin late, not time.
_ANALYSED_MICROSECONDS = 24 * 3600 * 1_000_000
_ACCEPTED = "MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV, WMV, OGG, GIF, MXF or a single picture"


def open_input(
    path: str | Path,
    *,
    limits: InputLimits = DEFAULT_LIMITS,
    analysed_bytes: int | None = None,
    gap: tuple[int, int] | None = None,
) -> InputContainer:
    """Open a file for reading. The caller closes it: an open container holds its memory until then.

    Args:
        path: A regular file. Its name means nothing: "concat:a" or "-i" are files of that name.
        limits: What to refuse.
        analysed_bytes: How far to read for streams that begin late; None for FFmpeg's five megabytes.
        gap: From `find_gap`: bytes to read as if they were not there.

    Raises:
        UnreadableInputError: The file is missing, empty, not accepted or damaged at its head.
        InputLimitError: It has more streams than allowed.
    """
    # With a leading slash FFmpeg sees no protocol in a name ("http://...", "concat:...").
    name = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would follow links and make messages confusing
    check_regular_file(name)
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        "max_pixels": str(limits.max_pixels),
    }
    if analysed_bytes is not None:
        options |= {"probesize": str(analysed_bytes), "analyzeduration": str(_ANALYSED_MICROSECONDS)}
    try:
        file = name if gap is None else ShortenedFile(Path(name), gap)
        container = av.open(file, "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise UnreadableInputError(_explain(name, error)) from error
    if len(container.streams) > limits.max_streams:
        count = len(container.streams)
        container.close()
        raise InputLimitError(
            f"{_quoted(name)} has {count} streams; at most {limits.max_streams} are accepted"
        )
    return container


def check_regular_file(name: str) -> None:
    """Finds out, without opening it, whether a path leads to a file with something in it.

    Raises:
        UnreadableInputError: If not.
    """
    try:
        status = Path(name).stat()
    except OSError as error:
        reason = "there is no such file" if error.errno == errno.ENOENT else (error.strerror or str(error))
        raise UnreadableInputError(
            f"cannot read {_quoted(name)}: {reason}; give the path of a video file"
        ) from error
    if not Path(name).is_file():
        raise UnreadableInputError(f"{_quoted(name)} is not a regular file; give the path of a video file")
    if status.st_size == 0:
        raise UnreadableInputError(f"{_quoted(name)} is empty (0 bytes); copy or upload it again")


def _explain(name: str, error: BaseException) -> str:
    try:
        with Path(name).open("rb") as file:
            head = file.read(12)
    except OSError as denied:
        return f"cannot read {_quoted(name)}: {denied.strerror or denied}"
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide"):
        return (
            f"{_quoted(name)} is an MP4 or MOV without a usable index (moov): it was cut off or is still "
            "being written; copy or upload it again"
        )
    if "%" in Path(name).name:
        # FFmpeg takes such a name for a numbered series of pictures, which stays closed like all that opens
        # other files.
        return f"{_quoted(name)} cannot be opened under this name; rename it to one without '%'"
    reason = getattr(error, "strerror", None) or str(error)
    return f"{_quoted(name)} is not a media file we can read ({reason}); accepted are {_ACCEPTED}"


def _quoted(name: str) -> str:
    return f"'{Path(name).name}'"
