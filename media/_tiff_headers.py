"""What FFmpeg does not tell of a TIFF."""

import struct
import warnings
from io import BytesIO

_HEADER_BYTES, _EXTRA_SAMPLES, _ASSOCIATED = 8, 338, 1


def has_associated_alpha(data: bytes) -> bool:
    """Whether the first picture's colours are multiplied by its opacity ("associated alpha" of TIFF 6.0).

    Pillow reads the directory alone: it opens no pictures of four channels of 16 bits.

    Args:
        data: The file; False where it is none, or ends before it tells.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is damaged: it has no such tag then
            directory = ImageFileDirectory_v2(file.read(_HEADER_BYTES))
            file.seek(directory.next)
            directory.load(file)
            return _ASSOCIATED in directory.get(_EXTRA_SAMPLES, ())
    except (SyntaxError, struct.error):  # no TIFF; no directory
        return False
