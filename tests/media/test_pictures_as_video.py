"""Rows of pictures and animations that become videos: which files, in which order, at which times."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from PIL import Image

from media import VideoReader, probe
from media._tiff_headers import has_associated_alpha
from media.errors import UnreadableInputError
from media.picture_files import (
    is_animated_webp,
    is_sequence_pattern,
    is_still,
    numbered_pictures,
    pictures_of_folder,
)
from media.picture_packing import pack_animation, pack_pictures


def make_series(folder: Path, numbers: list[int], name: str = "f{:03d}.png") -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name.format(number) for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        Image.new("RGB", (48, 32), (20 * number, 20 * number, 20 * number)).save(path)
    return paths


def test_a_pattern_means_its_numbers_in_order(tmp_path: Path) -> None:
    paths = make_series(tmp_path, [8, 9, 10, 11])
    make_series(tmp_path, [1], "other{:03d}.png")
    assert is_sequence_pattern(str(tmp_path / "f%03d.png"))
    assert list(numbered_pictures(str(tmp_path / "f%03d.png"))) == paths
    unpadded = make_series(tmp_path / "u", [9, 10], "{}.jpg")
    assert list(numbered_pictures(str(tmp_path / "u" / "%d.jpg"))) == unpadded


def test_gaps_and_empty_patterns_are_refused(tmp_path: Path) -> None:
    make_series(tmp_path, [1, 2, 4])
    with pytest.raises(UnreadableInputError, match="3 is missing"):
        numbered_pictures(str(tmp_path / "f%03d.png"))
    with pytest.raises(UnreadableInputError, match="no picture"):
        numbered_pictures(str(tmp_path / "g%03d.png"))
    with pytest.raises(UnreadableInputError, match="several places"):
        numbered_pictures(str(tmp_path / "%d-%d.png"))


def test_a_file_that_is_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "%d.png")
    assert not is_sequence_pattern(str(tmp_path / "%d.png"))


def test_a_folder_of_only_pictures_is_a_row_by_number(tmp_path: Path) -> None:
    paths = make_series(tmp_path, [2, 10, 1], "{}.png")
    (tmp_path / ".hidden").touch()
    assert pictures_of_folder(tmp_path) == (paths[2], paths[0], paths[1])
    (tmp_path / "notes.txt").touch()
    assert pictures_of_folder(tmp_path) is None


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "avif"])
def test_every_picture_becomes_a_frame_at_its_time(suffix: str, tmp_path: Path) -> None:
    paths = make_series(tmp_path, [2, 3, 4, 5, 6], f"{{}}.{suffix}")
    pack_pictures(paths, Fraction(24000, 1001), tmp_path / "packed.mov")
    info = probe(tmp_path / "packed.mov")
    assert info.video.rate == Fraction(24000, 1001)
    with VideoReader(info) as reader:
        frames = list(reader.frames())
    assert [frame.pts * info.video.time_base for frame in frames] == [
        Fraction(1001 * n, 24000) for n in range(5)
    ]
    levels = [float(frame.image.mean()) * 255 for frame in frames]
    assert levels == pytest.approx([40, 60, 80, 100, 120], abs=1.5)


def test_pictures_of_several_kinds_are_one_video(tmp_path: Path) -> None:
    paths = [*make_series(tmp_path, [1], "{}.png"), *make_series(tmp_path, [2], "{}.jpg")]
    pack_pictures(paths, Fraction(10), tmp_path / "packed.mov")
    with VideoReader(probe(tmp_path / "packed.mov")) as reader:
        assert len(list(reader.frames())) == 2


def test_a_name_that_lies_about_its_kind_harms_nothing(tmp_path: Path) -> None:
    paths = make_series(tmp_path, [1, 2], "{}.jpg")
    named = [path.rename(path.with_suffix(".png")) for path in paths]
    pack_pictures(named, Fraction(10), tmp_path / "packed.mov")
    info = probe(tmp_path / "packed.mov")
    assert info.video.codec == "mjpeg"
    with VideoReader(info) as reader:
        assert len(list(reader.frames())) == 2


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b""]
)
def test_what_only_is_called_a_picture_is_opened_as_nothing_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(UnreadableInputError, match=r"1\.png"):
        pack_pictures([tmp_path / "1.png"], Fraction(10), tmp_path / "packed.mov")


def test_the_same_pictures_are_the_same_file(tmp_path: Path) -> None:
    paths = make_series(tmp_path, [1, 2, 3])
    packed = [tmp_path / "a.mov", tmp_path / "b.mov"]
    for path in packed:
        pack_pictures(paths, Fraction(25), path)
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert packed[0].stat().st_mtime_ns == packed[1].stat().st_mtime_ns


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    paths = make_series(tmp_path, [1, 2], "{}.webp")
    paths[1].write_bytes(b"RIFF")
    with pytest.raises(UnreadableInputError, match=r"2\.webp"):
        pack_pictures(paths, Fraction(25), tmp_path / "packed.mov")
    assert not (tmp_path / "packed.mov").exists()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("extrasample", ["assocalpha", "unassalpha"])
def test_associated_alpha_of_tiffs_is_taken_out_of_their_colours(
    extrasample: Literal["assocalpha", "unassalpha"],
    depth: int,
    byteorder: Literal["<", ">"],
    tmp_path: Path,
) -> None:
    kind = np.uint8 if depth == 8 else np.uint16
    levels = np.round(np.full((8, 8, 4), [0.25, 0.125, 0.5, 0.5]) * (2**depth - 1)).astype(kind)
    paths = [tmp_path / f"f{number}.tif" for number in range(3)]
    for path in paths:
        tifffile.imwrite(path, levels, photometric="rgb", extrasamples=[extrasample], byteorder=byteorder)
    pack_pictures(paths, Fraction(25), tmp_path / "a.mov")
    info = probe(tmp_path / "a.mov")
    is_associated = extrasample == "assocalpha"
    assert info.video.alpha == ("premultiplied" if is_associated else "straight")
    with VideoReader(info, keep_alpha=True) as reader:
        frames = list(reader.frames())
    expected = [0.5, 0.25, 1.0] if is_associated else [0.25, 0.125, 0.5]
    assert len(frames) == 3
    for frame in frames:
        assert frame.alpha is not None
        assert frame.alpha.mean() == pytest.approx(0.5, abs=1 / 255)
        assert frame.image.mean(dim=(1, 2)).tolist() == pytest.approx(expected, abs=2 / 255)


def test_a_tiff_that_ends_early_or_points_nowhere_has_no_associated_alpha() -> None:
    entry = struct.pack("<2HI", 338, 3, 1) + struct.pack("<2H", 1, 0)
    whole = b"II*\0" + struct.pack("<IH", 8, 1) + entry
    assert has_associated_alpha(whole)
    assert not any(has_associated_alpha(whole[:length]) for length in range(len(whole) - 2))
    assert not has_associated_alpha(b"II*\0" + struct.pack("<I", 0xFFFFFFFF))


def test_an_animated_webp_keeps_its_times_and_its_transparency(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (48, 32), (200, 0, 0, alpha)) for alpha in (0, 128, 255)]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 100, 250], lossless=True)
    assert is_animated_webp(path)
    assert not is_still(path)
    pack_animation(path, tmp_path / "a.mov")
    info = probe(tmp_path / "a.mov")
    assert info.video.has_alpha
    with VideoReader(info) as reader:
        times = [
            (frame.pts * info.video.time_base, frame.duration * info.video.time_base)
            for frame in reader.frames()
        ]
    assert times == [
        (0, Fraction(40, 1000)),
        (Fraction(40, 1000), Fraction(1, 10)),
        (Fraction(140, 1000), Fraction(1, 4)),
    ]


def test_a_still_webp_is_a_still(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp")
    assert is_still(tmp_path / "a.webp")
    assert not is_animated_webp(tmp_path / "a.webp")
    assert not is_animated_webp(tmp_path / "missing.webp")
    assert not is_still(tmp_path / "a.mp4")
