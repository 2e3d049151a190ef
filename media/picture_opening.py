"""Opening a still with Pillow, which takes libheif where the file is HEIF, as phones make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from media.picture_files import READ_FORMATS, is_heif

_HEIF = "HEIF"
_FORMATS = tuple(sorted(set(READ_FORMATS.values())))
READABLE_KINDS = "JPEG, PNG, WebP, AVIF, HEIF, TIFF and BMP"
"""For people."""


def open_picture(path: Path) -> Image.Image:
    """Opens a still; pixels are decoded when they are asked for.

    Args:
        path: Of one of `READABLE_KINDS`, by its content.

    Returns:
        The file's first or primary picture. HEIF is put together of its tiles, turned and cut as it says.

    Raises:
        PIL.UnidentifiedImageError: If it is none of them.
        OSError: If it cannot be read.
    """
    if is_heif(path):
        _learn_heif()
    return Image.open(path, formats=[name for name in _FORMATS if name != _HEIF or name in Image.OPEN])


def read_deep_heif(path: Path) -> np.ndarray:
    """The primary picture of a HEIF with more than 8 bits: (h, w, channels), uint16, in all its range.

    Raises:
        OSError: If it cannot be read.
    """
    import pillow_heif

    file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    bits = file.info["bit_depth"]
    # libheif's values lie at the upper end of 16 bits.
    levels: np.ndarray = np.asarray(file) >> (16 - bits)
    scaled: np.ndarray = np.rint(levels * (65535 / (2**bits - 1))).astype(np.uint16)
    return scaled


def _learn_heif() -> None:
    """Registers libheif's reader. It has 27 MB that most files do not need."""
    if _HEIF not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
