"""The final file: the video exactly as in the segments, and what else of the source comes along."""

import hashlib
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from torch.utils.dlpack import from_dlpack

from media import EncodeError, EncodeOptions, JoinReport, MediaInfo, SegmentMismatchError, join_segments
from media.probing import probe
from tests.media import boxes as mp4
from tests.media.sources import HEIGHT, WIDTH, Sound, Text, make_source, write_segment
from tests.media.test_writer import CODECS, MIRRORED, ROTATED_90, fast


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    """A source with nothing but video."""
    return probe(make_source(tmp_path_factory.mktemp("plain") / "plain.mp4"))


def digest(frame: Any) -> str:
    return hashlib.md5(b"".join(from_dlpack(plane).numpy().tobytes() for plane in frame.planes)).hexdigest()


def frames_of(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """(seconds, duration, digest) of every decoded frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [(f.pts * base, f.duration * base, digest(f)) for f in container.decode(stream)]


def packets_of(path: Path, codec: str = "") -> list[tuple[int, int, int, bytes]]:
    # FFmpeg's parser of VP9 loses durations.
    with av.open(str(path), options={"fflags": "noparse"} if codec == "vp9" else {}) as container:
        return [
            (p.pts or 0, p.dts or 0, p.duration or 0, bytes(p))
            for p in container.demux(container.streams.video[0])
            if p.size
        ]


def outcomes(report: JoinReport) -> list[tuple[int, str, str, str]]:
    return [(s.index, s.type, s.codec, s.action) for s in report.streams]


# Video


@pytest.mark.parametrize("codec", CODECS)
def test_joined_packets_are_those_of_the_segments(tmp_path: Path, plain: MediaInfo, codec: str) -> None:
    cuts: list[list[int]] = [[0, 40, 41, 90], [200], [201, 250, 251, 300, 333, 340, 341]]
    segments = [
        write_segment(
            tmp_path / f"{n}.mp4",
            pts,
            last_duration=77 if n == 2 else 1,
            options=fast(codec),
            time_base=Fraction(1, 1000),
        ).path
        for n, pts in enumerate(cuts)
    ]
    report = join_segments(segments, tmp_path / "final.mp4", source=plain)
    expected = [packet for segment in segments for packet in packets_of(segment, codec)]
    found = packets_of(tmp_path / "final.mp4", codec)
    assert [packet[0] for packet in found] == [pts for cut in cuts for pts in cut]
    assert [(pts, dts, data) for pts, dts, _, data in found] == [(p, d, b) for p, d, _, b in expected]
    assert found[-1][2] == 77
    assert [f[2] for f in frames_of(tmp_path / "final.mp4")] == [
        f[2] for segment in segments for f in frames_of(segment)
    ]
    assert (report.num_frames, report.duration_seconds) == (12, Fraction(418, 1000))
    assert report.num_bytes == (tmp_path / "final.mp4").stat().st_size


@pytest.mark.parametrize("cuts", [[0, 12], [0, 1, 12], [0, 2, 3, 5, 7, 8, 11, 12]])
def test_any_cutting_gives_the_same_times(tmp_path: Path, plain: MediaInfo, cuts: list[int]) -> None:
    segments = [
        write_segment(tmp_path / f"{n}.mp4", list(range(cuts[n], cuts[n + 1]))).path
        for n in range(len(cuts) - 1)
    ]
    join_segments(segments, tmp_path / "final.mp4", source=plain)
    found = packets_of(tmp_path / "final.mp4")
    assert [(pts, dts, duration) for pts, dts, duration, _ in found] == [(n, n, 1) for n in range(12)]


def test_concatenated_fragments_decode_like_the_joined_file(tmp_path: Path, plain: MediaInfo) -> None:
    segments = [write_segment(tmp_path / f"{n}.mp4", range(5 * n, 5 * n + 5)).path for n in range(3)]
    join_segments(segments, tmp_path / "final.mp4", source=plain)
    whole = b""
    for number, segment in enumerate(segments):
        data = segment.read_bytes()
        kept = {"moof", "mdat"} | ({"ftyp", "moov"} if number == 0 else set())
        whole += b"".join(
            data[box.offset : box.offset + box.size] for box in mp4.read_boxes(data) if box.path in kept
        )
    (tmp_path / "concatenated.mp4").write_bytes(whole)
    assert frames_of(tmp_path / "concatenated.mp4") == frames_of(tmp_path / "final.mp4")


def test_the_index_comes_before_the_data(tmp_path: Path, plain: MediaInfo) -> None:
    segment = write_segment(tmp_path / "0.mp4", range(5)).path
    join_segments([segment], tmp_path / "final.mp4", source=plain)
    top = [box.path for box in mp4.read_boxes(tmp_path / "final.mp4") if "/" not in box.path]
    assert top.index("moov") < top.index("mdat")
    assert "moof" not in top


def test_joining_twice_gives_the_same_bytes(tmp_path: Path, plain: MediaInfo) -> None:
    segments = [write_segment(tmp_path / f"{n}.mp4", range(5 * n, 5 * n + 5)).path for n in range(2)]
    for name in ("a.mp4", "b.mp4", "b.mp4"):
        join_segments(segments, tmp_path / name, source=plain)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_late_first_frame_stays_late(tmp_path: Path, plain: MediaInfo) -> None:
    segment = write_segment(tmp_path / "0.mp4", [500, 540], time_base=Fraction(1, 1000)).path
    join_segments([segment], tmp_path / "final.mp4", source=plain)
    assert [frame[0] for frame in frames_of(tmp_path / "final.mp4")] == [Fraction(1, 2), Fraction(54, 100)]
    assert mp4.edits(mp4.find(mp4.read_boxes(tmp_path / "final.mp4"), "elst")[0])[0] == (45_000, -1)


@pytest.mark.parametrize("codec", CODECS)
def test_sample_entry_tags_and_pixel_shape_survive(tmp_path: Path, plain: MediaInfo, codec: str) -> None:
    segment = write_segment(
        tmp_path / "0.mp4", range(2), options=fast(codec), sample_aspect_ratio=Fraction(64, 45)
    ).path
    join_segments([segment], tmp_path / "final.mp4", source=plain)
    found = mp4.read_boxes(tmp_path / "final.mp4")
    assert mp4.find(found, {"h264": "avc1", "h265": "hvc1", "av1": "av01", "vp9": "vp09"}[codec])
    assert mp4.nclx(mp4.find(found, "colr")[0]) == (1, 1, 1, False)
    assert mp4.pixel_aspect(mp4.find(found, "pasp")[0]) == (64, 45)


@pytest.mark.parametrize("matrix", [ROTATED_90, MIRRORED])
def test_display_matrix_grows_with_the_picture(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    source = probe(make_source(tmp_path / "source.mp4", display_matrix=matrix))
    assert source.video.display_matrix == struct.pack("=9i", *matrix)
    segment = write_segment(tmp_path / "0.mp4", range(2), width=4 * WIDTH, height=2 * HEIGHT).path
    join_segments([segment], tmp_path / "final.mp4", source=source)
    found = mp4.matrix(mp4.find(mp4.read_boxes(tmp_path / "final.mp4"), "tkhd")[0])
    shown_scale = 2 if matrix is ROTATED_90 else 4
    assert found == (*matrix[:6], matrix[6] * shown_scale, 0, matrix[8])


# What does not fit


def different(tmp_path: Path, **changes: Any) -> list[Path]:
    options = changes.pop("options", fast("h264"))
    return [
        write_segment(tmp_path / "0.mp4", range(3), options=fast("h264")).path,
        write_segment(tmp_path / "1.mp4", range(3, 6), options=options, **changes).path,
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"options": EncodeOptions(preset="medium", num_threads=1)}, "encoder settings"),
        ({"options": fast("h265")}, "codec"),
        ({"width": 96}, "width"),
        ({"time_base": Fraction(1, 50)}, "time_base"),
    ],
)
def test_segments_that_were_encoded_differently_are_refused(
    tmp_path: Path, plain: MediaInfo, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(SegmentMismatchError, match=named):
        join_segments(different(tmp_path, **changes), tmp_path / "final.mp4", source=plain)
    assert not list(tmp_path.glob("final*"))


@pytest.mark.parametrize("order", [(1, 0), (0, 0, 1), (0, 1, 1)])
def test_repeated_or_swapped_segments_are_refused(
    tmp_path: Path, plain: MediaInfo, order: Sequence[int]
) -> None:
    segments = different(tmp_path)
    with pytest.raises(SegmentMismatchError, match="follow"):
        join_segments([segments[n] for n in order], tmp_path / "final.mp4", source=plain)
    assert not list(tmp_path.glob("final*"))


def test_missing_empty_and_foreign_segments_are_refused(tmp_path: Path, plain: MediaInfo) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    for segments in ([], [tmp_path / "nowhere.mp4"], [tmp_path / "text.mp4"]):
        with pytest.raises(SegmentMismatchError):
            join_segments(segments, tmp_path / "final.mp4", source=plain)
    assert not list(tmp_path.glob("final*"))


def test_a_full_disk_is_an_encode_error_and_leaves_nothing(tmp_path: Path, plain: MediaInfo) -> None:
    segments = different(tmp_path)
    (tmp_path / "final.mp4.part").symlink_to("/dev/full")
    with pytest.raises(EncodeError, match="No space left"):
        join_segments(segments, tmp_path / "final.mp4", source=plain)
    assert not list(tmp_path.glob("final*"))


def test_a_missing_directory_is_an_encode_error(tmp_path: Path, plain: MediaInfo) -> None:
    with pytest.raises(EncodeError, match="No such file"):
        join_segments(different(tmp_path), tmp_path / "nowhere" / "final.mp4", source=plain)


# Everything else of the source


def test_title_comment_and_chapters_are_kept_with_their_letters(tmp_path: Path) -> None:
    tags = {"title": "Zwölf Boxkämpfer", "comment": "日本語", "artist": "Ångström", "encoded_for": "x"}
    chapters = [(0.0, 0.8, "Früh"), (0.8, 2.0, "Später ✓")]
    source = probe(make_source(tmp_path / "source.mkv", tags=tags, chapters=chapters))
    segment = write_segment(tmp_path / "0.mp4", range(50)).path
    report = join_segments([segment], tmp_path / "final.mp4", source=source)
    with av.open(str(tmp_path / "final.mp4")) as container:
        for key in ("title", "comment", "artist"):
            assert container.metadata[key] == tags[key]
        found = [
            (
                chapter["start"] * chapter["time_base"],
                chapter["end"] * chapter["time_base"],
                chapter["metadata"],
            )
            for chapter in container.chapters()
            if chapter["time_base"] is not None
        ]
    assert [(float(start), float(end), tag["title"]) for start, end, tag in found] == chapters
    assert any("encoded_for" in warning for warning in report.warnings)


def test_chapters_of_a_range_are_cut_and_shifted(tmp_path: Path) -> None:
    chapters = [(0.0, 0.5, "before"), (0.5, 1.2, "into"), (1.2, 1.4, "inside"), (1.4, 2.0, "out of")]
    source = probe(make_source(tmp_path / "source.mkv", chapters=chapters))
    segment = write_segment(tmp_path / "0.mp4", range(15)).path
    join_segments(
        [segment],
        tmp_path / "final.mp4",
        source=source,
        start_seconds=Fraction(1),
        duration_seconds=Fraction(6, 10),
    )
    with av.open(str(tmp_path / "final.mp4")) as container:
        found = [
            (
                float(chapter["start"] * (chapter["time_base"] or 0)),
                float(chapter["end"] * (chapter["time_base"] or 0)),
                chapter["metadata"]["title"],
            )
            for chapter in container.chapters()
        ]
    assert found == [(0.0, 0.2, "into"), (0.2, 0.4, "inside"), (0.4, 0.6, "out of")]


def test_cover_art_is_copied_and_not_taken_for_the_video(tmp_path: Path) -> None:
    source = probe(make_source(tmp_path / "source.mp4", cover=True, sounds=[Sound("aac")]))
    segment = write_segment(tmp_path / "0.mp4", range(50)).path
    report = join_segments([segment], tmp_path / "final.mp4", source=source)
    assert outcomes(report) == [
        (0, "video", "mpeg4", "transcoded"),
        (1, "audio", "aac", "copied"),
        (2, "video", "png", "copied"),
    ]
    with av.open(str(source.path)) as before, av.open(str(tmp_path / "final.mp4")) as after:
        covers = [
            bytes(next(container.demux(next(s for s in container.streams.video if s.disposition & 1024))))
            for container in (before, after)
        ]
    assert covers[0] == covers[1] != b""
    assert len(frames_of(tmp_path / "final.mp4")) == 50


def test_every_stream_of_the_source_has_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "source.mkv"
    inner = make_source(
        tmp_path / "inner.mkv", sounds=[Sound("pcm_s16le")], texts=[Text("subrip", [(100, 400, "text")])]
    )
    with av.open(str(inner)) as before, av.open(str(path), "w") as after:
        streams = {
            stream.index: after.add_stream_from_template(stream, opaque=True) for stream in before.streams
        }
        after.add_attachment("font.ttf", "font/ttf", b"\0" * 100)
        for packet in before.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    report = join_segments(
        [write_segment(tmp_path / "0.mp4", range(50)).path], tmp_path / "final.mp4", source=probe(path)
    )
    assert [(s.type, s.action) for s in report.streams] == [
        ("video", "transcoded"),
        ("audio", "transcoded"),
        ("subtitle", "converted"),
        ("attachment", "dropped"),
    ]
    assert "attachment" in report.streams[3].detail


# Real files


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synthetic/opus_two_tracks_srt.mkv", ["transcoded", "copied", "copied", "converted"]),
        ("synthetic/wmv2_wma.wmv", ["transcoded", "transcoded"]),
        ("synthetic/theora_vorbis.ogv", ["transcoded", "transcoded"]),
        ("synthetic/mpeg4_mp3.avi", ["transcoded", "copied"]),
        ("synthetic/bitflips.ts", ["transcoded", "copied"]),
        ("synthetic/truncated_faststart.mp4", ["transcoded", "copied"]),
        ("synthetic/interlaced_tff_1080i_h264_anamorphic_mp2.ts", ["transcoded", "transcoded"]),
        ("awkward/subs_pgs_bad_timestamps.mkv", ["transcoded", "copied", "dropped"]),
        ("awkward/subs_srt_ac3.mkv", ["transcoded", "copied", "converted"]),
        ("awkward/empty_second_video_track.mp4", ["transcoded", "dropped", "copied"]),
        ("awkward/h264_aac.flv", ["transcoded", "copied"]),
        ("awkward/cea608_captions_aac.ts", ["transcoded", "copied"]),
        ("awkward/rotate_and_mirror_matrix.mp4", ["transcoded", "copied"]),
        ("natural/cars_768x432_aac.mp4", ["transcoded", "copied"]),
    ],
)
def test_real_sources_lose_no_stream_silently(
    tmp_path: Path, shared_dir: Path, name: str, expected: list[str]
) -> None:
    source = probe(shared_dir / "clips" / name)
    segment = write_segment(tmp_path / "0.mp4", range(50)).path
    report = join_segments([segment], tmp_path / "final.mp4", source=source)
    assert [stream.action for stream in report.streams] == expected
    with av.open(str(tmp_path / "final.mp4")) as container:
        kept = [stream for stream in report.streams if stream.action != "dropped"]
        assert [stream.type for stream in container.streams] == [stream.type for stream in kept]
    assert len(frames_of(tmp_path / "final.mp4")) == 50
