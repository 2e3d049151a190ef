"""Segment files: what is in them, when they exist, and what is refused."""

import io
import os
import struct
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch.utils.dlpack import from_dlpack

import media._encoders
import media.encoder_choice
from media import (
    ColorTags,
    EncodeError,
    EncodeOptions,
    EncoderUnavailableError,
    SegmentWriter,
    VideoFormat,
)
from media._rgb_to_yuv import RgbToYuv
from tests.media import boxes as mp4
from tests.media.sources import HDR10, HLG, SDR, picture, video_format, write_segment
from tests.media.test_encoding import DISPLAY, LIGHT

CODECS = ["h264", "h265", "av1", "vp9"]
DEEP_CODECS = ["h264", "h265", "av1"]
ROTATED_90 = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
MIRRORED = (-(1 << 16), 0, 0, 0, 1 << 16, 0, 64 << 16, 0, 1 << 30)


def fast(codec: Any, **changes: Any) -> EncodeOptions:
    return EncodeOptions(
        codec=codec, preset="12" if codec == "av1" else "ultrafast", num_threads=1, **changes
    )


def read(path: Path, codec: str = "") -> tuple[list[Any], Any]:
    """All frames of a file and its video stream's time base."""
    # FFmpeg's parser of VP9 loses durations.
    with av.open(str(path), options={"fflags": "noparse"} if codec == "vp9" else {}) as container:
        stream = container.streams.video[0]
        return list(container.decode(stream)), stream.time_base


# What is in the file


@pytest.mark.parametrize("codec", CODECS)
def test_variable_frame_times_and_the_last_duration_are_exact(tmp_path: Path, codec: str) -> None:
    pts = [90_000, 93_003, 96_006, 100_000, 130_001, 130_002, 145_000]
    info = write_segment(
        tmp_path / "a.mp4", pts, last_duration=4321, options=fast(codec), time_base=Fraction(1, 90_000)
    )
    frames, time_base = read(info.path, codec)
    assert [frame.pts for frame in frames] == pts
    assert time_base == Fraction(1, 90_000)
    assert frames[-1].duration == 4321
    assert (info.num_frames, info.first_pts, info.end_pts) == (7, 90_000, 149_321)
    assert info.num_bytes == info.path.stat().st_size


@pytest.mark.parametrize(
    ("time_base", "stored"),
    [
        (Fraction(1001, 30_000), Fraction(1, 30_000)),
        (Fraction(1, 1000), Fraction(1, 1000)),
        (Fraction(1, 10**9), Fraction(1, 10**9)),
        (Fraction(32, 1225), Fraction(1, 1225)),
        (Fraction(1, 25), Fraction(1, 25)),
    ],
)
def test_time_bases_are_rescaled_without_loss(tmp_path: Path, time_base: Fraction, stored: Fraction) -> None:
    info = write_segment(tmp_path / "a.mp4", [5, 6, 9], last_duration=2, time_base=time_base)
    frames, found = read(info.path)
    assert found == stored
    assert [frame.pts * found for frame in frames] == [pts * time_base for pts in (5, 6, 9)]
    assert frames[-1].duration * found == 2 * time_base
    assert (info.first_pts, info.end_pts) == (5, 11)


def test_time_bases_that_mp4_cannot_hold_are_rounded_to_90_khz_and_reported(tmp_path: Path) -> None:
    ticks = 2**40
    with SegmentWriter(tmp_path / "a.mp4", video_format(time_base=Fraction(1, ticks))) as writer:
        assert any("90000" in warning for warning in writer.warnings)
        for number in range(3):
            writer.write(picture(number), number * ticks // 24, ticks // 24)
    frames, time_base = read(tmp_path / "a.mp4")
    assert [frame.pts for frame in frames] == [0, 3750, 7500]
    assert time_base == Fraction(1, 90_000)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [*((codec, "yuv420p") for codec in CODECS), *((codec, "yuv420p10le") for codec in DEEP_CODECS)],
)
def test_crf_0_gives_the_written_planes_back_bit_for_bit(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 48, 64, generator=generator) for _ in range(3)]
    with SegmentWriter(tmp_path / "a.mp4", video_format(), fast(codec, crf=0, pix_fmt=pix_fmt)) as writer:
        for number, image in enumerate(images):
            writer.write(image, number, 1)
    converter = RgbToYuv(64, 48, pix_fmt=pix_fmt, matrix=1, use_dither=pix_fmt == "yuv420p")
    for frame, image in zip(read(tmp_path / "a.mp4")[0], images, strict=True):
        assert frame.format.name == pix_fmt
        for found, written in zip(frame.planes, converter.convert(image).planes, strict=True):
            assert torch.equal(from_dlpack(found), from_dlpack(written))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        *product(["h264", "h265"], ["yuv422p", "yuv444p", "yuv422p10le", "yuv444p10le"]),
        *product(["vp9"], ["yuv422p", "yuv444p"]),
    ],
)
def test_other_chroma_formats_are_written_as_asked(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    info = write_segment(tmp_path / "a.mp4", [0, 1], options=fast(codec, pix_fmt=pix_fmt))
    assert read(info.path)[0][0].format.name == pix_fmt


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "color", [SDR, HDR10, HLG, ColorTags(6, 6, 6), ColorTags(1, 1, 13), ColorTags(1, 1, 1, True)]
)
def test_colour_tags_agree_in_container_and_stream(tmp_path: Path, codec: str, color: ColorTags) -> None:
    if color.is_hdr and codec not in DEEP_CODECS:
        with pytest.raises(EncodeError, match="the source is HDR"):
            write_segment(tmp_path / "a.mp4", [0, 1], options=fast(codec), color=color)
        return
    info = write_segment(tmp_path / "a.mp4", [0, 1], options=fast(codec), color=color)
    found = mp4.nclx(mp4.find(mp4.read_boxes(info.path), "colr")[0])
    assert found == (color.primaries, color.transfer, color.matrix, False)
    frame = read(info.path)[0][0]  # a decoder takes these from the bitstream, not from the container
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == found[:3]
    assert frame.color_range == 1
    assert frame.format.components[0].bits == (10 if color.is_hdr else 8)


@pytest.mark.parametrize("codec", DEEP_CODECS)
def test_hdr10_metadata_comes_back_equal(tmp_path: Path, codec: str) -> None:
    info = write_segment(
        tmp_path / "a.mp4",
        [0, 1],
        options=fast(codec),
        color=HDR10,
        mastering_display=DISPLAY,
        content_light=LIGHT,
    )
    side_data = {data.type.name: bytes(data) for data in read(info.path)[0][0].side_data}
    assert struct.unpack("=2I", side_data["CONTENT_LIGHT_LEVEL"][:8]) == (1000, 400)
    numbers = struct.unpack("=20i", side_data["MASTERING_DISPLAY_METADATA"][:80])
    found = [numbers[n] / numbers[n + 1] for n in range(0, 20, 2)]
    expected = [
        *DISPLAY.red, *DISPLAY.green, *DISPLAY.blue, *DISPLAY.white_point,
        DISPLAY.min_luminance, DISPLAY.max_luminance,
    ]  # fmt: skip
    assert found == pytest.approx([float(value) for value in expected], abs=1e-5 if codec != "av1" else 1e-4)


@pytest.mark.parametrize("codec", CODECS)
def test_sdr_carries_no_hdr_metadata(tmp_path: Path, codec: str) -> None:
    info = write_segment(
        tmp_path / "a.mp4", [0], options=fast(codec), mastering_display=DISPLAY, content_light=LIGHT
    )
    names = {data.type.name for data in read(info.path)[0][0].side_data}
    assert not names & {"CONTENT_LIGHT_LEVEL", "MASTERING_DISPLAY_METADATA"}


@pytest.mark.parametrize(
    ("codec", "tag"), [("h264", "avc1"), ("h265", "hvc1"), ("av1", "av01"), ("vp9", "vp09")]
)
def test_sample_entry_is_the_one_players_open(tmp_path: Path, codec: str, tag: str) -> None:
    info = write_segment(tmp_path / "a.mp4", [0], options=fast(codec))
    assert mp4.find(mp4.read_boxes(info.path), tag)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("matrix", [ROTATED_90, MIRRORED])
def test_display_matrix_and_pixel_shape_are_kept(tmp_path: Path, codec: str, matrix: tuple[int, ...]) -> None:
    info = write_segment(
        tmp_path / "a.mp4",
        [0, 1],
        options=fast(codec),
        display_matrix=struct.pack("=9i", *matrix),
        sample_aspect_ratio=Fraction(64, 45),
    )
    found = mp4.read_boxes(info.path)
    assert mp4.matrix(mp4.find(found, "tkhd")[0]) == matrix
    assert mp4.pixel_aspect(mp4.find(found, "pasp")[0]) == (64, 45)


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (65, 49)])
def test_odd_sizes_are_stored_even_and_the_writer_says_so(tmp_path: Path, width: int, height: int) -> None:
    layout = video_format(width=width, height=height)
    with SegmentWriter(tmp_path / "a.mp4", layout, fast("h264", crf=1)) as writer:
        writer.write(picture(0, width=width, height=height), 0, 1)
        assert (writer.width, writer.height) == (width + width % 2, height + height % 2)
        assert f"{width}x{height}" in writer.warnings[0]
    frame = read(tmp_path / "a.mp4")[0][0]
    assert (frame.width, frame.height) == (writer.width, writer.height)


# Fragments: the growing file


def test_fragments_carry_absolute_times_and_no_composition_offsets(tmp_path: Path) -> None:
    info = write_segment(
        tmp_path / "a.mp4", list(range(1000, 1024)), rate=Fraction(4), time_base=Fraction(1, 4)
    )
    found = mp4.read_boxes(info.path)
    assert [mp4.base_decode_time(box) for box in mp4.find(found, "tfdt")] == [1000, 1008, 1016]
    for run in mp4.find(found, "trun"):
        assert not int.from_bytes(run.body[:4], "big") & 0x800, "composition offsets mean B-frames"
    for edit_list in mp4.find(found, "elst"):
        assert mp4.edits(edit_list) == [(0, 0)]


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_are_exactly_two_seconds_apart(tmp_path: Path, codec: str) -> None:
    layout = video_format(rate=Fraction(4), time_base=Fraction(1, 4))
    with SegmentWriter(tmp_path / "a.mp4", layout, fast(codec)) as writer:
        for number in range(20):
            writer.write(torch.full((3, 48, 64), 0.5), number, 1)
    frames = read(tmp_path / "a.mp4")[0]
    assert [n for n, frame in enumerate(frames) if frame.key_frame] == [0, 8, 16]


class Download:
    """Bytes that can be read once, front to back, as a player gets them."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


@pytest.mark.parametrize("position", ["boundary", "inside mdat", "inside moof", "almost whole"])
@pytest.mark.parametrize("fragment", [0, 1, 2])
def test_every_prefix_decodes_to_its_last_whole_fragment(
    tmp_path: Path, fragment: int, position: str
) -> None:
    info = write_segment(tmp_path / "a.mp4", list(range(32)), rate=Fraction(4), time_base=Fraction(1, 4))
    data = info.path.read_bytes()
    mdats = [box for box in mp4.read_boxes(data) if box.path == "mdat"]
    end = mdats[fragment].offset + mdats[fragment].size
    extra = {"boundary": 0, "inside mdat": 1000, "inside moof": 60, "almost whole": mdats[fragment + 1].size}
    count = 0
    with av.open(Download(data[: end + extra[position]])) as container:
        try:
            for _ in container.decode(video=0):
                count += 1
        except av.FFmpegError:
            assert position != "boundary"
    assert count >= 8 * (fragment + 1)
    if position == "boundary":
        assert count == 8 * (fragment + 1)


def test_the_file_grows_within_two_groups_of_pictures(tmp_path: Path) -> None:
    layout = video_format(rate=Fraction(4), time_base=Fraction(1, 4))
    path = tmp_path / "a.mp4"
    with SegmentWriter(path, layout, fast("h264")) as writer:
        for number in range(17):
            writer.write(picture(number), number, 1)
        boxes = mp4.read_boxes(tmp_path / "a.mp4.part")
        assert mp4.find(boxes, "mdat")
        assert not path.exists()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, codec: Any, num_threads: int) -> None:
    preset = "12" if codec == "av1" else "ultrafast"
    options = EncodeOptions(codec=codec, preset=preset, num_threads=num_threads)
    files = [
        write_segment(tmp_path / name, list(range(12)), options=options).path.read_bytes()
        for name in ("a", "b")
    ]
    assert files[0] == files[1]


def test_threads_change_no_byte_of_vp9(tmp_path: Path) -> None:
    """Of a picture wide enough for two tiles."""
    files = [
        write_segment(
            tmp_path / f"{num_threads}.mp4",
            list(range(4)),
            options=EncodeOptions(codec="vp9", num_threads=num_threads),
            width=512,
        ).path.read_bytes()
        for num_threads in (1, 4)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("codec", CODECS)
def test_the_encoder_runs_with_the_threads_asked_for(tmp_path: Path, codec: Any) -> None:
    # Too small a picture to see it in the bytes, so this looks inside.
    writer = SegmentWriter(tmp_path / "a.mp4", video_format(), EncodeOptions(codec=codec, num_threads=3))
    assert writer._stream.codec_context.thread_count == 3
    writer.abort()


def test_a_segment_may_have_one_frame(tmp_path: Path) -> None:
    info = write_segment(tmp_path / "a.mp4", [7], last_duration=3)
    frames, _ = read(info.path)
    assert [(frame.pts, frame.duration) for frame in frames] == [(7, 3)]


# When the file exists


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = SegmentWriter(path, video_format())
    writer.write(picture(0), 0, 1)
    assert not path.exists()
    writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_abort_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", video_format())
    writer.write(picture(0), 0, 1)
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EncodeError, match="closed"):
        writer.write(picture(1), 1, 1)


def test_an_exception_inside_the_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with SegmentWriter(tmp_path / "a.mp4", video_format()) as writer:
            writer.write(picture(0), 0, 1)
            raise RuntimeError("network")

    with pytest.raises(RuntimeError, match="network"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_retried_segment_replaces_the_leftovers_of_the_first_try(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.part").write_bytes(b"half a segment" * 10_000)
    (tmp_path / "a.mp4").write_bytes(b"an older one")
    retried = write_segment(tmp_path / "a.mp4", [0, 1]).path.read_bytes()
    assert retried == write_segment(tmp_path / "b.mp4", [0, 1]).path.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_an_empty_segment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="no frames"):
        SegmentWriter(tmp_path / "a.mp4", video_format()).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("codec", CODECS)
def test_a_full_disk_is_an_encode_error_and_leaves_nothing(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.mp4.part").symlink_to("/dev/full")
    with pytest.raises(EncodeError, match="No space left"):
        write_segment(tmp_path / "a.mp4", list(range(200)), options=fast(codec))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_encode_error(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="No such file"):
        SegmentWriter(tmp_path / "nowhere" / "a.mp4", video_format())


@pytest.mark.skipif(os.name != "posix", reason="POSIX file names")
@pytest.mark.parametrize("name", ["a%03d.mp4", "concat:b.mp4", "-i", "Größe.mp4"])
def test_file_names_mean_nothing(tmp_path: Path, name: str) -> None:
    assert len(read(write_segment(tmp_path / name, [0, 1]).path)[0]) == 2


# What is refused


@pytest.mark.parametrize("image", [torch.zeros(3, 48, 62), torch.zeros(3, 24, 32), torch.zeros(1, 48, 64)])
def test_frames_of_another_size_are_refused_never_rescaled(tmp_path: Path, image: torch.Tensor) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", video_format())
    with pytest.raises(EncodeError, match="shape"):
        writer.write(image, 0, 1)
    writer.abort()


@pytest.mark.parametrize(("pts", "duration"), [(-1, 1), (5, 0), (4, 1), (3, 1)])
def test_times_must_increase(tmp_path: Path, pts: int, duration: int) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", video_format())
    writer.write(picture(0), 4, 1)
    with pytest.raises(EncodeError, match="pts"):
        writer.write(picture(1), pts, duration)
    writer.abort()


def test_a_missing_encoder_is_named_with_those_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media.encoder_choice, "encoder_works", lambda name: name == "libx264")
    with pytest.raises(EncoderUnavailableError, match=r"libx265 does not work.*available: libx264"):
        SegmentWriter(tmp_path / "a.mp4", video_format(), EncodeOptions(codec="h265"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "expected"), [("libx264", True), ("no_such_encoder", False)])
def test_encoders_are_probed_by_opening_them(name: str, expected: bool) -> None:
    assert media._encoders.encoder_works(name) is expected


@pytest.mark.parametrize("wrong", [{"width": 0}, {"time_base": Fraction(0)}, {"rate": Fraction(-1)}])
def test_impossible_formats_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        VideoFormat(
            **({"width": 4, "height": 4, "time_base": Fraction(1), "rate": Fraction(1), "color": SDR} | wrong)
        )


def test_narrow_h265_does_not_write_past_its_memory(tmp_path: Path) -> None:
    # glibc's checks make the process die of what else may show much later, or not at all. Since 2.34 they are
    # in a library of their own.
    script = (
        "import sys, torch; from fractions import Fraction; from pathlib import Path; from media import *\n"
        "for width in [40, 48] * 4:\n"
        "    form = VideoFormat(width=width, height=32, time_base=Fraction(1, 25), rate=Fraction(25), "
        "color=ColorTags())\n"
        "    with SegmentWriter(Path(sys.argv[1]), form, EncodeOptions(codec='h265')) as writer:\n"
        "        for n in range(20): writer.write(torch.rand(3, 32, form.width), n, 1)\n"
    )
    checks = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    command = [sys.executable, "-c", script, str(tmp_path / "a.mp4")]
    done = subprocess.run(
        command, env=os.environ | checks, check=True, timeout=120, stderr=subprocess.PIPE, text=True
    )
    assert "cannot be preloaded" not in done.stderr
