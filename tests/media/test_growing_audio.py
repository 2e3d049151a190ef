"""The sound of the growing stream: which track, copied or encoded, in short fragments, with little memory."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import EncodeError, UnreadableInputError
from media.growing import index_segment
from media.growing.audio import extract_audio
from media.probing import probe
from tests.media.sources import Sound, make_source

DEFAULT = 1


def test_source_without_sound_gives_no_file(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mp4")
    assert extract_audio(source, tmp_path / "audio.mp4") is None
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_range_without_sound_gives_no_file(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mkv", seconds=1, sounds=[Sound("aac")])
    assert extract_audio(source, tmp_path / "audio.mp4", start_seconds=Fraction(20)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["source.mkv"]


@pytest.mark.parametrize(
    ("codec", "container", "is_cut", "action", "written"),
    [
        ("aac", "mp4", False, "copied", "mp4a.40.2"),
        ("aac", "ts", False, "copied", "mp4a.40.2"),
        ("aac", "mkv", True, "copied", "mp4a.40.2"),
        ("libopus", "mkv", False, "copied", "Opus"),
        ("libopus", "mkv", True, "transcoded", "mp4a.40.2"),
        ("flac", "mkv", False, "copied", "fLaC"),
        ("libmp3lame", "mp4", False, "transcoded", "mp4a.40.2"),
        ("ac3", "mp4", False, "transcoded", "mp4a.40.2"),
        ("pcm_s16le", "avi", False, "transcoded", "mp4a.40.2"),
    ],
)
def test_sound_is_copied_where_browsers_play_it_and_encoded_where_not(
    tmp_path: Path, codec: str, container: str, is_cut: bool, action: str, written: str
) -> None:
    source = make_source(tmp_path / f"source.{container}", sounds=[Sound(codec)])
    track = extract_audio(source, tmp_path / "audio.mp4", start_seconds=Fraction(1, 2) if is_cut else None)
    assert track is not None
    assert (track.action, track.index.format.codec) == (action, written)
    assert track.source_codec == {"libopus": "opus", "libmp3lame": "mp3"}.get(codec, codec)
    assert track.index == index_segment(track.path)
    if action == "copied" and container == "mp4":
        assert _packets(track.path) == _packets(source)


def test_default_track_is_taken_before_the_first(tmp_path: Path) -> None:
    sounds = [Sound("aac", layout="mono"), Sound("aac", disposition=DEFAULT)]
    info = probe(make_source(tmp_path / "source.mkv", sounds=sounds))
    assert [stream.disposition for stream in info.audio] == [(), ("default",)]
    track = extract_audio(info, tmp_path / "audio.mp4")
    assert track is not None
    assert (track.source_index, track.index.format.channels) == (info.audio[1].index, 2)


def test_track_without_sound_in_the_range_is_passed_over(tmp_path: Path) -> None:
    sounds = [Sound("pcm_s16le", disposition=DEFAULT, start=2.0), Sound("aac", layout="mono")]
    source = make_source(tmp_path / "source.mkv", sounds=sounds)
    track = extract_audio(source, tmp_path / "audio.mp4", duration_seconds=Fraction(1))
    assert track is not None
    assert (track.source_codec, track.index.format.channels) == ("aac", 1)


def test_fragments_are_short_and_follow_without_holes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mp4", seconds=7, sounds=[Sound("aac", rate=44_100)])
    track = extract_audio(source, tmp_path / "audio.mp4")
    assert track is not None
    fragments = track.index.fragments
    assert len(fragments) >= 7
    assert all(before.end == after.start for before, after in pairwise(fragments))
    assert max(fragment.duration for fragment in fragments) < 1.1 * 44_100


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_one_packet_of_sound_is_enough(tmp_path: Path, codec: str) -> None:
    source = make_source(tmp_path / "source.mkv", seconds=0.04, sounds=[Sound(codec)])
    track = extract_audio(source, tmp_path / "audio.mp4", duration_seconds=Fraction(1, 100))
    assert track is not None
    assert len(track.index.fragments) == 1
    assert 0 < track.index.end_seconds < Fraction(4, 100)


def test_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    """Half a second of packets is missing from a file that is copied."""
    source, holed = make_source(tmp_path / "s.mp4", seconds=3, sounds=[Sound("aac")]), tmp_path / "holed.mkv"
    with av.open(str(source)) as reading, av.open(str(holed), "w") as writing:
        copies = {stream.index: writing.add_stream_from_template(stream) for stream in reading.streams}
        for packet in reading.demux():
            seconds = None if packet.pts is None else packet.pts * packet.time_base
            is_lost = packet.stream.type == "audio" and seconds is not None and 1 <= seconds < Fraction(3, 2)
            if packet.size and not is_lost:
                packet.stream = copies[packet.stream.index]
                writing.mux(packet)
    track = extract_audio(holed, tmp_path / "audio.mp4")
    assert track is not None
    assert track.action == "copied"
    expected, found = _times(holed), _times(track.path)
    assert np.abs(expected - found).max() < 0.001
    assert (np.diff(found) > 0.4).sum() == 1


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """In a process of its own: the highest memory use of this one was in some other test."""
    source = make_source(tmp_path / "source.mkv", sounds=[Sound("flac")])
    long = _repeat(source, tmp_path / "long.mkv", times=450)
    code = """
import resource, sys
from pathlib import Path
from media.growing.audio import extract_audio
for source in sys.argv[1:3]:
    track = extract_audio(source, Path(sys.argv[3]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    arguments = [str(source), str(long), str(tmp_path / "audio.mp4")]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    before, after = map(int, result.stdout.split())  # KiB
    assert (tmp_path / "audio.mp4").stat().st_size > 15_000_000
    assert after - before < 10_000


def test_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.avi", sounds=[Sound("pcm_s16le")])
    for name in ("a.mp4", "b.mp4", "b.mp4"):
        extract_audio(source, tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "source.avi"]


def test_unreadable_source_and_unwritable_destination_have_their_errors(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError):
        extract_audio(tmp_path / "missing.mp4", tmp_path / "audio.mp4")
    source = make_source(tmp_path / "source.mp4", sounds=[Sound("aac")])
    with pytest.raises(EncodeError, match="cannot write"):
        extract_audio(source, tmp_path / "no folder" / "audio.mp4")


def _times(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """When each packet of sound is heard, in seconds."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        return np.array([float((packet.pts or 0) * packet.time_base) for packet in packets])


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def _repeat(source: Path, target: Path, *, times: int) -> Path:
    """The source's packets again and again."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        copies = {stream.index: writing.add_stream_from_template(stream) for stream in reading.streams}
        packets = [(p.stream.index, bytes(p), p.pts, p.duration) for p in reading.demux() if p.size]
        for turn in range(times):
            for stream_index, data, pts, duration in packets:
                packet = av.Packet(data)
                packet.pts = packet.dts = (pts or 0) + 2000 * turn
                packet.duration, packet.time_base = duration, Fraction(1, 1000)
                packet.is_keyframe = True
                packet.stream = copies[stream_index]
                writing.mux(packet)
    return target
