"""Which of a file's streams are taken, and what is said of it."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import MediaError, VideoReader, join_segments, probe
from media._programmes import parse_programmes
from media._scheduling import ordinary_scheduling
from media._stream_choice import VideoCandidate, rank_streams
from media.errors import StreamChoiceError
from tests.media.sources import Sound, make_source, write_segment

DEFAULT = 1
ATTACHED_PICTURE = 1024


def candidate(index: int, **changes: Any) -> VideoCandidate:
    fields: dict[str, Any] = {
        "index": index,
        "codec": "h264",
        "width": 64,
        "height": 48,
        "num_frames": 100,
        "is_picture": False,
        "is_default": False,
    }
    return VideoCandidate(**(fields | changes))


@pytest.mark.parametrize(
    ("others", "film"),
    [
        ([], {}),
        ([{"is_picture": True, "is_default": True, "width": 4000}], {}),
        ([{"num_frames": 1, "is_default": True, "width": 4000, "height": 3000}], {}),
        ([{}, {}], {"is_default": True}),
        ([{}], {"width": 128}),
        ([{}], {"num_frames": 200}),
        ([{"num_frames": 0}], {"num_frames": 0, "width": 128}),
    ],
    ids=["alone", "cover", "large thumbnail", "default", "larger", "longer", "unknown lengths"],
)
def test_the_film_comes_first(others: list[dict[str, Any]], film: dict[str, Any]) -> None:
    candidates = [candidate(number, **changes) for number, changes in enumerate(others)]
    candidates.append(candidate(len(others), **film))
    assert rank_streams(candidates)[0].index == len(others)


def test_equal_streams_keep_their_order() -> None:
    assert [c.index for c in rank_streams([candidate(0), candidate(1), candidate(2)])] == [0, 1, 2]


def write_streams(path: Path, streams: Sequence[tuple[str, int, int, int, int]]) -> Path:
    """A file with a video stream for each (codec, width, height, number of frames, disposition)."""
    with av.open(str(path), "w") as output:
        made = []
        for codec, width, height, _, disposition in streams:
            stream = output.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        output.start_encoding()
        for stream, (_, width, height, count, _) in zip(made, streams, strict=True):
            for number in range(count):
                picture = np.full((height, width, 3), 8 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                    format=stream.pix_fmt, threads=1
                )
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("size", [(32, 24), (640, 480)])
def test_a_thumbnail_in_front_is_not_the_film(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    streams = [("mjpeg", *size, 1, 0), ("mpeg4", 128, 96, 6, DEFAULT)]
    info = probe(write_streams(tmp_path / f"a.{suffix}", streams))
    assert (info.video.width, info.video.height) == (128, 96)
    with VideoReader(info) as reader:
        assert len(list(reader.frames())) == 6
    assert any("2 video streams" in warning and "stream 1" in warning for warning in info.warnings)


def test_another_stream_is_taken_on_demand(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mkv", [("mpeg4", 64, 48, 3, DEFAULT), ("mpeg4", 128, 96, 6, 0)])
    assert probe(path).video.width == 64
    assert probe(path, video_stream=1).video.width == 128


def test_a_stream_that_is_no_video_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = make_source(tmp_path / "a.mkv", sounds=[Sound("aac")])
    for wanted in (1, 7):
        with pytest.raises(StreamChoiceError, match=r"0 \(mpeg4 64x48\)"):
            probe(path, video_stream=wanted)
    assert issubclass(StreamChoiceError, MediaError)


def test_a_cover_is_no_choice(tmp_path: Path) -> None:
    assert probe(make_source(tmp_path / "a.mp4", cover=True)).warnings == ()


def test_the_sequence_of_an_avif_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    with ordinary_scheduling(), av.open(str(path), "w", format="avif") as output:
        stream = output.add_stream("libsvtav1", rate=10, options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(4):
            picture = np.full((64, 96, 3), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with VideoReader(probe(path)) as reader:
        assert [frame.pts * reader.time_base for frame in reader.frames()] == [
            Fraction(number, 10) for number in range(4)
        ]


# Transport streams


def crc(data: bytes) -> bytes:
    """CRC-32/MPEG-2."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ (0x104C11DB7 if value & 1 << 31 else 0)
    return value.to_bytes(4, "big")


def transport_stream(path: Path, number: int, sounds: Sequence[Sound]) -> bytes:
    """A programme with packet ids of its own."""
    options = {
        "mpegts_service_id": str(number),
        "mpegts_pmt_start_pid": str(0x1000 + number),
        "mpegts_start_pid": str(0x100 * number),
    }
    plain = make_source(path.with_suffix(".mkv"), sounds=sounds)
    with av.open(str(plain)) as source, av.open(str(path), "w", options=options) as output:
        video = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams.audio}
        for frame in source.decode(source.streams.video[0]):
            frame.pict_type = 0
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        source.seek(0)
        for packet in source.demux(*source.streams.audio) if copies else ():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path.read_bytes()


def multiplex(programmes: Sequence[bytes]) -> bytes:
    """Several programmes in one stream, behind a table that lists them."""
    entries = b"".join(
        (number + 1).to_bytes(2, "big") + (0xE000 | 0x1001 + number).to_bytes(2, "big")
        for number in range(len(programmes))
    )
    section = b"\x00" + (0xB000 | len(entries) + 9).to_bytes(2, "big") + b"\x00\x01\xc1\x00\x00" + entries
    table = b"\x47\x40\x00\x10\x00" + section + crc(section)
    packets = [
        [data[at : at + 188] for at in range(0, len(data), 188) if data[at + 1 : at + 3] != b"\x40\x00"]
        for data in programmes
    ]
    mixed = b"".join(part for parts in zip_longest(*packets, fillvalue=b"") for part in parts)
    return table.ljust(188, b"\xff") + mixed


@pytest.fixture(scope="module")
def two_programmes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ts")
    parts = [transport_stream(folder / f"{n}.ts", n, [Sound("aac")] * n) for n in (1, 2)]
    path = folder / "both.ts"
    path.write_bytes(multiplex(parts))
    return path


def test_sound_of_other_programmes_stays_out(two_programmes: Path, tmp_path: Path) -> None:
    info = probe(two_programmes)
    own = [sound.index for sound in info.audio if sound.index not in info.other_programmes]
    assert (len(own), len(info.audio)) == (1, 3)
    segment = write_segment(tmp_path / "segment.mp4", range(50)).path
    report = join_segments([segment], tmp_path / "out.mp4", source=info)
    actions = {outcome.index: outcome.action for outcome in report.streams if outcome.type == "audio"}
    assert [index for index, action in actions.items() if action != "dropped"] == own
    assert "another programme" in next(s.detail for s in report.streams if s.action == "dropped")


def test_the_other_programme_comes_with_its_own_sound(two_programmes: Path) -> None:
    other = next(s.index for s in probe(two_programmes).others if s.kind == "video")
    info = probe(two_programmes, video_stream=other)
    assert len([sound for sound in info.audio if sound.index not in info.other_programmes]) == 2


def test_nothing_is_left_out_where_there_are_no_tables(tmp_path: Path) -> None:
    data = b"".join(b"\x47\x01\x00\x10" + bytes(184) for _ in range(20))
    assert parse_programmes(data) == {}
    assert parse_programmes(b"nothing") == {}


def test_tables_are_found_in_packets_with_time_codes() -> None:
    section = b"\x00\xb0\x0d\x00\x01\xc1\x00\x00\x00\x07\xe1\x00"
    stream = b"\x1b\xe1\x01\xf0\x00"
    mapping = b"\x02\xb0\x12\x00\x07\xc1\x00\x00\xe1\x01\xf0\x00" + stream
    packets = [
        (b"\x47\x40\x00\x10\x00" + section + crc(section)).ljust(188, b"\xff"),
        (b"\x47\x41\x00\x10\x00" + mapping + crc(mapping)).ljust(188, b"\xff"),
    ]
    assert parse_programmes(b"".join(packets)) == {7: {0x101}}
    assert parse_programmes(b"".join(b"\0\0\0\0" + packet for packet in packets)) == {7: {0x101}}


def test_a_range_counts_from_picture_or_sound_not_from_data_in_front_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        data = output.add_data_stream("bin_data")
        data.time_base = Fraction(1, 90_000)
        output.start_encoding()
        message = av.Packet(b"\xfc\x30" + bytes(20))
        message.stream, message.time_base = data, data.time_base
        message.pts = message.dts = 90_000
        output.mux(message)
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = 43 + number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    info = probe(path)
    assert info.video.start_seconds == 0
    with VideoReader(info, duration_seconds=Fraction(1, 2)) as reader:
        assert len(list(reader.frames())) == 13


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("name", "size", "num_sounds"),
    [("thumbnail_stream_first.mp4", (128, 96), 1), ("two_programmes.ts", (96, 64), 1)],
)
def test_reported_files(shared_dir: Path, name: str, size: tuple[int, int], num_sounds: int) -> None:
    info = probe(shared_dir / "clips" / "reported" / name)
    assert (info.video.width, info.video.height) == size
    assert len([s for s in info.audio if s.index not in info.other_programmes]) == num_sounds
    assert any("2 video streams" in warning for warning in info.warnings)
