"""What will be lost is named by `probe`, before anything is upscaled."""

from dataclasses import replace
from pathlib import Path

import av
import pytest

from media import AudioStreamInfo, OtherStreamInfo, SubtitleStreamInfo, probe
from media._dolby_vision import find_profile
from media._losses import describe_lost_streams, describe_output_losses
from media.sandbox import sandboxed_probe
from tests.media.breaks import end_to_end
from tests.media.clips import moving_pictures, write_clip
from tests.media.sources import Sound, Text, make_source

PROFILE_5, PROFILE_8 = b"dvcC\x01\x00\x0a\x05", b"dvvC\x01\x00\x10\x05"
TS_PROFILE_5 = b"\x05\x04DOVI\x09\x02\x00\x01\xb0\x05\x01\x00\x0a\x05\x00"


def write_dolby_vision(path: Path, record: bytes) -> Path:
    """A film with a record of Dolby Vision behind it, in a box that nobody reads."""
    data = write_clip(path, moving_pictures(3)).read_bytes()
    box = record.ljust(28, b"\0")
    path.write_bytes(data + (len(box) + 4).to_bytes(4, "big") + box)
    return path


def test_nothing_is_said_of_what_comes_along(tmp_path: Path) -> None:
    path = make_source(
        tmp_path / "a.mkv", sounds=[Sound("aac")], texts=[Text("subrip", [(0, 1000, "hi")])], cover=False
    )
    assert probe(path).warnings == ()


def test_subtitles_that_are_pictures_data_and_lost_sound_are_named(tmp_path: Path) -> None:
    info = replace(
        probe(make_source(tmp_path / "a.mp4")),
        subtitles=(
            SubtitleStreamInfo(index=1, codec="hdmv_pgs_subtitle", is_text=False, language="eng"),
            SubtitleStreamInfo(index=2, codec="subrip", is_text=True),
            SubtitleStreamInfo(index=3, codec="dvb_subtitle", is_text=False),
        ),
        audio=(AudioStreamInfo(index=4, codec="unknown", sample_rate=0, channels=0, layout="unknown"),),
        others=(
            OtherStreamInfo(index=5, kind="data", codec="unknown", name="GoPro TCD"),
            OtherStreamInfo(index=6, kind="attached_picture", codec="mjpeg"),
        ),
        other_programmes=(3,),
    )
    assert [words.rpartition(": ")[2] for words in describe_lost_streams(info)] == [
        "stream 1 (hdmv_pgs_subtitle, eng)",
        "stream 5 (data GoPro TCD)",
        "stream 4",
    ]


def test_attachments_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
        for number in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    assert any("font.ttf" in warning for warning in probe(path).warnings)


@pytest.mark.parametrize(
    ("data", "profile"),
    [
        (PROFILE_5, 5),
        (PROFILE_8, 8),
        (b"\x41\xe7\x84dvcC\x41\xed\x98\x01\x00\x0a\x05", 5),
        (b"dvcC is a word", None),
        (b"dvcC", None),
        (b"dvcC...." + PROFILE_5, 5),
        (TS_PROFILE_5, 5),
        (b"\x05\x04DOVI is a name", None),
        (b"\x05\x04DOVI", None),
    ],
)
def test_records_of_dolby_vision(data: bytes, profile: int | None) -> None:
    assert find_profile(b"head" + data) == profile


@pytest.mark.parametrize(("record", "profile"), [(PROFILE_5, 5), (PROFILE_8, 8)])
def test_dolby_vision_without_a_base_picture_is_warned_of(
    tmp_path: Path, record: bytes, profile: int
) -> None:
    info = probe(write_dolby_vision(tmp_path / "a.mp4", record))
    assert info.video.dolby_vision_profile == profile
    assert any("profile 5" in warning for warning in info.warnings) is (profile == 5)


def test_dolby_vision_of_a_transport_stream_is_found(tmp_path: Path) -> None:
    path = make_source(tmp_path / "a.ts")
    assert probe(path).video.dolby_vision_profile is None
    null_packet = (b"\x47\x1f\xff\x10" + TS_PROFILE_5).ljust(188, b"\xff")
    path.write_bytes(path.read_bytes() + null_packet)
    assert probe(path).video.dolby_vision_profile == 5


def test_a_sandboxed_probe_finds_the_same(tmp_path: Path) -> None:
    path = end_to_end(tmp_path / "a.ts", 1.0, 7200.0, sounds=[Sound("aac")])
    assert sandboxed_probe(path) == probe(path)
    assert sandboxed_probe(path, keep_gaps=True) == probe(path, keep_gaps=True)
    assert sandboxed_probe(path, is_quick=True).stretches == ()


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reported/dolby_vision_p5.mp4", "profile 5"),
        ("awkward/subs_pgs_bad_timestamps.mkv", "2 (hdmv_pgs_subtitle, eng)"),
    ],
)
def test_reported_files(shared_dir: Path, name: str, words: str) -> None:
    assert any(words in warning for warning in probe(shared_dir / "clips" / name).warnings)


def test_tags_without_a_place_are_named_before_the_work(tmp_path: Path) -> None:
    info = probe(make_source(tmp_path / "a.mkv", tags={"title": "Film", "director": "A", "scanner": "B"}))
    said = {
        name: list(describe_output_losses(info.video, "h264", Path(name), tags=info.metadata))
        for name in ("a.mp4", "a.mov", "a.mkv", "%d.png")
    }
    assert said.pop("a.mp4") == ["MP4 has no place for these tags: director, scanner"]
    assert said == {
        "a.mov": ["MOV has no place for these tags: director, scanner"],
        "a.mkv": [],
        "%d.png": [],
    }


def test_a_track_of_time_codes_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as output:
        output.metadata["timecode"] = "10:00:00:00"
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    (words,) = probe(path).warnings
    assert words.endswith("stream 1 (data timecode 10:00:00:00)")
