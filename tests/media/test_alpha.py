"""Alpha planes: real ones lay the picture over black, idle ones and premultiplied colours are left alone."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from media import VideoReader, probe
from media._alpha import UNUSED_WARNING
from media.info import TRANSPARENCY_WARNING
from media.picture_packing import pack_pictures
from media.transparency import unmultiply
from tests.media.clips import Clip, Plane, write_clip

COLOUR = (180, 120, 60)


def pixels(alpha: int, *, order: str = "bgra") -> list[Plane]:
    """A flat picture of `COLOUR` with one opacity, (48, 64 * 4)."""
    values = dict(zip("rgba", (*COLOUR, alpha), strict=True))
    return [np.tile(np.array([values[name] for name in order], np.uint8), (48, 64))]


def raw_clip(path: Path, alphas: list[int]) -> Path:
    return write_clip(
        path, [pixels(alpha) for alpha in alphas], Clip(codec="rawvideo", pix_fmt="bgra", width=64)
    )


def images(path: Path, *, from_pts: int | None = None) -> list[torch.Tensor]:
    with VideoReader(probe(path)) as reader:
        return [frame.image for frame in reader.frames(from_pts=from_pts)]


def shown(image: torch.Tensor) -> list[int]:
    """The mean colour in 8-bit levels."""
    return [round(255 * float(channel.mean())) for channel in image]


@pytest.mark.parametrize("suffix", [".avi", ".nut"])
def test_a_plane_that_is_zero_throughout_is_not_alpha(tmp_path: Path, suffix: str) -> None:
    path = raw_clip(tmp_path / f"a{suffix}", [0, 0, 0])
    info = probe(path)
    assert (info.video.has_alpha, info.video.alpha) == (True, "unused")
    assert info.warnings == (UNUSED_WARNING,)
    assert [shown(image) for image in images(path)] == [list(COLOUR)] * 3


def test_a_picture_that_fades_in_is_transparent_at_first(tmp_path: Path) -> None:
    path = raw_clip(tmp_path / "a.nut", [0, 0, 102, 255])
    info = probe(path)
    assert info.video.alpha == "straight"
    assert TRANSPARENCY_WARNING in info.warnings
    expected = [[0, 0, 0], [0, 0, 0], [72, 48, 24], list(COLOUR)]
    assert [shown(image) for image in images(path)] == expected
    assert [shown(image) for image in images(path, from_pts=1)] == expected[1:]


def test_an_idle_plane_of_yuv_is_ignored_too(tmp_path: Path) -> None:
    planes: list[Plane] = [np.full((48, 64), value, np.uint8) for value in (180, 128, 128, 0)]
    path = write_clip(tmp_path / "a.mkv", [planes] * 2, Clip(codec="ffv1", pix_fmt="yuva444p"))
    assert probe(path).video.alpha == "unused"
    assert images(path)[0].min() == pytest.approx((180 - 16) / 219, abs=1e-3)


def test_opaque_and_half_transparent_planes_are_straight(tmp_path: Path) -> None:
    for alpha, expected in ((255, list(COLOUR)), (51, [36, 24, 12])):
        path = raw_clip(tmp_path / "a.nut", [alpha, alpha])
        assert probe(path).video.alpha == "straight"
        assert shown(images(path)[0]) == expected


def mov_with_graphics_mode(path: Path, mode: int) -> Path:
    clip = Clip(codec="qtrle", pix_fmt="argb")
    write_clip(path, [pixels(51, order="argb")] * 2, clip)
    data = bytearray(path.read_bytes())
    start = data.index(b"vmhd") + 8
    data[start : start + 2] = mode.to_bytes(2, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("mode", "alpha"),
    [(0x101, "premultiplied"), (0x102, "premultiplied"), (0x100, "straight"), (0, "straight")],
)
def test_quicktime_says_whether_colours_are_premultiplied(tmp_path: Path, mode: int, alpha: str) -> None:
    path = mov_with_graphics_mode(tmp_path / "a.mov", mode)
    info = probe(path)
    assert info.video.alpha == alpha
    assert TRANSPARENCY_WARNING in info.warnings
    assert shown(images(path)[0]) == (list(COLOUR) if alpha == "premultiplied" else [36, 24, 12])


@pytest.mark.needs_shared
def test_a_reported_film_with_an_idle_fourth_byte_is_shown(shared_dir: Path) -> None:
    path = shared_dir / "clips" / "reported" / "alpha_zero_rgb32.avi"
    means = np.mean([shown(image) for image in images(path)], axis=0)
    assert np.abs(means - [124, 126, 126]).max() <= 2


def kept(path: Path) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Straight colours and alpha of the frames."""
    with VideoReader(probe(path), keep_alpha=True) as reader:
        frames = list(reader.frames())
    assert not reader.warnings
    return [frame.image for frame in frames], [frame.alpha for frame in frames if frame.alpha is not None]


def test_alpha_can_be_kept_beside_straight_colours(tmp_path: Path) -> None:
    path = raw_clip(tmp_path / "a.nut", [51, 255])
    colours, alphas = kept(path)
    assert [shown(colour) for colour in colours] == [list(COLOUR)] * 2
    assert [shown(alpha) for alpha in alphas] == [[51], [255]]
    assert alphas[0].shape == (1, 48, 64)


def test_kept_alpha_is_taken_out_of_premultiplied_colours(tmp_path: Path) -> None:
    colours, alphas = kept(mov_with_graphics_mode(tmp_path / "a.mov", 0x102))
    # 180 * 255 / 51 and the like are above white.
    assert shown(colours[0]) == [255, 255, 255]
    assert shown(alphas[0]) == [51]


def test_colours_that_nobody_sees_are_those_beside_them() -> None:
    alpha = torch.zeros(1, 8, 16)
    alpha[..., 8:] = 0.5
    colour = torch.tensor([0.2, 0.4, 0.8])[:, None, None]
    made = unmultiply(colour * alpha, alpha)
    assert (made[..., 4:] - colour).abs().max() < 1e-5
    assert made[..., :4].max() == 0


@pytest.mark.parametrize("codec", ["png", "ffv1", "libvpx-vp9"])
def test_every_kind_of_alpha_can_be_kept(tmp_path: Path, codec: str) -> None:
    luma, chroma = np.full((48, 64), 180, np.uint8), np.full((24, 32), 128, np.uint8)
    planes: list[Plane] = [luma, chroma, chroma, np.full((48, 64), 51, np.uint8)]
    pix_fmt = "yuva420p"
    if codec == "png":
        planes, pix_fmt = [np.tile(np.array([180, 51], np.uint8), (48, 64))], "ya8"
    suffix = {"png": ".mov", "ffv1": ".mkv", "libvpx-vp9": ".webm"}[codec]
    options = {"lossless": "1", "auto-alt-ref": "0"} if codec == "libvpx-vp9" else {}
    clip = Clip(codec=codec, pix_fmt=pix_fmt, options=options)
    colours, alphas = kept(write_clip(tmp_path / f"a{suffix}", [planes] * 2, clip))
    assert [shown(alpha) for alpha in alphas] == [[51]] * 2
    level = 180 if codec == "png" else round((180 - 16) / 219 * 255)
    assert shown(colours[0]) == [level] * 3


def test_a_transparent_entry_of_a_palette_can_be_kept(tmp_path: Path) -> None:
    picture = Image.new("P", (64, 48), 0)
    picture.putpalette([180, 120, 60])
    picture.save(tmp_path / "a.png", transparency=bytes([51]))
    pack_pictures([tmp_path / "a.png"], Fraction(25), tmp_path / "a.mov")
    colours, alphas = kept(tmp_path / "a.mov")
    assert (shown(colours[0]), shown(alphas[0])) == (list(COLOUR), [51])


@pytest.mark.parametrize("pix_fmt", ["bgr0", "bgra"])
def test_where_there_is_no_alpha_to_keep_there_is_none(tmp_path: Path, pix_fmt: str) -> None:
    planes = [pixels(0)] * 2
    path = write_clip(tmp_path / "a.nut", planes, Clip(codec="rawvideo", pix_fmt=pix_fmt))
    colours, alphas = kept(path)
    assert alphas == []
    assert shown(colours[0]) == list(COLOUR)
