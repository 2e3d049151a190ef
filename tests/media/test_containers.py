"""Outputs other than MP4: what each container carries, and that pictures and sound stay together."""

from __future__ import annotations

import hashlib
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import EncodeError, EncodeOptions, join_segments
from media._matroska import children
from media.containers import CONTAINERS, MKV, MOV, MP4, WEBM, container_of
from media.probing import probe
from tests.media.sources import Sound, Text, make_source, write_segment
from tests.media.test_join import frames_of

CUES = [(200, 900, "Hello"), (1000, 1500, "again")]


def joined(tmp_path: Path, source: Path, name: str, *, codec: Any = "h264", **range_: Any) -> Path:
    options = EncodeOptions(codec=codec, num_threads=1, preset="12" if codec == "av1" else "ultrafast")
    segment = write_segment(tmp_path / "segment.mp4", list(range(50)), options=options)
    join_segments([segment.path], tmp_path / name, source=probe(source), **range_)
    return tmp_path / name


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.name)
def test_names_choose_the_container(container: Any) -> None:
    assert container_of(Path(f"a{container.suffix.upper()}")) is container


def test_other_names_are_refused() -> None:
    with pytest.raises(EncodeError, match=r"a\.avi.*\.mp4, \.mkv, \.mov, \.webm"):
        container_of(Path("a.avi"))


def test_webm_takes_av1_and_vp9_alone() -> None:
    WEBM.check_video("av1")
    WEBM.check_video("vp9")
    with pytest.raises(EncodeError, match="WebM cannot hold h264; choose av1 or vp9"):
        WEBM.check_video("h264")
    assert WEBM.default_video == "av1"
    with pytest.raises(EncodeError, match="MOV cannot hold vp9"):
        MOV.check_video("vp9")


@pytest.mark.parametrize("codec", ["av1", "vp9"])
@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_frames_are_those_of_the_segments_to_the_millisecond(name: str, codec: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mp4", sounds=[Sound("aac")])
    path = joined(tmp_path, source, name, codec=codec)
    wanted, got = frames_of(tmp_path / "segment.mp4"), frames_of(path)
    assert [digest for *_, digest in got] == [digest for *_, digest in wanted]
    for (start, _, _), (expected, _, _) in zip(got, wanted, strict=True):
        assert abs(start - expected) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("suffix", "sound", "name", "expected"),
    [
        ("mp4", "aac", "a.mkv", "copied"),
        ("mkv", "ac3", "a.mkv", "copied"),
        ("mkv", "pcm_s24le", "a.mkv", "copied"),
        ("mkv", "libopus", "a.mkv", "copied"),
        ("mkv", "libopus", "a.webm", "copied"),
        ("mp4", "aac", "a.webm", "transcoded"),
        ("mkv", "flac", "a.webm", "transcoded"),
        ("mkv", "pcm_s24le", "a.mov", "copied"),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.6])
def test_sound_stays_with_the_picture(
    suffix: str, sound: str, name: str, expected: str, start: float, tmp_path: Path
) -> None:
    source = make_source(tmp_path / f"s.{suffix}", sounds=[Sound(sound)])
    options = EncodeOptions(codec="h264" if name == "a.mov" else "av1", preset="ultrafast", num_threads=1)
    segment = write_segment(tmp_path / "segment.mp4", list(range(30)), options=options)
    report = join_segments(
        [segment.path],
        tmp_path / name,
        source=probe(source),
        start_seconds=Fraction(start).limit_denominator(10),
    )
    assert [stream.action for stream in report.streams if stream.type == "audio"] == [expected]
    assert abs(shift_of_sound(source, tmp_path / name) - start) < 0.003


def shift_of_sound(source: Path, result: Path) -> float:
    """How much earlier a sound is heard in the result, in seconds, each counted from its video's start."""
    first, second = heard(source), heard(result)
    correlation = np.correlate(first, second, "full")
    return float(np.argmax(correlation) - (len(second) - 1)) / 8000


def heard(path: Path) -> Any:
    """The first channel at 8 kHz, from the first frame of the video on."""
    with av.open(str(path)) as container:
        zero = next(container.decode(video=0)).time
    resampler = av.AudioResampler("fltp", "mono", 8000)
    samples = np.zeros(8000 * 4, np.float32)
    with av.open(str(path)) as container:
        position = None
        for frame in container.decode(audio=0):
            if position is None:
                assert frame.time is not None
                assert zero is not None
                position = round((frame.time - zero) * 8000)
            for part in resampler.resample(frame):
                values = part.to_ndarray()[0]
                begin = max(0, -position)
                count = max(0, min(len(values) - begin, len(samples) - max(0, position)))
                samples[max(0, position) : max(0, position) + count] = values[begin : begin + count]
                position += len(values)
    return samples


def test_mkv_keeps_what_mp4_cannot(tmp_path: Path) -> None:
    font = b"not really a font" * 20
    source = make_source(
        tmp_path / "s.mkv",
        sounds=[Sound("aac", tags={"language": "eng"})],
        texts=[Text("subrip", CUES, tags={"language": "fre"}), Text("ass", CUES)],
        chapters=[(0, 1, "One"), (1, 2, "Two")],
        tags={"title": "Film", "director": "Somebody"},
    )
    with av.open(str(source)) as opened, av.open(str(tmp_path / "f.mkv"), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in opened.streams}
        for index, stream in streams.items():
            stream.metadata.update(opened.streams[index].metadata)
        output.add_attachment("font.ttf", "font/ttf", font)
        output.metadata.update(opened.metadata)
        output.set_chapters(opened.chapters())
        for packet in opened.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    path = joined(tmp_path, tmp_path / "f.mkv", "out.mkv")
    info = probe(path)
    assert [(text.codec, text.language) for text in info.subtitles] == [("subrip", "fre"), ("ass", None)]
    assert [chapter.title for chapter in info.chapters] == ["One", "Two"]
    assert info.metadata["title"] == "Film"
    assert info.metadata["DIRECTOR"] == "Somebody"
    with av.open(str(path)) as made:
        (attachment,) = made.streams.attachments
        assert bytes(attachment.data) == font


def test_text_becomes_what_the_container_knows(tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mkv", texts=[Text("ass", CUES)])
    path = joined(tmp_path, source, "a.webm", codec="av1")
    assert [text.codec for text in probe(path).subtitles] == ["webvtt"]
    with av.open(str(path)) as made:
        texts = [bytes(packet) for packet in made.demux(subtitles=0) if packet.size]
    assert texts == [b"Hello", b"again"]


def test_a_cover_becomes_an_attachment_of_mkv(tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mp4", cover=True)
    path = joined(tmp_path, source, "a.mkv")
    covers = [other for other in probe(path).others if other.name == "cover.png"]
    assert len(covers) == 1


@pytest.mark.parametrize("codec", ["av1", "vp9"])
@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4"])
def test_the_same_join_gives_the_same_bytes(name: str, codec: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mkv", sounds=[Sound("aac")], texts=[Text("subrip", CUES)])
    digests = {
        hashlib.sha256(joined(tmp_path, source, name, codec=codec).read_bytes()).hexdigest() for _ in range(2)
    }
    assert len(digests) == 1


def test_every_container_says_what_it_leaves_out(tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mp4", cover=True)
    segment = write_segment(
        tmp_path / "segment.mp4", [0, 1], options=EncodeOptions(codec="av1", preset="12", num_threads=1)
    )
    report = join_segments([segment.path], tmp_path / "a.webm", source=probe(source))
    assert [stream.detail for stream in report.streams if stream.action == "dropped"] == [
        "WebM holds no covers"
    ]


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "av1"), ("a.webm", "av1"), ("a.webm", "vp9")])
def test_matroska_says_the_shape_of_pixels_and_finds_its_parts(name: str, codec: Any, tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mkv", sounds=[Sound("libopus")], chapters=[(0, 1, "One")])
    options = EncodeOptions(codec=codec, preset="ultrafast", num_threads=1)
    segment = write_segment(
        tmp_path / "segment.mp4", [0, 1], options=options, sample_aspect_ratio=Fraction(64, 45)
    )
    join_segments([segment.path], tmp_path / name, source=probe(source))
    video = probe(tmp_path / name).video
    assert video.width * video.sample_aspect_ratio == pytest.approx(91, abs=0.5)
    data = (tmp_path / name).read_bytes()
    (body,) = (part for part in children(data, 0, len(data)) if part.id == 0x18538067)
    (table,) = (part for part in children(data, body.start, body.end) if part.id == 0x114D9B74)
    num_entries = 0
    for entry in children(data, table.start, table.end):
        if entry.id == 0x4DBB:  # else it is a checksum
            values = [data[value.start : value.end] for value in children(data, entry.start, entry.end)]
            place = body.start + int.from_bytes(values[1], "big")
            assert data[place : place + len(values[0])] == values[0]
            num_entries += 1
    assert num_entries >= 4
    for part in (table, next(p for p in children(data, body.start, body.end) if p.id == 0x1654AE6B)):
        content = data[part.start : part.end]
        if content.startswith(b"\xbf\x84"):
            assert content[2:6] == zlib.crc32(content[6:]).to_bytes(4, "little")


def test_what_is_copied_is_what_a_header_takes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "s.mkv", sounds=[Sound("pcm_s16le")])
    with av.open(str(source)) as opened:
        stream = opened.streams.audio[0]
        assert MKV.takes(stream, "pcm_s16le")
        assert not MP4.takes(stream, "pcm_s16le")
