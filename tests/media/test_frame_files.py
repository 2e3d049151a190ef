"""Outputs of one picture for each frame, and ProRes: what is in them is what was written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from media import ColorTags, EncodeError, EncodeOptions, SegmentMismatchError, join_segments, resolve_encoding
from media.containers import check_output, default_codec
from media.picture_files import frame_path, is_frame_pattern
from media.probing import probe
from media.stills import read_picture
from tests.media.sources import HLG, Sound, make_source, picture, video_format, write_segment


@pytest.mark.parametrize(
    ("name", "codec", "bit_depth", "steps"),
    [("%03d.png", "png", 8, 255), ("%03d.png", "png", 10, 65535), ("f%d.tif", "tiff", 8, 65535)],
)
def test_every_frame_is_a_file_with_its_pixels(
    name: str, codec: Any, bit_depth: int, steps: int, tmp_path: Path
) -> None:
    source = probe(make_source(tmp_path / "s.mkv", sounds=[Sound("flac")]))
    segments = [
        write_segment(
            tmp_path / f"segment{first}.mp4",
            range(first, first + 3),
            options=EncodeOptions(codec=codec),
            bit_depth=bit_depth,
        ).path
        for first in (0, 3)
    ]
    out = tmp_path / "out"
    out.mkdir()
    report = join_segments(segments, out / name, source=source)
    assert (report.num_frames, report.duration_seconds) == (6, Fraction(6, 25))
    assert report.num_bytes == sum(path.stat().st_size for path in out.iterdir())
    assert [stream.action for stream in report.streams] == ["transcoded", "dropped"]
    for number in range(6):
        # `write_segment` draws its n-th frame as picture n + first.
        wanted = picture(number % 3 + 3 * (number // 3))
        made = read_picture(frame_path(out / name, number + 1))
        assert (made.image - wanted).abs().max() <= 0.51 / steps


def test_an_odd_size_needs_no_padding(tmp_path: Path) -> None:
    segment = write_segment(tmp_path / "s.mp4", [0], options=EncodeOptions(codec="png"), width=33, height=21)
    join_segments([segment.path], tmp_path / "%d.png", source=probe(make_source(tmp_path / "s.mkv")))
    assert read_picture(tmp_path / "1.png").size == (21, 33)


def test_patterns_have_one_number_and_a_known_suffix() -> None:
    assert is_frame_pattern(Path("out/%06d.png"))
    assert not any(is_frame_pattern(Path(name)) for name in ("a.png", "%d-%d.png", "%d.jpg", "%d.mp4"))
    assert default_codec(Path("%d.tif")) == "tiff"
    with pytest.raises(EncodeError, match="are png, they cannot be h264"):
        check_output(Path("%d.png"), "h264")


def test_a_damaged_segment_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.mp4").write_bytes(b"nothing")
    source = probe(make_source(tmp_path / "s.mkv"))
    with pytest.raises(SegmentMismatchError):
        join_segments([tmp_path / "s.mp4"], tmp_path / "%d.png", source=source)


@pytest.mark.parametrize("pix_fmt", ["yuv422p10le", "yuv444p10le"])
def test_prores_keeps_its_samples_and_tags(pix_fmt: str, tmp_path: Path) -> None:
    options = EncodeOptions(codec="prores", pix_fmt=pix_fmt)
    segment = write_segment(tmp_path / "s.mp4", range(5), options=options)
    join_segments([segment.path], tmp_path / "o.mov", source=probe(make_source(tmp_path / "s.mkv")))
    video = probe(tmp_path / "o.mov").video
    # FFmpeg decodes 4444 with 12 bits.
    decoded = pix_fmt.replace("444p10", "444p12")
    assert (video.codec, video.pix_fmt, video.color) == ("prores", decoded, ColorTags(1, 1, 1))


def test_what_intermediates_do_not_have_is_refused_and_what_they_lose_is_said() -> None:
    with pytest.raises(EncodeError, match="preset"):
        EncodeOptions(codec="prores", preset="fast")
    with pytest.raises(EncodeError, match="crf"):
        EncodeOptions(codec="png", crf=18)
    with pytest.raises(EncodeError, match="cannot do this"):
        resolve_encoding(EncodeOptions(codec="prores", encoder="nvenc"), video_format())
    warnings = resolve_encoding(EncodeOptions(codec="tiff"), video_format(color=HLG, bit_depth=10)).warnings
    assert any("HDR" in text for text in warnings)
