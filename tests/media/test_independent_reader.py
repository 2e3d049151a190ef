"""Outputs as Debian's ffprobe and ffmpeg see them: another version and build than what has written them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from media import EncodeOptions, SegmentWriter, join_segments
from media.containers import CONTAINERS
from media.info import ContentLight, MasteringDisplay
from media.probing import probe
from tests.media.sources import (
    HDR10,
    HEIGHT,
    SDR,
    WIDTH,
    Sound,
    Text,
    make_source,
    picture,
    video_format,
    write_segment,
)

# Of NTSC, with a frame that is shown twice as long.
TICK = Fraction(1001, 30000)
PTS = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]
PIXEL_SHAPE = Fraction(4, 3)
SECONDS = 0.44
QUARTER_TURN = (0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
GRADED_ON = MasteringDisplay(
    red=(Fraction(708, 1000), Fraction(292, 1000)),
    green=(Fraction(17, 100), Fraction(797, 1000)),
    blue=(Fraction(131, 1000), Fraction(46, 1000)),
    white_point=(Fraction(3127, 10000), Fraction(329, 1000)),
    min_luminance=Fraction(1, 200),
    max_luminance=Fraction(1000),
)
LIGHT = ContentLight(1000, 400)
SDR_NAMES = ("bt709", "bt709", "bt709", "tv")
HDR_NAMES = ("bt2020nc", "bt2020", "smpte2084", "tv")


@dataclass(frozen=True)
class Case:
    """A kind of output.

    Attributes:
        suffix: Of its name.
        codec: Of its video.
        pix_fmt: As the reader sees it.
        tag: Of the video, in MP4 and MOV.
        is_hdr: Whether it is HDR10.
        options: For the encoder.
    """

    suffix: str
    codec: str
    pix_fmt: str
    tag: str = ""
    is_hdr: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.codec}-{self.pix_fmt}{self.suffix}"


H264 = Case(".mp4", "h264", "yuv420p", "avc1", options={"preset": "ultrafast"})
H265 = Case(".mp4", "h265", "yuv420p10le", "hvc1", True, {"preset": "ultrafast"})
AV1 = Case(".mp4", "av1", "yuv420p10le", "av01", True, {"preset": "12"})
VP9 = Case(".mp4", "vp9", "yuv420p", "vp09", options={"preset": "ultrafast"})
CASES = [
    H264,
    H265,
    AV1,
    VP9,
    *(replace(case, suffix=".mkv") for case in (H264, H265, AV1, VP9)),
    replace(H264, suffix=".mov"),
    replace(H265, suffix=".mov"),
    Case(".mov", "prores", "yuv422p10le", "apch"),
    # FFmpeg decodes 4444 with 12 bits, whatever it was made of.
    Case(".mov", "prores", "yuv444p12le", "ap4h", options={"pix_fmt": "yuv444p10le"}),
    replace(AV1, suffix=".webm"),
    replace(VP9, suffix=".webm"),
    replace(VP9, suffix=".webm", pix_fmt="yuv444p", options={"pix_fmt": "yuv444p"}),
]
FRAME_CASES = [
    Case(".png", "png", "rgb24"),
    Case(".png", "png", "rgb48be", options={"pix_fmt": "rgb48be"}),
    Case(".tif", "tiff", "rgb48le"),
]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if shutil.which("ffprobe") and shutil.which("ffmpeg"):
        return
    reason = "there is no ffprobe: run scripts/install_test_tools.sh"
    if os.environ.get("DOVETAIL_REQUIRE_FFPROBE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with everything that outputs carry."""
    return make_source(
        tmp_path_factory.mktemp("source") / "s.mkv",
        seconds=SECONDS,
        sounds=[
            Sound("aac", tags={"language": "ger", "title": "Film"}, disposition=1),
            Sound("aac", tags={"language": "swe"}),
        ],
        texts=[Text("subrip", [(100, 300, "Hello")], tags={"language": "fre", "title": "Titles"})],
        chapters=[(0, 0.2, "One"), (0.2, 0.4, "Two")],
        tags={"title": "A film", "artist": "Somebody", "comment": "Words"},
        display_matrix=QUARTER_TURN,
    )


def run(*command: str | Path) -> str:
    """What a program prints; it may not complain."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ffprobe(path: Path) -> dict[str, Any]:
    shown = ("-show_streams", "-show_format", "-show_frames", "-show_chapters")
    return dict(json.loads(run("ffprobe", "-v", "error", *shown, "-of", "json", path)))


def decoded(path: Path) -> list[str]:
    """Digests of the frames; the sound is decoded too."""
    video = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-")
    sound = ("-map", "0:a?", "-f", "null", "-")
    if path.suffix in (".png", ".tif"):
        sound = ()
    strict = ("ffmpeg", "-nostdin", "-v", "error", "-xerror", "-noautorotate", "-i", path)
    lines = run(*strict, *video, *sound).splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def made_of(paths: list[Path]) -> list[str]:
    """Digests of the frames of segments, as the wheel's FFmpeg decodes them."""
    digests = []
    for path in paths:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                digest = hashlib.md5()
                for plane in frame.planes:
                    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                    sample = 1 if frame.format.components[0].bits == 8 else 2
                    channels = len(frame.format.components) if len(frame.planes) == 1 else 1
                    digest.update(rows[:, : plane.width * sample * channels].tobytes())
                digests.append(digest.hexdigest())
    return digests


def write_segments(tmp_path: Path, case: Case) -> list[Path]:
    codec: Any = case.codec
    options = EncodeOptions(codec=codec, num_threads=1, **case.options)
    changes: dict[str, Any] = {"rate": 1 / TICK, "time_base": TICK, "sample_aspect_ratio": PIXEL_SHAPE}
    if case.is_hdr:
        changes |= {"mastering_display": GRADED_ON, "content_light": LIGHT, "bit_depth": 10}
    changes["color"] = HDR10 if case.is_hdr else SDR
    parts = {"0.seg": PTS[:6], "1.seg": PTS[6:]}
    return [
        write_segment(tmp_path / name, pts, options=options, **changes).path for name, pts in parts.items()
    ]


def of_type(found: dict[str, Any], group: str, kind: str) -> list[dict[str, Any]]:
    key = "media_type" if group == "frames" else "codec_type"
    return [item for item in found[group] if item[key] == kind]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_reader_finds_what_was_written(case: Case, source: Path, tmp_path: Path) -> None:
    segments = write_segments(tmp_path, case)
    path = tmp_path / f"out{case.suffix}"
    join_segments(segments, path, source=probe(source))
    found = ffprobe(path)
    check_video(case, found)
    check_frames(case, found)
    check_sound(found)
    check_words(case, found)
    digests = decoded(path)
    assert len(set(digests)) == len(PTS)
    assert digests == made_of(segments)


def check_video(case: Case, found: dict[str, Any]) -> None:
    (video,) = of_type(found, "streams", "video")
    assert (video["width"], video["height"], video["pix_fmt"]) == (WIDTH, HEIGHT, case.pix_fmt)
    if case.tag:
        assert video["codec_tag_string"] == (case.tag if case.suffix in (".mp4", ".mov") else "[0][0][0][0]")
    names = video["color_space"], video["color_primaries"], video["color_transfer"], video["color_range"]
    assert names == (HDR_NAMES if case.is_hdr else SDR_NAMES)
    # ProRes has one place for chroma only, and VP9 says none.
    if case.codec not in ("prores", "vp9"):
        assert video["chroma_location"] == ("topleft" if case.is_hdr else "left")
    (turned,) = [data for data in video["side_data_list"] if data["side_data_type"] == "Display Matrix"]
    assert turned["rotation"] == -90
    assert video["disposition"]["default"] == 1
    assert abs(Fraction(video["r_frame_rate"]) * TICK - 1) < Fraction(1, 500)
    assert shape(video) == pytest.approx(float(PIXEL_SHAPE), rel=1e-2)


def shape(video: dict[str, Any]) -> float:
    return float(Fraction(video["sample_aspect_ratio"].replace(":", "/")))


def check_frames(case: Case, found: dict[str, Any]) -> None:
    (video,) = of_type(found, "streams", "video")
    frames = of_type(found, "frames", "video")
    time_base = Fraction(video["time_base"])
    wanted = [number * TICK for number in PTS]
    if case.suffix in (".mkv", ".webm"):
        wanted = [Fraction(round(1000 * time), 1000) for time in wanted]
    assert [frame["pts"] * time_base for frame in frames] == wanted
    assert not any(frame["interlaced_frame"] for frame in frames)
    if case.is_hdr and case.codec != "prores":
        check_light({data["side_data_type"]: data for data in frames[0]["side_data_list"]})


def check_light(data: dict[str, dict[str, Any]]) -> None:
    display, light = data["Mastering display metadata"], data["Content light level metadata"]
    values = {key: Fraction(value) for key, value in display.items() if key != "side_data_type"}
    for name, (x, y) in {
        "red": GRADED_ON.red,
        "green": GRADED_ON.green,
        "blue": GRADED_ON.blue,
        "white_point": GRADED_ON.white_point,
    }.items():
        assert abs(values[f"{name}_x"] - x) < 2e-5
        assert abs(values[f"{name}_y"] - y) < 2e-5
    assert abs(values["min_luminance"] - GRADED_ON.min_luminance) < 1e-4
    assert values["max_luminance"] == GRADED_ON.max_luminance
    assert (light["max_content"], light["max_average"]) == (LIGHT.max_content, LIGHT.max_average)


def check_sound(found: dict[str, Any]) -> None:
    for stream in of_type(found, "streams", "audio"):
        frames = [frame for frame in found["frames"] if frame.get("stream_index") == stream["index"]]
        begin = float(frames[0]["pts_time"])
        num_samples = sum(frame["nb_samples"] for frame in frames)
        # What an encoder puts in front is either cut off or lies before 0.
        assert -0.022 <= begin <= 0.001
        assert abs(begin + num_samples / 48_000 - SECONDS) < 0.045


def check_words(case: Case, found: dict[str, Any]) -> None:
    tags = {key.lower(): value for key, value in found["format"]["tags"].items()}
    assert {key: tags.get(key) for key in ("title", "artist", "comment")} == {
        "title": "A film",
        "artist": "Somebody",
        "comment": "Words",
    }
    chapters = [(c["start_time"], c["end_time"], c["tags"]["title"]) for c in found["chapters"]]
    assert chapters == [("0.000000", "0.200000", "One"), ("0.200000", "0.400000", "Two")]
    sounds, texts = of_type(found, "streams", "audio"), of_type(found, "streams", "subtitle")
    # QuickTime numbers languages, and FFmpeg names its numbers in its own way.
    languages = ["ger", "sve", "fra"] if case.suffix == ".mov" else ["ger", "swe", "fre"]
    assert [stream["tags"].get("language") for stream in (*sounds, *texts)] == languages
    title = "title" if case.suffix in (".mkv", ".webm") else "handler_name"
    assert [stream["tags"].get(title) for stream in (sounds[0], texts[0])] == ["Film", "Titles"]
    assert [stream["disposition"]["default"] for stream in sounds] == [1, 0]


@pytest.mark.parametrize("case", FRAME_CASES, ids=str)
def test_another_reader_opens_every_frame_file(case: Case, source: Path, tmp_path: Path) -> None:
    segments = write_segments(tmp_path, case)
    pattern = tmp_path / f"%06d{case.suffix}"
    join_segments(segments, pattern, source=probe(source))
    found = ffprobe(pattern)
    (video,) = of_type(found, "streams", "video")
    assert (video["width"], video["height"], video["pix_fmt"]) == (WIDTH, HEIGHT, case.pix_fmt)
    assert len(of_type(found, "frames", "video")) == len(PTS)
    digests = decoded(pattern)
    assert len(set(digests)) == len(PTS)
    assert digests == made_of(segments)


def test_another_reader_sees_the_opacity(source: Path, tmp_path: Path) -> None:
    layout = video_format(has_alpha=True)
    ramp = torch.linspace(0, 1, WIDTH).expand(1, HEIGHT, WIDTH)
    with SegmentWriter(tmp_path / "0.seg", layout, EncodeOptions(codec="prores", num_threads=1)) as writer:
        writer.write(picture(0), 0, 1, alpha=ramp)
        writer.write(picture(1), 1, 1, alpha=ramp.round())
    path = tmp_path / "o.mov"
    join_segments([tmp_path / "0.seg"], path, source=probe(source))
    (video,) = of_type(ffprobe(path), "streams", "video")
    assert (video["pix_fmt"], video["codec_tag_string"], video["profile"]) == ("yuva444p12le", "ap4h", "4444")
    assert decoded(path) == made_of([tmp_path / "0.seg"])
    strict = ("ffmpeg", "-nostdin", "-v", "error", "-xerror", "-noautorotate", "-i", path, "-map", "0:v")
    run(*strict, "-vf", "alphaextract", "-pix_fmt", "gray10le", "-f", "rawvideo", tmp_path / "alpha.raw")
    planes = np.fromfile(tmp_path / "alpha.raw", np.uint16).reshape(2, HEIGHT, WIDTH) / 1023
    assert np.abs(planes[0] - ramp[0].numpy()).max() < 2 / 1023
    assert np.abs(planes[1] - ramp[0].round().numpy()).max() == 0


def test_every_container_and_codec_is_here() -> None:
    offered = {(container.suffix, codec) for container in CONTAINERS for codec in container.video}
    assert {(case.suffix, case.codec) for case in CASES} == offered
