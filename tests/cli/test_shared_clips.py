"""Every real and odd file through the command: a right video, or an error of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import Result

from media import VideoReader, probe
from tests.conftest import SHARED
from tests.workers.made import decode

pytestmark = pytest.mark.needs_shared

SECONDS = Fraction(1, 4)
CLIPS = [
    path
    for folder in ("natural", "awkward", "synthetic")
    for path in sorted((SHARED / "clips" / folder).glob("*"))
    if path.is_file()
]
REFUSED = {"truncated_no_moov.mp4": "unreadable_input", "corrupt_vp9_bitstream.webm": "no_frames"}


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_a_clip_gives_its_frames_or_its_own_error(
    path: Path, tmp_path: Path, dovetail: Callable[..., Result]
) -> None:
    arguments = (
        "-m",
        "bicubic",
        "-s",
        "1",
        "--preset",
        "ultrafast",
        "--duration",
        str(float(SECONDS)),
        "--json",
    )
    result = dovetail("upscale", path, tmp_path / "out.mp4", *arguments)
    report = json.loads(result.stdout)["results"][0]
    if path.name in REFUSED:
        assert result.exit_code == 3
        assert report["error"]["code"] == REFUSED[path.name]
        assert list(tmp_path.iterdir()) == []
        return
    assert result.exit_code == 0, result.stderr
    info = probe(path)
    with VideoReader(info, duration_seconds=SECONDS) as reader:
        expected = [(frame.pts, frame.duration) for frame in reader.frames()]
    written = decode(tmp_path / "out.mp4")
    tick = Fraction(1, 2) / 90_000
    assert len(written) == len(expected)
    for time, (pts, _) in zip(written.times, expected, strict=True):
        assert abs(time - pts * reader.time_base) <= tick
    assert abs(written.end - sum(expected[-1]) * reader.time_base) <= tick
    width, height = info.video.width, info.video.height
    assert written.size == (width + width % 2, height + height % 2)
