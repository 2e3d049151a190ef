"""What lies inside and beside the pictures of a source reaches the output of a run, or is warned of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from media import EncodeOptions, probe
from media.info import SphericalMapping
from media.sizes import SizeRequest
from pipelines.model import Model
from tests.media.captioned import by_time, captions_in, write_captioned
from tests.media.spherical import cbmp, equi, said_of, st3d, sv3d, write_with_box
from tests.workers.made import options
from tests.workers.run.test_resume import stop_after
from workers.run.upscaler import upscale_file


def test_captions_come_through_a_run_that_is_resumed(tmp_path: Path, bicubic: Model) -> None:
    source, out = tmp_path / "a.ts", tmp_path / "out.mp4"
    captions = write_captioned(source, 24)
    wanted = options(segment_seconds=Fraction(1, 4))
    stop_after(source, out, 17, model=bicubic, wanted=wanted)
    report = upscale_file(source, out, model=bicubic, options=wanted, existing="resume")
    assert 0 < report.num_resumed_frames < 24
    assert report.num_segments > 1
    assert captions_in(out) == by_time(captions)
    assert report.warnings == []


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_captions_of_a_part_stay_with_their_frames(tmp_path: Path, bicubic: Model, suffix: str) -> None:
    source, out = tmp_path / "a.ts", tmp_path / f"out{suffix}"
    captions = write_captioned(source, 20)
    wanted = options(start_seconds=Fraction(5, 25), duration_seconds=Fraction(10, 25))
    upscale_file(source, out, model=bicubic, options=wanted)
    assert captions_in(out) == by_time(captions[:15], first=5)


def test_captions_that_cannot_be_carried_are_warned_of_once(tmp_path: Path, bicubic: Model) -> None:
    source = tmp_path / "a.ts"
    write_captioned(source, 3)
    wanted = options(encode=EncodeOptions(codec="prores"))
    report = upscale_file(source, tmp_path / "out.mov", model=bicubic, options=wanted)
    assert [words for words in report.warnings if "captions" in words] == report.warnings
    assert len(report.warnings) == 1


def test_a_spherical_picture_stays_one_and_its_comparison_is_flat(tmp_path: Path, bicubic: Model) -> None:
    source = write_with_box(tmp_path / "a.mp4", st3d(1) + sv3d(equi()))
    wanted = options(use_compare_video=True)
    report = upscale_file(source, tmp_path / "out.mp4", model=bicubic, options=wanted)
    assert report.warnings == []
    assert said_of(tmp_path / "out.mp4") == said_of(source) != {}
    assert report.output is not None
    assert report.output.compare_video is not None
    assert said_of(report.output.compare_video) == {}


def test_the_padding_of_a_cubemap_grows_with_its_faces(tmp_path: Path, bicubic: Model) -> None:
    source = write_with_box(tmp_path / "a.mp4", sv3d(cbmp(6)))
    wanted = options(size=SizeRequest(scale=Fraction(3, 2)))
    upscale_file(source, tmp_path / "out.mp4", model=bicubic, options=wanted)
    spherical = probe(tmp_path / "out.mp4").video.spherical
    assert spherical == SphericalMapping(projection="cubemap", padding=9)


def test_frames_as_files_are_said_to_be_flat(tmp_path: Path, bicubic: Model) -> None:
    source = write_with_box(tmp_path / "a.mp4", st3d(1) + sv3d(equi()))
    wanted = options(encode=EncodeOptions(codec="png"))
    report = upscale_file(source, tmp_path / "%04d.png", model=bicubic, options=wanted)
    assert [word for words in report.warnings for word in ("spherical", "3D") if word in words] == [
        "spherical",
        "3D",
    ]
