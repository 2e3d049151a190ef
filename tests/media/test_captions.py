"""Closed captions inside the video go with their frames, and are named where they cannot."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from media import EncodeOptions, Frame, SegmentWriter, VideoReader, join_segments, probe
from media._caption_units import add_captions
from media._captions import CaptionQueue
from media._codecs import Codec
from media._losses import describe_output_losses
from media.sandbox import SandboxedReader
from tests.media.captioned import by_time, captions_in, write_captioned
from tests.media.clips import moving_pictures, write_clip
from tests.media.sources import picture, video_format

FULL = bytes([0xFC, 0, 0] * 31)
GIVEN = (b"\xfc\x94\x20", b"", FULL, bytes(range(60)), bytes(3), b"")
FAST = EncodeOptions(num_threads=1, preset="ultrafast")


def write_captions(
    path: Path, captions: tuple[bytes, ...] = GIVEN, *, first: int = 0, **changes: Any
) -> Path:
    """A segment of 64x64 with a frame for each."""
    options = replace(FAST, **changes)
    with SegmentWriter(path, video_format(width=64, height=64), options) as writer:
        for number, data in enumerate(captions, start=first):
            writer.write(picture(number, width=64, height=64), number, 1, captions=data)
        assert writer.warnings == ()
    return path


def captions_by_pts(frames: list[Frame]) -> dict[int, bytes]:
    return {frame.pts: frame.captions for frame in frames}


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_captions_are_decoded_again_as_they_were_given(tmp_path: Path, codec: str) -> None:
    path = write_captions(tmp_path / "a.mp4", codec=codec)
    assert captions_in(path) == by_time(GIVEN)


def test_vp9_has_no_place_for_captions_and_says_so(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path / "a.mp4", video_format(), EncodeOptions(codec="vp9")) as writer:
        writer.write(picture(0), 0, 1, captions=GIVEN[0])
        assert writer.warnings == (
            "closed captions inside the video are left out: VP9 has no place for them",
        )


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_more_captions_than_one_message_takes_become_two(tmp_path: Path, codec: str) -> None:
    many = (b"", FULL + bytes(27))
    assert captions_in(write_captions(tmp_path / "a.mp4", many, codec=codec)) == by_time(many)


def test_captions_change_nothing_but_themselves(tmp_path: Path) -> None:
    """Pictures and their times, and all bytes of a video without captions."""
    with_captions = write_captions(tmp_path / "a.mp4")
    without = write_captions(tmp_path / "b.mp4", (b"",) * len(GIVEN))
    frames = [
        [
            (frame.pts, frame.duration, frame.image.numpy().tobytes())
            for frame in VideoReader(probe(path)).frames()
        ]
        for path in (with_captions, without)
    ]
    assert frames[0] == frames[1]
    unit = len(b"\0\0\0\1\6") + len(b"\4\x0e\xb5\0\x31GA94\3\xc1\xff\xfc\x94\x20\xff\x80")
    assert with_captions.stat().st_size >= without.stat().st_size + unit


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_joined_segments_have_the_captions_of_each(tmp_path: Path, suffix: str) -> None:
    segments = [
        write_captions(tmp_path / "a.mp4", GIVEN[:4]),
        write_captions(tmp_path / "b.mp4", GIVEN[4:], first=4),
    ]
    out = tmp_path / f"out{suffix}"
    join_segments(segments, out, source=probe(segments[0]))
    assert captions_in(out) == by_time(GIVEN)


def test_units_stand_in_front_of_the_picture_and_look_like_no_start_code() -> None:
    parameters, slice_ = b"\0\0\0\1\x67abc\0\0\0\1\x68d", b"\0\0\1\x65picture"
    made = add_captions(parameters + slice_, bytes(6), "h264")
    assert made.startswith(parameters + b"\0\0\0\1\6\4")
    assert made.endswith(b"\x80" + slice_)
    unit = made[len(parameters) + 4 : -len(slice_)]
    assert b"\0\0\0" not in unit
    assert b"\0\0\1" not in unit
    # Parameter sets, then a slice of temporal layer 2.
    hevc = add_captions(b"\0\0\0\1\x40\1v\0\0\0\1\x26\3slice", bytes(3), "h265")
    assert hevc.startswith(b"\0\0\0\1\x40\1v\0\0\0\1\x4e\3\4")
    for codec in ("h264", "h265", "av1"):
        with pytest.raises(ValueError, match="no "):
            add_captions(b"\0\0\0\1\x67", bytes(3), codec)


def test_of_several_frames_in_a_unit_of_av1_the_shown_one_gets_them() -> None:
    hidden, shown = b"\x32\x02\x6f\x00", b"\x32\x02\x10\x00"
    made = add_captions(b"\x12\x00" + hidden + shown, bytes(3), "av1")
    assert made.startswith(b"\x12\x00" + hidden + b"\x2a")
    assert made.endswith(b"\x80" + shown)


def test_a_reader_gives_each_frame_its_captions(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    captions = write_captioned(path, 12)
    info = probe(path)
    assert info.video.has_captions
    assert info.warnings == ()
    with VideoReader(info) as reader, SandboxedReader(info) as sandboxed:
        frames = list(reader.frames())
        assert [frame.captions for frame in frames] == captions
        for pts in (frames[7].pts, frames[8].pts):
            later = captions_by_pts(list(reader.frames(from_pts=pts)))
            assert later == {at: data for at, data in captions_by_pts(frames).items() if at >= pts}
        assert captions_by_pts(list(sandboxed.frames())) == captions_by_pts(frames)
    part = VideoReader(info, start_seconds=Fraction(3, 25), duration_seconds=Fraction(5, 25))
    assert [frame.captions for frame in part.frames()] == captions[3:8]


def test_of_two_fields_the_first_takes_the_captions(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    captions = write_captioned(path, 8, is_interlaced=True)
    with VideoReader(probe(path)) as reader:
        assert reader.is_deinterlaced
        fields = [frame.captions for frame in reader.frames()]
    assert fields[0::2] == captions
    assert set(fields[1::2]) == {b""}


def test_captions_of_frames_that_never_came_are_given_to_no_other() -> None:
    queue = CaptionQueue()
    queue.put(0, b"abc")
    queue.put(2, b"def")
    queue.put(4, b"")
    assert [queue.take(pts) for pts in (1, 2, 2, 3, 4)] == [b"", b"def", b"", b"", b""]


def test_captions_are_known_before_the_first_of_them_is_decoded(tmp_path: Path) -> None:
    late = write_captions(tmp_path / "a.mp4", (b"", b"", b"\xfc\x94\x20"))
    assert probe(late).video.has_captions
    assert not probe(write_clip(tmp_path / "b.mp4", moving_pictures(3))).video.has_captions


def test_only_codecs_without_a_place_for_captions_are_warned_of(tmp_path: Path) -> None:
    video = probe(write_captions(tmp_path / "a.mp4")).video
    outputs: list[tuple[Codec, str]] = [("h264", "a.mkv"), ("h265", "a.mp4"), ("av1", "a.webm")]
    for codec, name in outputs:
        assert list(describe_output_losses(video, codec, Path(name))) == []
    (words,) = describe_output_losses(video, "prores", Path("a.mov"))
    assert "captions" in words
    assert "ProRes" in words
    assert list(describe_output_losses(replace(video, has_captions=False), "png", Path("%d.png"))) == []
    with SegmentWriter(tmp_path / "p.mov", video_format(), EncodeOptions(codec="prores")) as writer:
        writer.write(picture(0), 0, 1)
        assert writer.warnings == ()
        writer.write(picture(1), 1, 1, captions=b"\xfc\x94\x20")
        writer.write(picture(2), 2, 1, captions=b"\xfc\x94\x20")
        assert writer.warnings == (words,)


def test_captions_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_captions(tmp_path / "a.mp4")
    monkeypatch.setattr("media._stamping.captions_of", lambda frame: None)
    with VideoReader(probe(path)) as reader:
        assert {frame.captions for frame in reader.frames()} == {b""}
        assert any("captions" in warning for warning in reader.warnings)


@pytest.mark.needs_shared
def test_a_broadcast_keeps_its_captions(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "clips/awkward/cea608_captions_aac.ts"
    expected = list(captions_in(source).values())
    with VideoReader(probe(source)) as reader:
        captions = tuple(frame.captions for frame in reader.frames())
    assert [data for data in captions if data] == expected
    assert len(expected) == 3
    assert captions_in(write_captions(tmp_path / "a.mp4", captions)) == by_time(captions)
