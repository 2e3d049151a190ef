"""Which files are pictures, and which of them are the frames of one video."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

from media.errors import UnreadableInputError
from media.info import MediaInfo

PILLOW_FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP",
}  # fmt: skip
"""What Pillow calls each kind that is written."""
READ_FORMATS = PILLOW_FORMATS | {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}
"""What Pillow calls each kind that is read. It is let use no other: some of its plugins start programs."""
PictureKind = Literal["png", "jpg", "webp", "avif", "tiff", "bmp"]
"""Kinds of stills, each by one ending of its files."""
PICTURE_SUFFIXES = frozenset(PILLOW_FORMATS)
"""Of pictures that are written."""
SOURCE_SUFFIXES = frozenset(READ_FORMATS)
"""Of files that are taken for pictures."""
FRAME_CODECS: dict[str, Literal["png", "tiff"]] = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}
"""What the frames of a video may be written as, by suffix."""
FIRST_FRAME = 1
"""Number of the first frame's file, as FFmpeg counts."""
_KINDS: dict[str, PictureKind] = {
    "PNG": "png", "JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "TIFF": "tiff", "BMP": "bmp",
}  # fmt: skip
_PIPES: dict[str, PictureKind] = {
    "png_pipe": "png", "jpeg_pipe": "jpg", "webp_pipe": "webp", "tiff_pipe": "tiff", "bmp_pipe": "bmp",
}  # fmt: skip
# Of HEIF stills (ISO/IEC 23008-12, annex B).
_HEIF_BRANDS = frozenset({"heic", "heix", "heim", "heis", "mif1"})
_PATTERN = re.compile(r"%(0\d+)?d")


def is_picture_name(path: Path) -> bool:
    """Whether a file is called like a picture that can be written."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_picture_source(path: Path) -> bool:
    """Whether a file is called like a picture that can be read."""
    return path.suffix.lower() in SOURCE_SUFFIXES


def still_suffix(source: Path) -> str:
    """Of the picture that a still becomes: its own, or that of JPEG where it is read only."""
    suffix = source.suffix.lower()
    return suffix if suffix in PICTURE_SUFFIXES else ".jpg"


def kind_of_name(name: str) -> PictureKind | None:
    """Which kind of still a file is called like; None for all else."""
    return _KINDS.get(PILLOW_FORMATS.get(Path(name).suffix.lower(), ""))


def kind_of_still(info: MediaInfo) -> PictureKind | None:
    """Which kind of still a file is, whatever it is called; None for animations and all else.

    HEIF counts as JPEG: that is what becomes of it, since few programs but a phone's own show HEIF.

    Args:
        info: From `media.probe`.
    """
    return kind_of_tiled_still(info.metadata) or _PIPES.get(info.format_name)


def kind_of_tiled_still(metadata: Mapping[str, str]) -> PictureKind | None:
    """The kind of a still that is an MP4 to FFmpeg, each tile a video of its own; None for all else.

    Args:
        metadata: Of the file, from FFmpeg.
    """
    # Of animations the major brand is "avis", "hevc" or "msf1".
    major, others = metadata.get("major_brand", ""), metadata.get("compatible_brands", "")
    if major == "avif" or (major == "mif1" and "avif" in others):
        return "avif"
    return "jpg" if major in _HEIF_BRANDS else None


def is_sequence_pattern(name: str) -> bool:
    """Whether a name stands for a numbered series of pictures, such as `frames/%04d.png`."""
    path = Path(name)
    return bool(_PATTERN.search(path.name)) and is_picture_source(path) and not path.exists()


def is_frame_pattern(path: Path) -> bool:
    """Whether an output's name stands for one file for each frame, such as `out/%06d.png`."""
    return len(_PATTERN.findall(path.name)) == 1 and path.suffix.lower() in FRAME_CODECS


def frame_path(pattern: Path, number: int) -> Path:
    """The file of a frame."""
    before, width, after = _PATTERN.split(pattern.name)
    return pattern.with_name(f"{before}{number:{width or ''}d}{after}")


def numbered_pictures(pattern: str) -> tuple[Path, ...]:
    """The files of a series, by number.

    Args:
        pattern: A path whose name holds one `%d` or `%0Nd`.

    Raises:
        UnreadableInputError: If there is no such file, a number is missing in the middle, or the pattern has
            several places for a number.
    """
    path = Path(pattern)
    if len(_PATTERN.findall(path.name)) != 1:
        raise UnreadableInputError(
            f"'{pattern}' has several places for a number; one is accepted: %d or %04d"
        )
    head, width, tail = _PATTERN.split(path.name)
    digits = rf"\d{{{int(width)},}}" if width else r"\d+"
    regex = re.compile(re.escape(head) + f"({digits})" + re.escape(tail))
    names = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    numbers = sorted(int(match.group(1)) for match in map(regex.fullmatch, names) if match)
    if not numbers:
        raise UnreadableInputError(f"no picture is called like '{pattern}'")
    if numbers[-1] - numbers[0] + 1 != len(numbers):
        missing = next(before + 1 for before, after in pairwise(numbers) if after != before + 1)
        raise UnreadableInputError(
            f"'{pattern}' has {len(numbers)} pictures from {numbers[0]} to {numbers[-1]}, and {missing} is "
            "missing; a video needs all of them"
        )
    return tuple(frame_path(path, number) for number in numbers)


def pictures_of_folder(folder: Path) -> tuple[Path, ...] | None:
    """The pictures of a folder that holds nothing else, in the order of the numbers in their names.

    Returns:
        None if the folder holds no pictures, or other files too; hidden files do not count.
    """
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    if not files or not all(is_picture_source(path) for path in files):
        return None
    return tuple(sorted(files, key=_natural))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts "2" before "10"."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
        for part in re.split(r"(\d+)", path.name)
        if part
    ]


def is_still(path: Path) -> bool:
    """Whether a file is called like a picture and is not an animation; damaged ones count as stills.

    Looks at a few bytes: libraries that read pictures could fail on what strangers made.
    """
    return is_picture_source(path) and not (
        is_animated_webp(path) or _is_animated_png(path) or _head(path, 12)[8:] in (b"avis", b"hevc", b"msf1")
    )


def is_tiled_still(path: Path) -> bool:
    """Whether a file begins as HEIF and AVIF stills do, of which FFmpeg reads single tiles."""
    return is_heif(path) or _head(path, 12)[4:] == b"ftypavif"


def is_heif(path: Path) -> bool:
    """Whether a file begins as HEIF stills do; some AVIFs do too."""
    head = _head(path, 12)
    return head[4:8] == b"ftyp" and head[8:].decode("latin-1") in _HEIF_BRANDS


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP of several pictures, which FFmpeg does not decode."""
    head = _head(path, 21)
    # RIFF size WEBP "VP8X" size flags; bit 1 says animation.
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x02)


def _is_animated_png(path: Path) -> bool:
    """Whether a chunk before the pixels says how many pictures there are, and they are several."""
    if _head(path, 8) != b"\x89PNG\r\n\x1a\n":
        return False
    with path.open("rb") as file:
        file.seek(8)
        while len(chunk := file.read(12)) == 12 and chunk[4:8] != b"IDAT":
            if chunk[4:8] == b"acTL":
                return int.from_bytes(chunk[8:]) > 1
            file.seek(int.from_bytes(chunk[:4]), 1)  # its content and checksum, 4 of which are read
    return False


def _head(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
