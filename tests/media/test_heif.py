"""HEIF, as phones write their photographs: whole, upright, and in all its bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from media import probe
from media.errors import InputLimitError, MediaError
from media.limits import InputLimits
from media.picture_files import is_still, is_tiled_still, kind_of_still
from media.sandbox import SandboxLimits, sandboxed_picture, sandboxed_probe, shared_sandbox
from media.stills import read_picture
from tests.stills import SRGB, avif, heif, levels

LIMITS = SandboxLimits(memory_bytes=2 << 30)
# Turned by a quarter, as `tests.stills.heif` says.
UPRIGHT = np.rot90(np.tile(levels(), (8, 8, 1)), -1)


@pytest.mark.parametrize("tile", [0, 128])
def test_the_whole_picture_is_read_upright_with_its_profile(tile: int, tmp_path: Path) -> None:
    path = heif(tmp_path / "photo.heic", tile=tile)
    picture = read_picture(path)
    assert picture.size == (352, 240)
    error = picture.image.permute(1, 2, 0).numpy() - UPRIGHT / 255
    assert np.abs(error).mean() < 0.03
    assert picture.icc_profile == SRGB
    exif = Image.Exif()
    exif.load(picture.exif)
    assert (exif.get(0x010F), exif.get(0x0112, 1)) == ("Camera", 1)


@pytest.mark.parametrize("tile", [0, 128])
def test_a_probe_tells_of_the_picture_and_not_of_its_tiles(tile: int, tmp_path: Path) -> None:
    path = heif(tmp_path / "photo", tile=tile)
    for info in (probe(path), sandboxed_probe(path, is_quick=True)):
        assert (info.video.width, info.video.height, info.video.rotation) == (240, 352, 0)
        assert (info.warnings, info.others) == ((), ())
        assert kind_of_still(info) == "jpg"


def test_confined_processes_read_it_too(tmp_path: Path) -> None:
    path = heif(tmp_path / "photo.heic", tile=128)
    sandbox = shared_sandbox("read")
    found = sandboxed_picture(path, timeout=60, sandbox_limits=LIMITS, sandbox=sandbox)
    assert torch.equal(found.image, read_picture(path).image)


def test_ten_bits_stay_ten(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1023, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint16)
    path = tmp_path / "deep.heic"
    pillow_heif.encode("RGB;16", (96, 64), (ramp << 6).tobytes(), str(path), quality=-1)
    picture = read_picture(path)
    assert picture.bit_depth == 16
    # Lossless but for the conversion to Y'CbCr and back.
    assert (picture.image.permute(1, 2, 0) - torch.from_numpy(ramp / 1023)).abs().max() < 2.1 / 1023


def test_opacity_is_read(tmp_path: Path) -> None:
    pillow_heif.from_pillow(Image.fromarray(levels(has_alpha=True))).save(tmp_path / "a.heic", quality=-1)
    picture = read_picture(tmp_path / "a.heic")
    assert picture.alpha is not None
    assert np.abs(picture.alpha[0].numpy() * 255 - levels(has_alpha=True)[..., 3]).max() < 3


def test_of_several_pictures_the_primary_one_is_read(tmp_path: Path) -> None:
    burst = pillow_heif.HeifFile()
    for colour in ("red", "lime", "blue"):
        burst.add_from_pillow(Image.new("RGB", (64, 64), colour))
    burst.save(tmp_path / "burst.heic", primary_index=1)
    assert read_picture(tmp_path / "burst.heic").image[:, 30, 30].round().tolist() == [0, 1, 0]


def test_limits_hold_for_all_tiles_together(tmp_path: Path) -> None:
    path = heif(tmp_path / "photo.heic", tile=128)
    limits = InputLimits(max_pixels=352 * 240 - 1)
    for read in (probe, read_picture):
        with pytest.raises(InputLimitError, match="240x352"):
            read(path, limits=limits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_damage_is_a_typed_error(share: float, tmp_path: Path) -> None:
    whole = heif(tmp_path / "photo.heic", tile=128).read_bytes()
    cut = tmp_path / "cut.heic"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaError):
        read_picture(cut)


def test_stills_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    assert is_still(heif(tmp_path / "a.heic"))
    assert is_tiled_still(tmp_path / "a.heic")
    assert is_tiled_still(avif(tmp_path / "a.avif"))
    (tmp_path / "moving.heic").write_bytes(b"\0\0\0\x18ftyphevc")
    assert not is_still(tmp_path / "moving.heic")
    assert not is_tiled_still(tmp_path / "moving.heic")
