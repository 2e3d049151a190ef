"""Before/after pictures of segments: a worker stores both sides in one JPEG, here one half is cut out."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

PreviewSide = Literal["both", "before", "after"]

# Well above the stored picture's own loss, and no larger than it.
_QUALITY = 90


def cut_side(picture: bytes, side: PreviewSide) -> bytes:
    """One half of a picture. Blocking: decodes and encodes it.

    Args:
        picture: A JPEG with the source on the left and the result on the right, equally wide.
        side: Which half; "both" is the picture as it is.

    Returns:
        A JPEG.
    """
    if side == "both":
        return picture
    with Image.open(io.BytesIO(picture)) as image:
        middle = image.width // 2
        box = (0, 0, middle, image.height) if side == "before" else (middle, 0, image.width, image.height)
        half = io.BytesIO()
        image.crop(box).save(half, "JPEG", quality=_QUALITY)
    return half.getvalue()
