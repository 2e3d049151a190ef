"""Spherical and stereoscopic pictures stay what they are in every container that can say it."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from media import MediaInfo, _sample_entry, describe_output_losses, join_segments, probe
from media._projections import projection_boxes, read_spherical, read_stereo
from media.growing.boxes import MalformedSegmentError
from media.info import SphericalMapping, StereoMapping
from media.sandbox import sandboxed_join, sandboxed_probe
from tests.media import boxes as mp4
from tests.media.clips import Clip, moving_pictures, write_clip
from tests.media.sources import Sound, make_source, write_segment
from tests.media.spherical import cbmp, equi, full_box, said_of, st3d, sv3d, v1_uuid, vexu, write_with_box

QUARTER = 1 << 30
WHOLE_SPHERE = st3d(1) + sv3d(equi())
EVERYWHERE = {
    "top and bottom": WHOLE_SPHERE,
    "turned": sv3d(equi(), (90, -10, 5)),
    "half of a sphere": st3d(2) + sv3d(equi(0, 0, QUARTER, QUARTER)),
    "tile": sv3d(equi(1, 1 << 28, 1 << 29, QUARTER)),
    "cubemap": sv3d(cbmp(0)),
    "flat and stereoscopic": st3d(2),
}
IN_MP4_ONLY = {
    "half": vexu(b"hequ", b"side"),
    "fisheye": vexu(b"fish", b"over"),
    "rectilinear": vexu(b"rect"),
}


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("segments")
    return [write_segment(folder / f"{first}.mp4", range(first, first + 3)).path for first in (0, 3)]


def join(segments: list[Path], out: Path, source: MediaInfo) -> Path:
    join_segments(segments, out, source=source)
    return out


def packets(path: Path) -> list[tuple[int, int | None, bytes]]:
    """All packets of all streams."""
    with av.open(str(path)) as container:
        found: list[Any] = [packet for packet in container.demux() if packet.size]
        return sorted((packet.stream_index, packet.pts, bytes(packet)) for packet in found)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_an_output_says_what_the_source_says(
    tmp_path: Path, segments: list[Path], name: str, suffix: str
) -> None:
    source = write_with_box(tmp_path / "source.mp4", EVERYWHERE[name])
    info = probe(source)
    assert info.warnings == ()
    assert list(describe_output_losses(info.video, "h264", Path(f"a{suffix}"))) == []
    out = join(segments, tmp_path / f"out{suffix}", info)
    assert said_of(out) == said_of(source) != {}
    again = probe(out).video
    assert (again.spherical, again.stereo) == (info.video.spherical, info.video.stereo)
    plain = join(segments, tmp_path / f"plain{suffix}", flat(info))
    assert packets(out) == packets(plain)
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


def flat(info: MediaInfo) -> MediaInfo:
    return replace(info, video=replace(info.video, spherical=None, stereo=None))


@pytest.mark.parametrize("name", IN_MP4_ONLY)
def test_what_only_mp4_can_say_is_warned_of_elsewhere(
    tmp_path: Path, segments: list[Path], name: str
) -> None:
    source = write_with_box(tmp_path / "source.mp4", IN_MP4_ONLY[name])
    info = probe(source)
    assert info.warnings == ()
    for suffix in (".mp4", ".mov"):
        assert said_of(join(segments, tmp_path / f"out{suffix}", info)) == said_of(source) != {}
        assert list(describe_output_losses(info.video, "h264", Path(f"a{suffix}"))) == []
    (words,) = describe_output_losses(info.video, "h264", Path("a.mkv"))
    assert "spherical" in words
    kept = said_of(join(segments, tmp_path / "out.mkv", info))
    assert "SPHERICAL" not in kept
    assert kept.get("STEREO3D") == said_of(source).get("STEREO3D")


def test_the_older_box_becomes_the_newer_ones(tmp_path: Path, segments: list[Path]) -> None:
    source = write_with_box(tmp_path / "source.mp4", v1_uuid("left-right"), at="moov/trak")
    out = join(segments, tmp_path / "out.mp4", probe(source))
    assert said_of(out) == said_of(source) != {}
    written = mp4.read_boxes(out)
    assert [found.body for found in mp4.find(written, "st3d")] == [b"\0\0\0\0\2"]
    assert len(mp4.find(written, "sv3d")) == 1
    assert mp4.find(written, "uuid") == mp4.find(written, "vexu") == []


def test_views_that_only_the_stream_tells_are_told_by_the_file(tmp_path: Path, segments: list[Path]) -> None:
    packing = {"preset": "ultrafast", "x264-params": "frame-packing=4"}
    source = write_clip(tmp_path / "a.ts", moving_pictures(3), Clip(options=packing))
    assert said_of(join(segments, tmp_path / "out.mp4", probe(source))) == said_of(source) != {}


def test_a_matroska_source_gives_boxes(tmp_path: Path, segments: list[Path]) -> None:
    first = write_with_box(tmp_path / "source.mp4", EVERYWHERE["half of a sphere"])
    source = join(segments, tmp_path / "source.mkv", probe(first))
    assert said_of(join(segments, tmp_path / "out.mp4", probe(source))) == said_of(first)


def test_a_confined_probe_and_join_do_the_same(tmp_path: Path, segments: list[Path]) -> None:
    source = write_with_box(tmp_path / "source.mp4", WHOLE_SPHERE)
    info = sandboxed_probe(source)
    assert info == probe(source)
    sandboxed_join(segments, tmp_path / "out.mp4", source=info)
    assert said_of(tmp_path / "out.mp4") == said_of(source)


def test_padding_of_a_cubemap_grows_with_the_picture(tmp_path: Path) -> None:
    video = probe(write_with_box(tmp_path / "a.mp4", sv3d(cbmp(5)))).video
    assert video.spherical == SphericalMapping(projection="cubemap", padding=5)
    assert cbmp(15) in projection_boxes(video, scale=Fraction(3))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(("width", "padding"), [(64, 5), (128, 10), (96, 8)])
def test_a_joined_cubemap_has_the_padding_of_its_own_size(
    tmp_path: Path, width: int, padding: int, suffix: str
) -> None:
    info = probe(write_with_box(tmp_path / "source.mp4", sv3d(cbmp(5))))
    assert info.video.width == 64
    segment = write_segment(tmp_path / "s.mp4", range(3), width=width, height=width * 3 // 4).path
    out = probe(join([segment], tmp_path / f"out{suffix}", info)).video
    assert out.width == width
    assert out.spherical == SphericalMapping(projection="cubemap", padding=padding)


@pytest.mark.parametrize("largest", [_sample_entry._LARGEST_OFFSET, 100])
def test_sound_and_pictures_are_found_behind_a_grown_index(
    tmp_path: Path, segments: list[Path], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where offsets no longer fit 32 bits, and where the file is moved in many blocks."""
    monkeypatch.setattr(_sample_entry, "_LARGEST_OFFSET", largest)
    monkeypatch.setattr(_sample_entry, "_BLOCK_BYTES", 1000)
    info = probe(make_source(tmp_path / "a.mp4", seconds=0.24, sounds=[Sound("aac")]))
    video = replace(info.video, spherical=SphericalMapping(projection="equirectangular"))
    out = join(segments, tmp_path / "out.mp4", replace(info, video=video))
    plain = join(segments, tmp_path / "plain.mp4", info)
    assert packets(out) == packets(plain)
    written, before = mp4.read_boxes(out), mp4.read_boxes(plain)
    assert [found.name for found in written if "/" not in found.path] == ["ftyp", "moov", "free", "mdat"]
    assert mp4.find(written, "mdat")[0].body == mp4.find(before, "mdat")[0].body
    tables = mp4.find(written, "stco") if largest > 100 else mp4.find(written, "co64")
    assert len(tables) == 2


def test_the_boxes_of_a_file_with_its_index_behind_leave_offsets_alone(tmp_path: Path) -> None:
    path = write_with_box(tmp_path / "a.mp4", b"")
    before = packets(path)
    _sample_entry.add_to_file(path, st3d(1))
    assert packets(path) == before
    assert "STEREO3D" in said_of(path)


def test_a_file_without_an_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x08mdat")
    with pytest.raises(MalformedSegmentError):
        _sample_entry.add_to_file(path, st3d(1))


def test_what_no_output_can_say_is_warned_of(tmp_path: Path) -> None:
    video = probe(write_with_box(tmp_path / "a.mp4", WHOLE_SPHERE)).video
    assert len(list(describe_output_losses(video, "png", Path("%04d.png")))) == 2
    odd = replace(
        video,
        spherical=SphericalMapping(projection="other"),
        stereo=StereoMapping(layout="side_by_side", is_inverted=True),
    )
    assert len(list(describe_output_losses(odd, "h264", Path("a.mp4")))) == 2
    assert projection_boxes(odd, scale=Fraction(1)) == b""
    mono = replace(video, spherical=None, stereo=StereoMapping(layout="mono"))
    assert list(describe_output_losses(mono, "png", Path("%04d.png"))) == []


def test_a_projection_that_ffmpeg_cannot_read_is_warned_of(tmp_path: Path, segments: list[Path]) -> None:
    mesh = sv3d(full_box(b"mshp", bytes(20)))
    info = probe(write_with_box(tmp_path / "a.mp4", st3d(2) + mesh))
    assert info.video.spherical == SphericalMapping(projection="other")
    (words,) = info.warnings
    assert "spherical" in words
    assert list(said_of(join(segments, tmp_path / "out.mp4", info))) == ["STEREO3D"]


def test_records_of_unknown_kinds_are_other() -> None:
    assert read_spherical(b"\x09\0\0\0" + bytes(32)) == SphericalMapping(projection="other")
    assert read_stereo(b"\x04\0\0\0\1\0\0\0" + bytes(28)) == StereoMapping(layout="other", is_inverted=True)
    assert read_spherical(bytes(35)) is read_stereo(None) is None


@pytest.mark.needs_shared
def test_a_reported_file_stays_spherical(shared_dir: Path, tmp_path: Path, segments: list[Path]) -> None:
    source = shared_dir / "clips/reported/spherical.mp4"
    info = probe(source)
    assert info.warnings == ()
    assert info.video.spherical == SphericalMapping(projection="equirectangular")
    assert info.video.stereo == StereoMapping(layout="top_bottom")
    assert said_of(join(segments, tmp_path / "out.mp4", info)) == said_of(source)
