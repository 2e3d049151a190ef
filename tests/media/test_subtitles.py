"""Text subtitles of the final file: the same words at the same times, whatever format they came in."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import join_segments
from media._subtitles import Cue, flatten_cues
from media.probing import probe
from tests.media.sources import Text, make_source, write_segment

CUES = [(100, 600, "Grüße, Welt"), (700, 900, r"zwei\NZeilen"), (1200, 1900, r"{\i1}schräg{\i0} 日本")]
PLAIN = ["Grüße, Welt", "zwei\nZeilen", "schräg 日本"]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segment(tmp_path_factory.mktemp("segment") / "0.mp4", range(50)).path


def samples(path: Path, index: int = 0) -> list[tuple[int, int, str]]:
    """(start ms, end ms, text) of every non-empty mov_text sample, read from the bytes."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[index]
        assert stream.codec_context.codec.canonical_name == "mov_text"
        for packet in container.demux(stream):
            data = bytes(packet)
            length = int.from_bytes(data[:2], "big")
            if length and packet.pts is not None:
                start = round(packet.pts * packet.time_base * 1000)
                end = start + round((packet.duration or 0) * packet.time_base * 1000)
                found.append((start, end, data[2 : 2 + length].decode()))
    return found


def joined(path: Path, segment: Path, **part: Any) -> Path:
    final = path.with_name("final.mp4")
    join_segments([segment], final, source=probe(path), **part)
    return final


@pytest.mark.parametrize(
    ("codec", "container"), [("subrip", "mkv"), ("ass", "mkv"), ("webvtt", "mkv"), ("mov_text", "mp4")]
)
def test_text_and_times_are_kept(tmp_path: Path, segment: Path, codec: str, container: str) -> None:
    source = make_source(tmp_path / f"source.{container}", texts=[Text(codec, CUES)])
    found = samples(joined(source, segment))
    assert [(start, end) for start, end, _ in found] == [(start, end) for start, end, _ in CUES]
    assert [text for _, _, text in found] == PLAIN


def test_italics_survive(tmp_path: Path, segment: Path) -> None:
    final = joined(make_source(tmp_path / "source.mkv", texts=[Text("ass", CUES)]), segment)
    with av.open(str(final)) as container:
        data = [bytes(packet) for packet in container.demux(container.streams.subtitles[0])]
    assert any(b"styl" in sample for sample in data)


def test_tracks_keep_language_title_and_flags(tmp_path: Path, segment: Path) -> None:
    texts = [
        Text("subrip", CUES, tags={"language": "deu", "title": "Für alle"}, disposition=1),
        Text("ass", CUES, tags={"language": "jpn"}),
    ]
    final = joined(make_source(tmp_path / "source.mkv", texts=texts), segment)
    with av.open(str(final)) as container:
        tracks = container.streams.subtitles
        assert [track.metadata["language"] for track in tracks] == ["deu", "jpn"]
        assert tracks[0].metadata["handler_name"] == "Für alle"
        assert [bool(track.disposition & 1) for track in tracks] == [True, False]
    assert samples(final, 0) == samples(final, 1)


def test_a_range_cuts_and_shifts_cues(tmp_path: Path, segment: Path) -> None:
    source = make_source(tmp_path / "source.mkv", texts=[Text("subrip", CUES)])
    final = joined(source, segment, start_seconds=Fraction(1, 2), duration_seconds=Fraction(9, 10))
    assert samples(final) == [(0, 100, PLAIN[0]), (200, 400, PLAIN[1]), (700, 900, PLAIN[2])]


def test_a_track_without_text_in_the_range_is_dropped_and_reported(tmp_path: Path, segment: Path) -> None:
    source = make_source(tmp_path / "source.mkv", texts=[Text("subrip", CUES)])
    report = join_segments(
        [segment],
        tmp_path / "final.mp4",
        source=probe(source),
        start_seconds=Fraction(95, 100),
        duration_seconds=Fraction(1, 5),
    )
    assert [(stream.type, stream.action) for stream in report.streams] == [
        ("video", "transcoded"),
        ("subtitle", "dropped"),
    ]


def test_overlapping_cues_show_both_texts(tmp_path: Path, segment: Path) -> None:
    cues = [(100, 1000, "lang"), (400, 600, "kurz"), (400, 600, "auch")]
    final = joined(make_source(tmp_path / "source.mkv", texts=[Text("subrip", cues)]), segment)
    assert samples(final) == [
        (100, 400, "lang"),
        (400, 600, "lang\nkurz\nauch"),
        (600, 1000, "lang"),
    ]


def test_many_sparse_cues_do_not_upset_the_muxer(tmp_path: Path, segment: Path) -> None:
    cues = [(0, 1, "a"), (1, 2, "b"), (1990, 60_000, "z"), (120_000, 120_001, "end")]
    final = joined(make_source(tmp_path / "source.mkv", texts=[Text("subrip", cues)]), segment)
    assert [text for _, _, text in samples(final)] == ["a", "b", "z", "end"]


# The rule by itself

cue_lists = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12), st.text("abc", min_size=1, max_size=2)), max_size=12
)


def shown_at(cues: Sequence[Cue], moment: int) -> list[bytes]:
    active = sorted(
        (cue for cue in cues if cue.start <= moment < cue.end), key=lambda cue: (cue.start, cue.end)
    )
    return [line for cue in active for line in cue.text.split(b"\\N")]


@given(cue_lists)
@settings(max_examples=200, deadline=None)
def test_flattened_cues_show_the_same_text_at_every_moment(raw: list[tuple[int, int, str]]) -> None:
    cues = [Cue(start, start + length, b"", text.encode()) for start, length, text in raw]
    flat = flatten_cues(cues)
    for before, after in pairwise(flat):
        assert before.end <= after.start
    for moment in range(55):
        assert sorted(shown_at(flat, moment)) == sorted(shown_at(cues, moment))
