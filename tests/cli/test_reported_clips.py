"""The files that users of such tools report as broken, in one run of the command: the right value of each, as
`EXPECTED.md` beside them has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.conftest import SHARED
from tests.workers.made import decode

pytestmark = pytest.mark.needs_shared

REPORTED = SHARED / "clips" / "reported"

# Size, number of frames, and words of the warnings in their order.
MADE: dict[str, tuple[tuple[int, int], int, list[str]]] = {
    "alpha_zero_rgb32.avi": ((192, 128), 5, ["the picture is shown opaque"]),
    "animated.webp": ((128, 96), 5, []),
    "aspect_changes.ts": ((192, 128), 30, ["the shape of the picture changes", "time stamps were doubled"]),
    "audio_stereo_then_51.ts": ((192, 128), 20, ["its channels or rate change"]),
    "concatenated.ts": ((192, 128), 30, ["time stamps begin anew"]),
    "late_audio_mono.ts": ((192, 128), 20, []),
    "mkv_pixel_crop.mkv": ((192, 96), 5, []),
    "packed_bframes.avi": ((192, 128), 12, []),
    "pcm_two_centres.mov": ((128, 96), 3, []),
    "pcm_two_stereo_pairs.mov": ((128, 96), 3, []),
    "progressive_then_interlaced.ts": ((192, 128), 45, ["--no-deinterlace", "time stamps were doubled"]),
    "spherical.mp4": ((256, 128), 4, []),
    "thumbnail_stream_first.mp4": ((256, 192), 6, ["--video-stream"]),
    "time_jump_2h.ts": ((192, 128), 30, ["gaps are closed to one frame"]),
    "two_programmes.ts": ((192, 128), 8, ["--video-stream"]),
    "white_rgb555.avi": ((128, 96), 2, []),
}
REFUSED = {"dolby_vision_p5.mp4": "profile 5", "encrypted_cenc.mp4": "encrypted (DRM)"}
# Seconds of sound, and its channels.
SOUND = {
    "audio_stereo_then_51.ts": (2.0, 6),
    "concatenated.ts": (3.0, 1),
    "late_audio_mono.ts": (8.0, 1),
    "pcm_two_centres.mov": (0.3, 2),
    "pcm_two_stereo_pairs.mov": (0.3, 2),
    "thumbnail_stream_first.mp4": (0.6, 1),
    "time_jump_2h.ts": (3.0, 1),
    "two_programmes.ts": (0.8, 1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """Of a run over the folder."""
    arguments = ["upscale", str(REPORTED), str(folder), "-m", "bicubic", "-s", "2", "--preset", "ultrafast"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 7, result.stderr
    return {Path(each["source"]).name: each for each in json.loads(result.stdout)["results"]}


def test_every_file_is_made_or_refused(report: dict[str, Any]) -> None:
    assert {name: each["status"] for name, each in report.items()} == {
        **dict.fromkeys(MADE, "done"),
        **dict.fromkeys(REFUSED, "failed"),
    }


@pytest.mark.parametrize("name", MADE)
def test_a_film_is_as_its_owner_made_it(name: str, report: dict[str, Any]) -> None:
    size, num_frames, warnings = MADE[name]
    output = report[name]["output"]
    assert ((output["width"], output["height"]), output["num_frames"]) == (size, num_frames)
    assert len(decode(Path(output["path"]))) == num_frames
    found = report[name]["warnings"]
    assert len(found) == len(warnings)
    assert all(words in warning for words, warning in zip(warnings, found, strict=True)), found


@pytest.mark.parametrize("name", SOUND)
def test_its_sound_is_whole_and_decodes(name: str, report: dict[str, Any]) -> None:
    seconds, num_channels = SOUND[name]
    with av.open(report[name]["output"]["path"]) as container:
        assert len(container.streams.audio) == 1
        frames = list(container.decode(audio=0))
    assert {frame.layout.nb_channels for frame in frames} == {num_channels}
    found = sum(frame.samples / frame.sample_rate for frame in frames)
    assert found == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused_with_the_reason(name: str, report: dict[str, Any]) -> None:
    assert REFUSED[name] in report[name]["error"]["message"]


def test_colours_times_and_shape_are_right(report: dict[str, Any]) -> None:
    def first_picture(name: str) -> Any:
        with av.open(report[name]["output"]["path"]) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24")

    assert first_picture("white_rgb555.avi").min() == 255
    assert first_picture("alpha_zero_rgb32.avi").mean((0, 1)) == pytest.approx([124, 126, 126], abs=2)
    times = decode(Path(report["packed_bframes.avi"]["output"]["path"])).times
    assert [float(time) for time in times] == pytest.approx([n / 10 for n in range(12)])
    with av.open(report["aspect_changes.ts"]["output"]["path"]) as container:
        assert container.streams.video[0].display_aspect_ratio == pytest.approx(16 / 9, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "words"), [("subs_pgs_bad_timestamps.mkv", "subtitles that are pictures: stream 2")]
)
def test_what_is_lost_is_named_before_and_after(
    name: str, words: str, tmp_path: Path, dovetail: Callable[..., Result]
) -> None:
    source = SHARED / "clips" / "awkward" / name
    probed = dovetail("probe", source)
    assert words in " ".join((probed.stdout + probed.stderr).split())
    arguments = ("-m", "bicubic", "-s", "1", "--preset", "ultrafast", "--duration", "0.2", "--json")
    made = dovetail("upscale", source, tmp_path / "out.mp4", *arguments)
    assert made.exit_code == 0, made.stderr
    assert any(words in warning for warning in json.loads(made.stdout)["results"][0]["warnings"])
