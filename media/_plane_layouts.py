"""The pixel formats of outputs: which samples they have, and how large a stored picture is. No torch."""

from typing import Literal, NamedTuple

ChromaSite = Literal["left", "topleft"]


class PlaneLayout(NamedTuple):
    """How a planar YUV pixel format stores its samples."""

    horizontal: int
    """Luma columns per chroma column, 1 or 2."""
    vertical: int
    """Luma rows per chroma row, 1 or 2."""
    bit_depth: int


PLANE_LAYOUTS: dict[str, PlaneLayout] = {
    "yuv420p": PlaneLayout(2, 2, 8),
    "yuv422p": PlaneLayout(2, 1, 8),
    "yuv444p": PlaneLayout(1, 1, 8),
    "yuv420p10le": PlaneLayout(2, 2, 10),
    "yuv422p10le": PlaneLayout(2, 1, 10),
    "yuv444p10le": PlaneLayout(1, 1, 10),
}
"""The Y'CbCr formats this package can encode."""

RGB_LAYOUTS: dict[str, PlaneLayout] = {
    "rgb24": PlaneLayout(1, 1, 8),
    "rgb48be": PlaneLayout(1, 1, 16),
    "rgb48le": PlaneLayout(1, 1, 16),
    "rgba": PlaneLayout(1, 1, 8),
    "rgba64be": PlaneLayout(1, 1, 16),
    "rgba64le": PlaneLayout(1, 1, 16),
}
"""Of pictures as files; all channels in one plane."""

YUVA_LAYOUTS: dict[str, PlaneLayout] = {"yuva444p10le": PlaneLayout(1, 1, 10)}
"""Y'CbCr with a plane of opacity."""

WITH_ALPHA = {
    "yuv444p10le": "yuva444p10le",
    "rgb24": "rgba",
    "rgb48be": "rgba64be",
    "rgb48le": "rgba64le",
}
"""Formats that are known with opacity too, and how they are called then."""


def layout_of(pix_fmt: str) -> PlaneLayout:
    """How a pixel format that can be encoded stores its samples."""
    return PLANE_LAYOUTS.get(pix_fmt) or YUVA_LAYOUTS.get(pix_fmt) or RGB_LAYOUTS[pix_fmt]


def keeps_alpha(pix_fmt: str) -> bool:
    """Whether a pixel format that can be encoded has a place for opacity."""
    return pix_fmt in WITH_ALPHA.values()


def coded_size(width: int, height: int, pix_fmt: str) -> tuple[int, int]:
    """Size of the stored picture: rounded up to whole chroma samples.

    Args:
        width: Picture width in pixels.
        height: Picture height in pixels.
        pix_fmt: One of `PLANE_LAYOUTS`, `YUVA_LAYOUTS` or `RGB_LAYOUTS`.

    Returns:
        (width, height), each at most one pixel larger than asked.
    """
    layout = layout_of(pix_fmt)
    return width + width % layout.horizontal, height + height % layout.vertical
