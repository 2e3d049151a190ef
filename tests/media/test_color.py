"""Code values of decoded pictures against a plain float64 computation."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from media import VideoReader, probe
from media._yuv_to_rgb import FrameToRgb, yuv_to_rgb_affine
from media.color import BT709, BT2020, SMPTE170M, YCGCO, default_matrix, effective_matrix
from tests.media.clips import (
    X264_LOSSLESS,
    Clip,
    Planes,
    Tags,
    flat_picture,
    frame_of,
    moving_picture,
    png,
    write_clip,
)

Image = NDArray[np.float64]

KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def cubic(distance: Image, a: float = -0.6) -> Image:
    """Keys' cubic kernel; libswscale's is -0.6 (Catmull-Rom, -0.5, is 0.08 levels away on these pictures)."""
    t = np.abs(distance)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def upsample(chroma: Image, size: int, phase: float, axis: int) -> Image:
    """Double along an axis; `phase` is the position of the first chroma sample in luma samples."""
    chroma = np.moveaxis(chroma, axis, 0)
    positions = (np.arange(size) - phase) / 2
    base = np.floor(positions).astype(int)
    total = np.zeros((size, *chroma.shape[1:]))
    for tap in range(-1, 3):
        weights = cubic(positions - (base + tap))
        total += chroma[np.clip(base + tap, 0, len(chroma) - 1)] * weights.reshape(
            -1, *[1] * (chroma.ndim - 1)
        )
    return np.moveaxis(total, 0, axis)


def reference(
    planes: Planes, *, matrix: int, full_range: bool, bits: int = 8, phase: tuple[float, float] = (0.0, 0.5)
) -> Image:
    """(3, H, W) in [0, 1] from 4:2:0 planes; `phase` is the chroma position in luma samples, (x, y)."""
    luma, cb, cr = (plane.astype(np.float64) for plane in planes)
    height, width = luma.shape
    cb, cr = (upsample(upsample(c, height, phase[1], 0), width, phase[0], 1) for c in (cb, cr))
    unit, peak = 2 ** (bits - 8), 2**bits - 1
    if full_range:
        y, u, v = luma / peak, (cb - 128 * unit) / peak, (cr - 128 * unit) / peak
    else:
        y = (luma - 16 * unit) / (219 * unit)
        u, v = ((c - 128 * unit) / (224 * unit) for c in (cb, cr))
    kr, kb = KR_KB[matrix]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue]), 0, 1)


def read_first(path: Path) -> torch.Tensor:
    with VideoReader(probe(path)) as reader:
        return next(reader.frames()).image


def levels_apart(image: torch.Tensor, expected: Image) -> Image:
    return np.abs(image.numpy() - expected) * 255


def lossless(path: Path, planes: Planes, pix_fmt: str = "yuv420p", **fields: object) -> Path:
    height, width = planes[0].shape
    options = X264_LOSSLESS | fields.pop("options", {})  # type: ignore[operator]
    clip = Clip(pix_fmt=pix_fmt, width=width, height=height, options=options, **fields)  # type: ignore[arg-type]
    return write_clip(path, [planes], clip)


def detailed_planes(width: int = 96, height: int = 64) -> Planes:
    """Sharp luma, smooth chroma, all of it within R'G'B' so that nothing is clamped."""
    rng = np.random.default_rng(7)
    luma = rng.integers(90, 160, (height, width)).astype(np.uint8)
    y, x = np.mgrid[0 : height // 2, 0 : width // 2]
    cb = (128 + 18 * np.sin(x / 3) * np.cos(y / 4)).astype(np.uint8)
    cr = (128 + 18 * np.cos(x / 5 + y / 3)).astype(np.uint8)
    return [luma, cb, cr]


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_white_grey_and_black_have_their_exact_values(tmp_path: Path, bits: int, color_range: int) -> None:
    pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
    unit, peak = 2 ** (bits - 8), 2**bits - 1
    low, high = (16 * unit, 235 * unit) if color_range == LIMITED else (0, peak)
    middle = (low + high) // 2
    for code in (low, middle, high):
        planes = flat_picture([code, 128 * unit, 128 * unit], pix_fmt=pix_fmt)
        tags = Tags(matrix=1, primaries=1, transfer=1, range=color_range)
        image = read_first(lossless(tmp_path / "flat.mp4", planes, pix_fmt, tags=tags))
        assert image.sub((code - low) / (high - low)).abs().max() < 1e-4  # libswscale's RGB gives 0.996


def test_full_range_pixel_formats_need_no_tag() -> None:
    frame = frame_of(flat_picture([255, 128, 128], pix_fmt="yuvj420p"), "yuvj420p", 64, 48)
    assert FrameToRgb(64, 48, codec="mjpeg").convert(frame).min() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, BT2020])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_tagged_matrix_and_range_are_used(tmp_path: Path, matrix: int, color_range: int) -> None:
    planes = detailed_planes()
    tags = Tags(matrix=matrix, primaries=1, transfer=1, range=color_range)
    image = read_first(lossless(tmp_path / "a.mp4", planes, tags=tags))
    apart = levels_apart(image, reference(planes, matrix=matrix, full_range=color_range == FULL))
    assert apart.mean() <= 0.05
    assert apart.max() <= 1.0


@pytest.mark.parametrize(
    ("width", "height", "matrix"), [(1280, 16, 1), (16, 720, 1), (720, 576, 5), (720, 480, 6)]
)
def test_untagged_matrix_follows_the_size(tmp_path: Path, width: int, height: int, matrix: int) -> None:
    planes = detailed_planes(width, height)
    path = lossless(tmp_path / "a.mp4", planes)
    with VideoReader(probe(path)) as reader:
        image = next(reader.frames()).image
        assert reader.color.matrix == matrix
    assert levels_apart(image, reference(planes, matrix=matrix, full_range=False)).mean() <= 0.05


def test_default_matrix_changes_at_hd() -> None:
    assert [default_matrix(*size) for size in [(1279, 719), (1280, 719), (1279, 720)]] == [6, 1, 1]


def test_unknown_and_misplaced_matrices_fall_back_to_the_default() -> None:
    assert [effective_matrix(code, 640, 480) for code in (0, 2, 3, 14, 255)] == [6] * 5
    assert effective_matrix(YCGCO, 640, 480) == YCGCO


@pytest.mark.parametrize(("location", "phase"), [("0", (0.0, 0.5)), ("2", (0.0, 0.0)), ("1", (0.5, 0.5))])
def test_chroma_position_of_the_stream_is_honoured(
    tmp_path: Path, location: str, phase: tuple[float, float]
) -> None:
    # 0 left, 1 centre, 2 top left; colour edges tell them apart.
    planes = detailed_planes()
    planes[1][:, ::4], planes[1][::4] = 150, 106
    tags = Tags(matrix=1, primaries=1, transfer=1, range=LIMITED)
    path = lossless(tmp_path / "a.mp4", planes, tags=tags, options={"x264-params": f"chromaloc={location}"})
    image = read_first(path)
    errors = {
        other: levels_apart(image, reference(planes, matrix=1, full_range=False, phase=other)).mean()
        for other in [(0.0, 0.5), (0.0, 0.0), (0.5, 0.5)]
    }
    assert errors[phase] <= 0.05
    assert all(error > 0.2 for other, error in errors.items() if other != phase)


def test_ten_bit_steps_survive(tmp_path: Path) -> None:
    codes = np.arange(64, 941, dtype=np.uint16)
    luma = np.zeros((16, 878), np.uint16)
    luma[:, :877] = codes
    luma[:, 877] = 940
    chroma = np.full((8, 439), 512, np.uint16)
    tags = Tags(matrix=1, primaries=1, transfer=1, range=LIMITED)
    image = read_first(lossless(tmp_path / "ramp.mp4", [luma, chroma, chroma], "yuv420p10le", tags=tags))
    assert len(torch.unique(image[1, 0])) == 877
    assert torch.allclose(image[1, 0, :877], torch.linspace(0, 1, 877), atol=1e-4)


PIXEL_FORMATS = (
    *("yuv410p", "yuv411p", "yuv420p", "yuv422p", "yuv440p", "yuv444p", "yuvj422p", "nv12", "p010le"),
    *("yuv422p10le", "yuv444p12le", "yuv420p9le", "yuv420p16le", "yuva420p", "yuva444p12le", "uyvy422"),
    *(
        "yuyv422",
        "gray",
        "gray10le",
        "gray12le",
        "gray16be",
        "ya8",
        "ya16be",
        "rgb24",
        "bgr24",
        "rgba",
        "bgra",
    ),
    *(
        "0rgb",
        "gbrp",
        "gbrp10le",
        "gbrap",
        "gbrap12le",
        "rgb48be",
        "rgba64le",
        "rgb565le",
        "gbrpf32le",
        "monow",
    ),
)


@pytest.mark.parametrize("pix_fmt", PIXEL_FORMATS)
@pytest.mark.parametrize("size", [(32, 24), (33, 25)])
def test_every_common_pixel_format_becomes_a_picture(pix_fmt: str, size: tuple[int, int]) -> None:
    width, height = size
    white = av.VideoFrame(width, height, "rgb24")
    # With its padding and not the fast way: libswscale leaves the last pixel of an odd width to chance.
    white.planes[0].update(b"\xff" * white.planes[0].buffer_size)
    exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    stored = white.reformat(format=pix_fmt, interpolation=Interpolation.BICUBIC | exact, threads=1)
    image = FrameToRgb(width, height, codec="rawvideo").convert(stored)
    assert image.shape == (3, height, width)
    assert image.dtype == torch.float32
    # libswscale itself writes 0.96 ... 1.0 into the deeper or coarser formats; black or a shift would be far
    # off.
    assert image.min() > 0.95
    assert image.max() <= 1.0


def test_rgb_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 40 * 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png(40, 24, "rgb24", [pixels]))
    expected = pixels.reshape(24, 40, 3).transpose(2, 0, 1) / 255
    assert levels_apart(read_first(path), expected).max() < 1e-3


def test_sixteen_bit_white_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.full((8, 8 * 3), 0xFFFF, np.uint16)
    path.write_bytes(png(8, 8, "rgb48be", [pixels]))
    info = probe(path)
    assert info.video.bit_depth == 16
    assert read_first(path).min() == 1.0


def test_planar_rgb_in_h264_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64 * 3), dtype=np.uint8)
    clip = Clip(codec="libx264rgb", pix_fmt="rgb24", options=X264_LOSSLESS, tags=Tags(matrix=0, range=FULL))
    path = write_clip(tmp_path / "a.mkv", [[pixels]], clip)
    info = probe(path)
    assert info.video.pix_fmt == "gbrp"
    expected = pixels.reshape(48, 64, 3).transpose(2, 0, 1) / 255
    assert levels_apart(read_first(path), expected).max() < 1e-3


def test_grey_is_full_range_unless_tagged_limited(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for color_range, low, span in [(0, 0, 255), (LIMITED, 16, 219)]:
        clip = Clip(codec="ffv1", pix_fmt="gray", width=16, height=16, tags=Tags(range=color_range))
        image = read_first(write_clip(tmp_path / "a.mkv", [[ramp]], clip))
        expected = np.clip((ramp - float(low)) / span, 0, 1)
        assert levels_apart(image, np.stack([expected] * 3)).max() < 1e-3


@pytest.mark.parametrize(("pix_fmt", "codec"), [("yuva444p10le", "prores_ks"), ("yuva420p", "libvpx-vp9")])
def test_transparent_video_is_laid_over_black_and_said_so(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    unit = 4 if pix_fmt.endswith("10le") else 1
    planes = flat_picture([180 * unit, 128 * unit, 128 * unit, 256 * unit - 1], pix_fmt=pix_fmt)
    planes[3][:, :32] = 0
    suffix = ".mov" if codec == "prores_ks" else ".webm"
    options = {"alpha_bits": "16"} if codec == "prores_ks" else {"crf": "10", "b": "0"}
    clip = Clip(codec=codec, pix_fmt=pix_fmt, options=options)
    path = write_clip(tmp_path / f"a{suffix}", [planes, planes], clip)
    info = probe(path)
    assert info.video.has_alpha
    assert any("transparency" in warning for warning in info.warnings)
    image = read_first(path)
    assert image[:, :, :28].max() < 0.03
    assert image[:, :, 36:].sub((180 - 16) / 219).abs().max() < 0.03


def test_transparent_png_is_laid_over_black(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:4, :, 3] = 51
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, "rgba", [pixels.reshape(8, 32)]))
    image = read_first(path)
    assert image[:, :4].sub(0.2).abs().max() < 1e-6
    assert image[:, 4:].min() == 1.0


def test_opaque_alpha_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, "rgba", [np.full((8, 32), 255, np.uint8)]))
    assert probe(path).warnings == ()


def test_conversion_leaves_the_decoder_s_planes_alone() -> None:
    for pix_fmt in ("yuv420p", "gray", "gbrp", "yuva420p"):
        frame = frame_of(moving_picture(3, pix_fmt=pix_fmt), pix_fmt, 64, 48)
        before = [bytes(plane) for plane in frame.planes]
        image = FrameToRgb(64, 48, codec="h264").convert(frame)
        image.fill_(0.5)
        assert [bytes(plane) for plane in frame.planes] == before


def test_affine_map_inverts_ycgco() -> None:
    # H.273: Y = G/2 + (R+B)/4, Cg = G/2 - (R+B)/4, Co = (R-B)/2; an 8-bit full-range orange.
    red, green, blue = 0.8, 0.5, 0.1
    y, cg, co = green / 2 + (red + blue) / 4, green / 2 - (red + blue) / 4, (red - blue) / 2
    weights, offsets = yuv_to_rgb_affine(YCGCO, full_range=True, bits=8)
    samples = np.array([y * 255, cg * 255 + 128, co * 255 + 128]) * 256
    assert np.allclose(np.array(weights) @ samples + np.array(offsets), [red, green, blue], atol=1e-6)
