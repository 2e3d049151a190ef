"""Stills: what goes in comes out, upright, in the depth and with the transparency and profile that it had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from media.errors import EncodeError, InputLimitError, UnreadableInputError
from media.limits import InputLimits
from media.stills import Picture, read_picture, turn, write_picture
from media.transparency import enlarge_alpha

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXACT = (".png", ".tif", ".bmp")


def make_picture(*, is_gray: bool = False, has_alpha: bool = False, bit_depth: int = 8) -> Picture:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 4, 5, 7), size=(40, 56), mode="bicubic")[0].clamp(
        0, 1
    )
    image = smooth[:1].expand(3, -1, -1) if is_gray else smooth[:3]
    return Picture(image, smooth[3:] if has_alpha else None, bit_depth, is_gray, SRGB)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("is_gray", [False, True])
def test_eight_bits_survive_in_every_format(suffix: str, is_gray: bool, tmp_path: Path) -> None:
    picture = make_picture(is_gray=is_gray)
    assert write_picture(picture, tmp_path / f"a{suffix}") == []
    again = read_picture(tmp_path / f"a{suffix}")
    error = (again.image - picture.image).abs()
    assert error.max() <= 0.51 / 255 if suffix in EXACT else error.mean() < 0.02
    assert again.bit_depth == 8
    if suffix != ".bmp" and not (is_gray and suffix == ".webp"):
        assert again.icc_profile == SRGB
    assert list(tmp_path.iterdir()) == [tmp_path / f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("is_gray", [False, True])
def test_sixteen_bits_survive(suffix: str, has_alpha: bool, is_gray: bool, tmp_path: Path) -> None:
    picture = make_picture(bit_depth=16, has_alpha=has_alpha, is_gray=is_gray)
    assert write_picture(picture, tmp_path / f"a{suffix}") == []
    again = read_picture(tmp_path / f"a{suffix}")
    assert again.bit_depth == 16
    assert (again.image - picture.image).abs().max() <= 0.51 / 65535
    assert again.icc_profile == (None if is_gray and has_alpha else SRGB)
    if has_alpha:
        assert again.alpha is not None
        assert picture.alpha is not None
        assert (again.alpha - picture.alpha).abs().max() <= 0.51 / 65535


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    deep = make_picture(bit_depth=16, has_alpha=True)
    warnings = write_picture(deep, tmp_path / "a.jpg")
    assert ["transparency" in text for text in warnings] == [True, False]
    assert "16" in warnings[1]
    assert deep.alpha is not None
    shown = read_picture(tmp_path / "a.jpg").image
    assert (shown - (deep.image * deep.alpha + 1 - deep.alpha)).abs().mean() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_was_turned_is_turned_back(orientation: int, tmp_path: Path) -> None:
    upright = make_picture()
    # The inverse of each orientation: 6 and 8 undo each other, the others themselves.
    stored = turn(upright.image, {6: 8, 8: 6}.get(orientation, orientation))
    levels = (stored * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    Image.fromarray(np.ascontiguousarray(levels)).save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    assert (picture.image - upright.image).abs().max() <= 0.51 / 255
    write_picture(picture, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as again:
        assert dict(again.getexif()) == {0x010F: "Camera"}


def test_transparency_that_hides_nothing_is_none(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (10, 20, 30, 255)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").alpha is None


def test_palettes_with_transparency_and_print_colours_are_understood(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 250, 100, 50])
    palette.save(tmp_path / "p.png", transparency=0)
    picture = read_picture(tmp_path / "p.png")
    assert [round(float(c) * 255) for c in picture.image[:, 0, 0]] == [250, 100, 50]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red, green, blue = read_picture(tmp_path / "c.jpg").image[:, 0, 0]
    assert red > 0.9
    assert max(green, blue) < 0.1


def test_transparency_grows_with_the_picture() -> None:
    alpha = torch.zeros(1, 4, 4)
    alpha[..., 2:] = 1
    large = enlarge_alpha(alpha, (8, 8))
    assert large.shape == (1, 8, 8)
    assert (large[..., 0] == 0).all()
    assert (large[..., -1] == 1).all()


def test_damaged_foreign_and_too_large_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(UnreadableInputError, match=r"a\.png.*accepted are JPEG"):
        read_picture(tmp_path / "a.png")
    write_picture(make_picture(), tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableInputError):
        read_picture(tmp_path / "cut.png")
    with pytest.raises(InputLimitError, match="56x40"):
        read_picture(tmp_path / "b.png", limits=InputLimits(max_pixels=100))
    frames = [Image.new("RGB", (8, 8), (n, n, n)) for n in (0, 99)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableInputError, match=r"animation of 2 pictures.*\.mp4"):
        read_picture(tmp_path / "moving.webp")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.mkdir()
    with pytest.raises(EncodeError, match="cannot write"):
        write_picture(make_picture(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("depth", [8, 16])
def test_associated_alpha_of_a_tiff_is_taken_out_of_its_colours(depth: int, tmp_path: Path) -> None:
    peak = 2**depth - 1
    levels = np.round(np.full((8, 8, 4), [0.25, 0.125, 0.5, 0.5]) * peak)
    values = levels.astype(np.uint8 if depth == 8 else np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    assert picture.alpha is not None
    assert picture.alpha.mean() == pytest.approx(0.5, abs=1 / 255)
    assert picture.image.mean(dim=(1, 2)).tolist() == pytest.approx([0.5, 0.25, 1.0], abs=2 / 255)
