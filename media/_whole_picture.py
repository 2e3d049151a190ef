"""Stills in tiles (HEIF, AVIF), of which FFmpeg shows each tile as a video of its own."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from media._first_look import check_size
from media.errors import UnreadableInputError
from media.info import MediaInfo
from media.limits import InputLimits
from media.picture_opening import open_picture


def with_whole_picture(info: MediaInfo, limits: InputLimits) -> MediaInfo:
    """The info of such a still as viewers show it: the size of all tiles together, upright, and nothing else.

    Raises:
        UnreadableInputError: The picture cannot be read.
        InputLimitError: It is larger than `limits` allow.
    """
    width, height = _size_of(info.path)
    check_size(info.path, width, height, limits)
    video = replace(
        info.video, width=width, height=height, rotation=0, display_matrix=None, num_frames_estimate=1
    )
    return replace(info, video=video, others=(), warnings=())


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with open_picture(path) as file:
            return file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableInputError(f"'{path.name}' is not a picture we can read ({error})") from error
