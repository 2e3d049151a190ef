"""Sound of the final file: copied bit for bit or encoded, always in time with the picture."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import JoinReport, join_segments
from media.probing import probe
from tests.media import boxes as mp4
from tests.media.sources import Sound, make_source, write_segment

Samples = np.ndarray[Any, np.dtype[np.float32]]

# (codec, container) pairs whose packets MP4 can hold, and those it cannot.
COPIED = [
    ("aac", "mp4"),
    ("aac", "ts"),
    ("aac", "mkv"),
    ("ac3", "mp4"),
    ("eac3", "mkv"),
    ("libmp3lame", "mp4"),
    ("libmp3lame", "avi"),
    ("libopus", "mkv"),
    ("flac", "mkv"),
    ("alac", "mov"),
]
ENCODED = [
    ("pcm_s16le", "avi"),
    ("pcm_s16le", "mkv"),
    ("pcm_s24le", "mov"),
    ("pcm_u8", "avi"),
    ("mp2", "ts"),
    ("wmav2", "wmv"),
    ("pcm_alaw", "avi"),
]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of video."""
    return write_segment(tmp_path_factory.mktemp("segment") / "0.mp4", range(50)).path


def join(path: Path, segment: Path, **part: Any) -> tuple[Path, JoinReport]:
    final = path.with_name("final.mp4")
    return final, join_segments([segment], final, source=probe(path), **part)


def decode(path: Path, index: int = 0) -> Iterator[tuple[Fraction | None, Samples, int]]:
    """(seconds, first channel, rate) of every decoded frame."""
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[index]):
            mono = av.AudioResampler("fltp", "mono", frame.sample_rate).resample(frame)[0].to_ndarray()[0]
            seconds = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
            yield seconds, np.asarray(mono, np.float32), frame.sample_rate


def timeline(path: Path, zero: Fraction = Fraction(0)) -> tuple[Samples, int]:
    """Samples from one second before zero to three after it; contiguous where time stamps allow it."""
    rate, line, end = 0, np.zeros(0, np.float32), None
    for seconds, samples, rate in decode(path):
        if not len(line):
            line = np.zeros(4 * rate, np.float32)
        start = end if seconds is None else round((seconds - zero + 1) * rate)
        if end is not None and (start is None or abs(start - end) <= rate * 0.0012):
            start = end
        assert start is not None
        end = start + len(samples)
        inside = slice(max(0, start), min(len(line), end))
        if inside.stop > inside.start:
            line[inside] = samples[inside.start - start : inside.stop - start]
    return line, rate


def lag_seconds(before: Samples, after: Samples, rate: int) -> tuple[float, float]:
    """By how much `after` is late, and how alike the two are then (1 = the same)."""
    size = 2 * len(before)
    product = np.fft.rfft(after, size) * np.conj(np.fft.rfft(before, size))
    correlation = np.fft.irfft(product)
    peak = int(np.argmax(correlation))
    likeness = correlation[peak] / np.sqrt(np.sum(before**2) * np.sum(after**2))
    return (peak if peak < len(before) else peak - size) / rate, float(likeness)


def raw_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def decoded_digest(path: Path) -> str:
    digest = hashlib.md5()
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(("codec", "container"), COPIED)
def test_sound_that_mp4_can_hold_is_copied_bit_for_bit(
    tmp_path: Path, segment: Path, codec: str, container: str
) -> None:
    source = make_source(tmp_path / f"source.{container}", sounds=[Sound(codec)])
    final, report = join(source, segment)
    assert (report.streams[1].action, report.streams[1].detail) == ("copied", "")
    if container != "ts":  # there the packets lose their ADTS head
        assert raw_packets(final) == raw_packets(source)
    if codec not in ("libopus", "libmp3lame"):  # whose end padding MP4 does not record
        assert decoded_digest(final) == decoded_digest(source)


@pytest.mark.parametrize(("codec", "container"), COPIED + ENCODED)
@pytest.mark.parametrize("start", [None, Fraction("0.6345"), Fraction(9, 10)])
def test_sound_stays_within_a_millisecond_of_the_picture(
    tmp_path: Path, segment: Path, codec: str, container: str, start: Fraction | None
) -> None:
    rate = 44_100 if codec == "wmav2" else 48_000
    layout = "mono" if codec == "pcm_alaw" else "stereo"
    source = make_source(tmp_path / f"source.{container}", sounds=[Sound(codec, rate=rate, layout=layout)])
    part = {} if start is None else {"start_seconds": start, "duration_seconds": Fraction(1)}
    final, report = join(source, segment, **part)
    assert report.streams[1].action == ("copied" if (codec, container) in COPIED else "transcoded")
    before, rate = timeline(source, probe(source).origin_seconds + (start or 0))
    after, rate_after = timeline(final)
    assert rate_after == rate
    shown = slice(rate, 2 * rate) if start is not None else slice(None)
    late, likeness = lag_seconds(before[shown], after[shown], rate)
    assert abs(late) < 0.001
    assert likeness > 0.99
    assert np.abs(after[: rate - rate // 500]).max() == 0, "nothing is heard before the start"
    if start != Fraction("0.6345"):  # the only one amid a burst
        return
    beginning = slice(rate, rate + rate // 100)
    loudness = np.sum(after[beginning] ** 2) / np.sum(before[beginning] ** 2)
    assert 0.7 < loudness < 1.4, "the decoder has what it needs for the first samples"


@pytest.mark.parametrize(("codec", "container"), ENCODED)
def test_sound_that_mp4_cannot_hold_becomes_aac_of_the_same_length(
    tmp_path: Path, segment: Path, codec: str, container: str
) -> None:
    source = make_source(tmp_path / f"source.{container}", sounds=[Sound(codec, rate=44_100)])
    final, report = join(source, segment)
    assert report.streams[1].action == "transcoded"
    with av.open(str(final)) as found:
        stream = found.streams.audio[0]
        assert (stream.codec_context.codec.canonical_name, stream.rate) == ("aac", 44_100)
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("mono", "mono"), ("stereo", "stereo"), ("5.1", "5.1"), ("quad", "5.1"), ("7.1", "5.1")],
)
@pytest.mark.parametrize("container", ["mov", "avi"])
def test_channels_are_mapped_to_what_players_know(
    tmp_path: Path, segment: Path, layout: str, expected: str, container: str
) -> None:
    source = make_source(tmp_path / f"source.{container}", sounds=[Sound("pcm_s16le", layout=layout)])
    final, _ = join(source, segment)
    with av.open(str(final)) as found:
        assert found.streams.audio[0].layout.name == expected


@pytest.mark.parametrize(
    ("rate", "expected"), [(96_000, 48_000), (11_025, 11_025), (22_050, 22_050), (37_800, 48_000)]
)
def test_rates_are_kept_or_become_48_khz(tmp_path: Path, segment: Path, rate: int, expected: int) -> None:
    source = make_source(tmp_path / "source.mov", sounds=[Sound("pcm_s16le", rate=rate)])
    final, _ = join(source, segment)
    with av.open(str(final)) as found:
        assert found.streams.audio[0].rate == expected
    # 2 s of sound give 2 s of sound, whatever the rate
    assert sum(len(samples) for _, samples, _ in decode(final)) / expected == pytest.approx(2.0, abs=0.1)


def test_mp3_below_16_khz_is_encoded_since_mp4_refuses_it(tmp_path: Path, segment: Path) -> None:
    source = make_source(tmp_path / "source.mkv", sounds=[Sound("libmp3lame", rate=12_000)])
    _, report = join(source, segment)
    assert report.streams[1].action == "transcoded"


def test_all_tracks_come_with_language_title_and_flags(tmp_path: Path, segment: Path) -> None:
    sounds = [
        Sound("aac", tags={"language": "deu", "title": "Deutsch: Original"}, disposition=1),
        Sound("libopus", tags={"language": "fra", "title": "Commentaire"}, disposition=0),
        Sound("pcm_s16le", tags={"language": "jpn"}),
    ]
    source = make_source(tmp_path / "source.mkv", sounds=sounds)
    final, report = join(source, segment)
    assert [stream.action for stream in report.streams] == ["transcoded", "copied", "copied", "transcoded"]
    with av.open(str(final)) as found:
        tracks = found.streams.audio
        assert [track.metadata["language"] for track in tracks] == ["deu", "fra", "jpn"]
        titles = [track.metadata.get("name") for track in tracks]  # FFmpeg's word for an MP4 track's title
        assert titles == ["Deutsch: Original", "Commentaire", None]
        assert [track.metadata["handler_name"] for track in tracks[:2]] == titles[:2]
        assert [bool(track.disposition & 1) for track in tracks] == [True, False, False]


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_that_starts_late_stays_late(tmp_path: Path, segment: Path, codec: str) -> None:
    source = make_source(tmp_path / "source.mkv", sounds=[Sound(codec, start=0.5)])
    final, _ = join(source, segment)
    before, rate = timeline(source)
    after, _ = timeline(final)
    assert abs(lag_seconds(before, after, rate)[0]) < 0.001


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_the_containers_start_is_subtracted_from_sound(tmp_path: Path, segment: Path, codec: str) -> None:
    source = make_source(tmp_path / "source.ts", sounds=[Sound(codec)], origin=6.4)
    final, _ = join(source, segment)
    first = next(seconds for seconds, _, _ in decode(final))
    assert first is not None
    assert 0 <= first < 0.05


def test_sound_outside_the_range_is_dropped_and_reported(tmp_path: Path, segment: Path) -> None:
    source = make_source(tmp_path / "source.mkv", seconds=1.0, sounds=[Sound("pcm_s16le"), Sound("aac")])
    _, report = join(source, segment, start_seconds=Fraction(30))
    assert [stream.action for stream in report.streams] == ["transcoded", "dropped", "dropped"]
    assert all(stream.detail for stream in report.streams)


def test_a_hole_in_the_source_becomes_silence(tmp_path: Path, segment: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", sounds=[Sound("pcm_s16le")])
    path = tmp_path / "source.mkv"
    with av.open(str(whole)) as before, av.open(str(path), "w") as after:
        streams = {
            stream.index: after.add_stream_from_template(stream, opaque=True) for stream in before.streams
        }
        for packet in before.demux():
            seconds = 0 if packet.dts is None else packet.dts * packet.time_base
            if packet.dts is not None and not (packet.stream.type == "audio" and 0.45 < seconds < 1.15):
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    final, _ = join(path, segment)
    line, rate = timeline(final)
    reference, _ = timeline(whole)
    assert np.abs(line[round(1.55 * rate) : round(2.1 * rate)]).max() < 0.02
    assert np.abs(reference[round(1.55 * rate) : round(2.1 * rate)]).max() > 0.1
    late, _ = lag_seconds(reference[round(2.2 * rate) :], line[round(2.2 * rate) :], rate)
    assert abs(late) < 0.001


def test_badly_interleaved_source_is_written_well_interleaved(tmp_path: Path, segment: Path) -> None:
    source = make_source(
        tmp_path / "source.mkv", sounds=[Sound("aac"), Sound("libopus")], is_badly_interleaved=True
    )
    final, _ = join(source, segment)
    offsets: list[tuple[int, float]] = []
    with av.open(str(final)) as found:
        offsets = [
            (packet.pos or 0, float(packet.dts * packet.time_base))
            for packet in found.demux()
            if packet.dts is not None
        ]
    offsets.sort()
    furthest = 0.0
    for _, seconds in offsets:
        assert seconds > furthest - 1.1, "a player would have to look more than a second back"
        furthest = max(furthest, seconds)
    assert abs(lag_seconds(timeline(source)[0], timeline(final)[0], 48_000)[0]) < 0.001


@pytest.mark.parametrize("codec", ["aac", "libmp3lame"])
def test_millisecond_time_stamps_become_even_frames(tmp_path: Path, segment: Path, codec: str) -> None:
    final, _ = join(make_source(tmp_path / "source.mkv", sounds=[Sound(codec)]), segment)
    with av.open(str(final)) as found:
        starts = [packet.pts for packet in found.demux(found.streams.audio[0]) if packet.size]
    steps = {after - before for before, after in pairwise(starts) if before is not None and after is not None}
    assert steps == {1024 if codec == "aac" else 1152}


def test_copied_track_starts_with_an_edit_that_hides_the_priming(tmp_path: Path, segment: Path) -> None:
    source = make_source(tmp_path / "source.mp4", sounds=[Sound("aac")])
    final, _ = join(source, segment)
    edit_lists = mp4.find(mp4.read_boxes(final), "elst")
    assert mp4.edits(edit_lists[1])[0][1] == 1024
