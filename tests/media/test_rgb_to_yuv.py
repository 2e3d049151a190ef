"""The written planes against the equations of BT.709 / BT.2020 in float64."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.dlpack import from_dlpack

from media._plane_layouts import PLANE_LAYOUTS, coded_size
from media._rgb_to_yuv import RgbToYuv
from media.errors import EncodeError
from tests.media.sources import picture

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
Array = np.ndarray[Any, np.dtype[np.float64]]


def planes(converter: RgbToYuv, image: torch.Tensor) -> list[Array]:
    frame = converter.convert(image)
    return [from_dlpack(plane).to(torch.float64).numpy() for plane in frame.planes]


def reference(image: torch.Tensor, pix_fmt: str, matrix: int, *, is_topleft: bool = False) -> list[Array]:
    """Codes before rounding: replicate to whole chroma samples, matrix, filter, quantise."""
    layout = PLANE_LAYOUTS[pix_fmt]
    rgb = np.clip(image.to(torch.float64).numpy(), 0, 1)
    width, height = coded_size(rgb.shape[2], rgb.shape[1], pix_fmt)
    rgb = np.pad(rgb, ((0, 0), (0, height - rgb.shape[1]), (0, width - rgb.shape[2])), mode="edge")
    kr, kb = WEIGHTS[matrix]
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    if layout.horizontal == 2:
        chroma = [cosited(plane, 1) for plane in chroma]
    if layout.vertical == 2:
        chroma = [cosited(p, 0) if is_topleft else (p[0::2] + p[1::2]) / 2 for p in chroma]
    unit = 2 ** (layout.bit_depth - 8)
    return [luma * 219 * unit + 16 * unit, *(plane * 224 * unit + 128 * unit for plane in chroma)]


def cosited(plane: Array, axis: int) -> Array:
    """Every other sample, smoothed by [1 2 1] / 4."""
    padded = np.moveaxis(plane, axis, 0)
    padded = np.concatenate([padded[:1], padded])
    return np.moveaxis((padded[:-2:2] + 2 * padded[1:-1:2] + padded[2::2]) / 4, 0, axis)


@pytest.mark.parametrize(("pix_fmt", "matrix"), list(product(PLANE_LAYOUTS, WEIGHTS)))
def test_planes_are_the_equations_rounded(pix_fmt: str, matrix: int) -> None:
    image = torch.rand(3, 78, 66, generator=torch.Generator().manual_seed(1))
    converter = RgbToYuv(66, 78, pix_fmt=pix_fmt, matrix=matrix)
    for found, expected in zip(planes(converter, image), reference(image, pix_fmt, matrix), strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("height", [2, 31, 32, 33, 64, 65, 97])
def test_bands_leave_no_seam_at_any_height_with_top_left_chroma(height: int) -> None:
    image = torch.rand(3, height, 10, generator=torch.Generator().manual_seed(height))
    converter = RgbToYuv(10, height, pix_fmt="yuv420p10le", matrix=9, chroma_site="topleft")
    converter.convert(1 - image)  # whatever the work buffers held before must not show
    expected = reference(image, "yuv420p10le", 9, is_topleft=True)
    for found, wanted in zip(planes(converter, image), expected, strict=True):
        assert np.abs(found - wanted).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 4), (4, 5), (33, 31)])
def test_odd_sizes_are_rounded_up_by_repeating_the_edge(pix_fmt: str, width: int, height: int) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(2))
    converter = RgbToYuv(width, height, pix_fmt=pix_fmt, matrix=1)
    for found, expected in zip(planes(converter, image), reference(image, pix_fmt, 1), strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("pix_fmt", "black", "white", "grey"), [("yuv420p", 16, 235, 128), ("yuv420p10le", 64, 940, 512)]
)
def test_black_and_white_take_the_whole_nominal_range(
    pix_fmt: str, black: int, white: int, grey: int
) -> None:
    converter = RgbToYuv(8, 8, pix_fmt=pix_fmt, matrix=1)
    for value, luma in ((0.0, black), (1.0, white), (-3.0, black), (7.0, white), (float("inf"), white)):
        y, cb, cr = planes(converter, torch.full((3, 8, 8), value))
        assert (y == luma).all()
        assert (cb == grey).all()
        assert (cr == grey).all()


def test_chroma_sites_differ_at_a_horizontal_edge() -> None:
    image = torch.zeros(3, 8, 8)
    image[0, 3:] = 1.0
    left, top = (
        planes(RgbToYuv(8, 8, pix_fmt="yuv420p", matrix=1, chroma_site=site), image)[2]
        for site in ("left", "topleft")
    )
    assert np.abs(left - top).max() > 10


def test_ten_bit_ramp_keeps_its_steps() -> None:
    ramp = torch.linspace(0, 1, 4096).expand(3, 2, 4096).contiguous()
    luma = planes(RgbToYuv(4096, 2, pix_fmt="yuv420p10le", matrix=1), ramp)[0]
    assert len(np.unique(luma)) == 877


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 48, 63),
        torch.zeros(1, 48, 64),
        torch.zeros(48, 64, 3),
        torch.zeros(3, 48, 64, dtype=torch.float64),
        torch.zeros(3, 48, 64, dtype=torch.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(image: torch.Tensor) -> None:
    with pytest.raises(EncodeError, match=r"float32 of shape \(3, 48, 64\)"):
        RgbToYuv(64, 48, pix_fmt="yuv420p", matrix=1).convert(image)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_nan_is_refused_and_does_not_become_a_colour(channel: int) -> None:
    image = picture(0)
    image[channel, 47, 63] = float("nan")
    with pytest.raises(EncodeError, match="NaN"):
        RgbToYuv(64, 48, pix_fmt="yuv420p", matrix=1).convert(image)
