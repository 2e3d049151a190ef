"""What lies inside and beside the pictures of a source reaches the output of a run, or is warned of."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media import EncodeOptions
from pipelines.model import Model
from tests.media.captioned import by_time, captions_in, write_captioned
from tests.workers.run.test_resume import options, stop_after
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
    wanted = replace(options(), encode=EncodeOptions(codec="prores"))
    report = upscale_file(source, tmp_path / "out.mov", model=bicubic, options=wanted)
    assert [words for words in report.warnings if "captions" in words] == report.warnings
    assert len(report.warnings) == 1
