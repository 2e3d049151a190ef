"""Pictures on the command line: stills to stills, rows of pictures to videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from tests.media.test_pictures_as_video import make_series
from tests.stills import heif
from tests.workers.made import decode

Dovetail = Callable[..., Result]
SMALL = ("-m", "bicubic", "-s", "2")


def test_a_still_gives_a_still(tmp_path: Path, dovetail: Dovetail) -> None:
    Image.new("RGBA", (48, 32), (200, 100, 50, 128)).save(tmp_path / "a.png")
    result = dovetail("upscale", tmp_path / "a.png", tmp_path / "b.webp", *SMALL, "--json", "--compare-image")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert (report["output"]["width"], report["output"]["height"]) == (96, 64)
    with Image.open(tmp_path / "b.webp") as made:
        assert (made.size, made.mode) == ((96, 64), "RGBA")
    assert (tmp_path / "b.compare.png").exists()


def test_an_output_is_not_replaced_unasked_and_kept_by_resume(tmp_path: Path, dovetail: Dovetail) -> None:
    (source,) = make_series(tmp_path, [1])
    (tmp_path / "b.png").write_text("mine")
    refused = dovetail("upscale", source, tmp_path / "b.png", *SMALL)
    assert refused.exit_code != 0
    assert "--overwrite" in refused.stderr
    assert dovetail("upscale", source, tmp_path / "b.png", *SMALL, "--resume").exit_code == 0
    assert (tmp_path / "b.png").read_text() == "mine"
    assert dovetail("upscale", source, tmp_path / "b.png", *SMALL, "--overwrite").exit_code == 0


def test_a_folder_of_pictures_and_videos_gives_both(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    folder = tmp_path / "in"
    make_series(folder, [1], "{}.jpg")
    (folder / "v.mp4").write_bytes(clip.read_bytes())
    (folder / "bad.png").write_text("no picture")
    result = dovetail(
        "upscale", folder, f"{tmp_path}/out/", *SMALL, "--duration", "0.2", "--preset", "ultrafast"
    )
    assert result.exit_code == 7
    assert "bad.png" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.jpg", "v.mp4"]


def test_numbered_pictures_are_a_video(tmp_path: Path, dovetail: Dovetail) -> None:
    make_series(tmp_path / "frames", [1, 2, 3, 4])
    pattern = tmp_path / "frames" / "f%03d.png"
    result = dovetail("upscale", pattern, tmp_path / "out.mp4", *SMALL, "--fps", "10")
    assert result.exit_code == 0, result.stderr
    assert decode(tmp_path / "out.mp4").times == [Fraction(n, 10) for n in range(4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "out.mp4"]


def test_a_folder_of_only_pictures_is_a_video_if_the_output_is_one(
    tmp_path: Path, dovetail: Dovetail
) -> None:
    make_series(tmp_path / "frames", [1, 2, 3])
    assert dovetail("upscale", tmp_path / "frames", tmp_path / "out.mp4", *SMALL).exit_code == 0
    assert len(decode(tmp_path / "out.mp4").times) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{frames}/f%03d.png", "{tmp}/out.png"], "become one video"),
        (["{frames}/g%03d.png", "{tmp}/out.mp4"], "no picture is called"),
        (["{frames}/f001.png", "{tmp}/out.gif"], "%06d.png, .avif"),
        (["{frames}/f001.png", "{frames}/f002.png", "{tmp}/out.png"], "several inputs need a folder"),
        (["{frames}/f001.png", "{tmp}/out.png", "--fps", "24"], "--fps is for pictures"),
        (["{frames}/f%03d.png", "{tmp}/out.mp4", "--fps", "0"], "1/3600 to 1000"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, tmp_path: Path, dovetail: Dovetail
) -> None:
    make_series(tmp_path / "frames", [1, 2])
    filled = [part.format(frames=tmp_path / "frames", tmp=tmp_path) for part in arguments]
    result = dovetail("upscale", *filled, *SMALL)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_missing_output_folder_is_an_error_in_the_report(tmp_path: Path, dovetail: Dovetail) -> None:
    make_series(tmp_path / "frames", [1, 2])
    result = dovetail(
        "upscale", tmp_path / "frames" / "f%03d.png", tmp_path / "no" / "out.mp4", *SMALL, "--json"
    )
    assert "does not exist" in json.loads(result.stdout)["results"][0]["error"]["message"]


def test_a_photograph_of_a_phone_gives_a_jpeg(tmp_path: Path, dovetail: Dovetail) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    heif(folder / "photo.HEIC", tile=128)
    assert dovetail("upscale", folder, f"{tmp_path}/out/", *SMALL).exit_code == 0
    with Image.open(tmp_path / "out" / "photo.jpg") as made:
        assert (made.format, made.size) == ("JPEG", (480, 704))
    refused = dovetail("upscale", folder / "photo.HEIC", tmp_path / "large.heic", *SMALL)
    assert refused.exit_code == 2
    assert ".jpg" in refused.stderr


def test_a_photograph_in_tiles_is_whole_as_a_video_too(tmp_path: Path, dovetail: Dovetail) -> None:
    source = heif(tmp_path / "photo.heic", tile=128)
    result = dovetail("upscale", source, tmp_path / "out.mp4", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert decode(tmp_path / "out.mp4").size == (480, 704)
