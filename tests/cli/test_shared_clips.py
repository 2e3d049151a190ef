"""Every real and odd file through the command: the frames that the reading tests count, or the reader's
error."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import Result

from media import MediaError, MediaInfo, VideoReader, probe
from tests.conftest import SHARED
from tests.thorough import sized
from tests.workers.made import decode

pytestmark = pytest.mark.needs_shared

SECONDS = Fraction(1, 4)
CLIPS = [
    path
    for folder in ("natural", "awkward", "synthetic")
    for path in sorted((SHARED / "clips" / folder).glob("*"))
    if path.is_file()
]


@pytest.mark.parametrize("path", sized(CLIPS, brief=CLIPS[::3]), ids=lambda path: path.name)
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
    info, expected, code = _read(path)
    if code is not None:
        assert result.exit_code == 3
        assert report["error"]["code"] == code
        assert list(tmp_path.iterdir()) == []
        return
    assert info is not None
    assert result.exit_code == 0, result.stderr
    written = decode(tmp_path / "out.mp4")
    tick = Fraction(1, 2) / 90_000
    assert len(written) == len(expected)
    for time, (pts, _) in zip(written.times, expected, strict=True):
        assert abs(time - pts) <= tick
    assert abs(written.end - sum(expected[-1])) <= tick
    width, height = info.video.width, info.video.height
    assert written.size == (width + width % 2, height + height % 2)


def _read(path: Path) -> tuple[MediaInfo | None, list[tuple[Fraction, Fraction]], str | None]:
    """Times and durations in seconds by the reader alone, or its error's code."""
    try:
        info = probe(path)
        with VideoReader(info, duration_seconds=SECONDS) as reader:
            base = reader.time_base
            return info, [(frame.pts * base, frame.duration * base) for frame in reader.frames()], None
    except MediaError as error:
        return None, [], error.code
