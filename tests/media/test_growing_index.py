"""Indices of segment files: exact for what our writers make, a typed error for everything else."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from media import MediaError
from media.growing import MalformedSegmentError, SegmentIndex, index_segment, merge_inits, retrack
from media.growing.audio import extract_audio
from tests.media import boxes as mp4
from tests.media.sources import Sound, make_source, write_segment
from tests.media.test_writer import CODECS, fast

PTS = [500, 540, 600, 1000, 1800, 1801]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Six frames in two fragments, the last shown for 7 ms."""
    folder = tmp_path_factory.mktemp("segment")
    return write_segment(
        folder / "0.mp4", PTS, last_duration=7, time_base=Fraction(1, 1000), rate=Fraction(2)
    ).path.read_bytes()


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of AAC."""
    folder = tmp_path_factory.mktemp("audio")
    track = extract_audio(make_source(folder / "source.mp4", sounds=[Sound("aac")]), folder / "audio.mp4")
    assert track is not None
    return track.path.read_bytes()


def test_fragments_lie_where_the_boxes_lie(segment: bytes) -> None:
    index = index_segment(segment)
    found = [box for box in mp4.read_boxes(segment) if "/" not in box.path]
    assert [box.name for box in found] == ["ftyp", "moov", "moof", "mdat", "moof", "mdat", "mfra"]
    assert index.init_size == found[1].offset + found[1].size
    assert [(f.offset, f.size) for f in index.fragments] == [
        (moof.offset, moof.size + mdat.size) for moof, mdat in (found[2:4], found[4:6])
    ]
    assert index.num_bytes == len(segment) - index.init_size - found[6].size


def test_times_are_those_of_the_frames(segment: bytes) -> None:
    index = index_segment(segment)
    assert (index.timescale, index.edit_start, index.num_samples) == (1000, 0, len(PTS))
    assert [(f.start, f.end, f.num_samples, f.is_key) for f in index.fragments] == [
        (500, 1800, 4, True),
        (1800, 1808, 2, True),
    ]
    assert (index.start_seconds, index.end_seconds) == (Fraction(1, 2), Fraction(1808, 1000))


def test_audio_is_indexed_with_its_priming_before_zero(audio: bytes) -> None:
    index = index_segment(audio)
    assert (index.timescale, index.edit_start) == (48_000, 1024)
    assert (index.format.kind, index.format.sample_rate, index.format.channels) == ("audio", 48_000, 2)
    assert (index.start_seconds, index.end_seconds) == (Fraction(-1024, 48_000), 2)
    assert all(fragment.is_key for fragment in index.fragments)


def test_file_and_bytes_give_the_same_index(tmp_path: Path, segment: bytes) -> None:
    path = tmp_path / "0.mp4"
    path.write_bytes(segment)
    with path.open("rb") as file:
        assert index_segment(path) == index_segment(file) == index_segment(segment)


def test_index_survives_json_and_stays_small(segment: bytes, audio: bytes) -> None:
    for data in (segment, audio):
        index = index_segment(data)
        text = json.dumps(index.to_dict())
        assert SegmentIndex.from_dict(json.loads(text)) == index
        assert len(text) < 500


def test_values_that_are_no_index_are_refused(segment: bytes) -> None:
    good = index_segment(segment).to_dict()
    without = {key: value for key, value in good.items() if key != "fragments"}
    for values in ({}, without, good | {"fragments": [[1]]}, good | {"format": {"name": 1}}):
        with pytest.raises(MalformedSegmentError, match="no index of a segment"):
            SegmentIndex.from_dict(values)


@pytest.mark.parametrize("codec", CODECS)
def test_segments_of_the_same_settings_have_the_same_digest(tmp_path: Path, codec: str) -> None:
    indices = [
        index_segment(write_segment(tmp_path / f"{n}.mp4", [25 * n], options=fast(codec)).path)
        for n in range(2)
    ]
    assert indices[0].init_digest == indices[1].init_digest


def test_version_of_the_program_does_not_change_the_digest(segment: bytes) -> None:
    assert segment.count(b"Lavf") == 1
    other = segment.replace(b"Lavf", b"Lavg")
    assert index_segment(other) == index_segment(segment)


def test_every_cut_off_file_is_refused_or_has_whole_fragments(segment: bytes) -> None:
    whole = index_segment(segment)
    num_readable = 0
    for size in range(len(segment)):
        try:
            index = index_segment(segment[:size])
        except MalformedSegmentError:
            continue
        num_readable += 1
        assert index.fragments == whole.fragments[: len(index.fragments)]
    assert num_readable == 2  # cut exactly behind a fragment


def test_nonsense_is_refused_or_indexed_but_never_anything_else(segment: bytes, audio: bytes) -> None:
    """Every byte of the headers set to extremes."""
    num_refused = 0
    for data in (segment, audio):
        index = index_segment(data)
        first_data = index.fragments[0].offset + 400
        for position in range(first_data):
            for value in (0x00, 0x01, 0x7F, 0xFF):
                damaged = data[:position] + bytes([value]) + data[position + 1 :]
                try:
                    index_segment(damaged)
                except MalformedSegmentError:
                    num_refused += 1
    assert num_refused > 1000


def _absolute_offset(data: bytes) -> bytes:
    """The first tfhd with the flag that its data offset is absolute."""
    position = data.index(b"tfhd") + 7
    return data[:position] + bytes([data[position] | 1]) + data[position + 1 :]


def _delayed(data: bytes) -> bytes:
    """An empty edit instead of the one there is."""
    position = data.index(b"elst") + 4 + 8 + 4
    return data[:position] + struct.pack(">i", -1) + data[position + 4 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "begins with"),
        (lambda data: b"not a film, only text of some length", "claims .* the file was probably cut off"),
        (lambda data: data[28:], "begins with"),
        (lambda data: data[: index_segment(data).init_size], "no fragments"),
        (lambda data: data[: index_segment(data).fragments[0].offset + 136], "and then 'nothing'"),
        (lambda data: data + data[index_segment(data).fragments[0].offset :], "follows one at"),
        (lambda data: data.replace(b"mdat", b"mdaX"), "expected 'moof' and then 'mdat'"),
        (lambda data: data.replace(b"avc1\0", b"vp08\0"), "accepted are avc1"),
        (lambda data: data.replace(b"vide", b"text"), "expected 'vide' or 'soun'"),
        (lambda data: data.replace(b"trex", b"free"), "'trex'"),
        (_absolute_offset, "absolute offset"),
        (_delayed, "accepted is one at 0 or later"),
    ],
)
def test_message_says_what_is_wrong(segment: bytes, damage: Callable[[bytes], bytes], message: str) -> None:
    assert damage(segment) != segment
    with pytest.raises(MalformedSegmentError, match=message):
        index_segment(damage(segment))


def test_ordinary_mp4_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedSegmentError, match="begins with"):
        index_segment(make_source(tmp_path / "plain.mp4", sounds=[Sound("aac")]))


def test_file_with_two_tracks_is_refused(segment: bytes, audio: bytes) -> None:
    init = merge_inits(segment[: index_segment(segment).init_size], audio[: index_segment(audio).init_size])
    with pytest.raises(MalformedSegmentError, match="exactly one box 'trak' here, found 2"):
        index_segment(init + segment[index_segment(segment).init_size :])


def test_inits_that_count_time_differently_are_not_merged(segment: bytes, audio: bytes) -> None:
    init = audio[: index_segment(audio).init_size]
    position = init.index(b"mvhd") + 4 + 12
    other = init[:position] + struct.pack(">I", 1000) + init[position + 4 :]
    with pytest.raises(MalformedSegmentError, match="90000 ticks per second, the audio's 1000"):
        merge_inits(segment[: index_segment(segment).init_size], other)


@pytest.mark.parametrize("size", [0, 4, 8, 16, 40, 70])
def test_retrack_refuses_what_is_no_fragment(segment: bytes, size: int) -> None:
    first = index_segment(segment).fragments[0]
    with pytest.raises(MalformedSegmentError):
        retrack(segment[first.offset : first.offset + size], 1, 1)
    with pytest.raises(MalformedSegmentError, match="expected b'moof'"):
        retrack(segment, 1, 1)


def test_serving_imports_neither_torch_nor_av() -> None:
    code = (
        "import sys, media.growing, media.growing.boxes, media.growing.stream, media.growing.hls;"
        "print(sorted({'torch', 'av', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_error_is_one_of_the_media_package() -> None:
    assert issubclass(MalformedSegmentError, MediaError)
    assert MalformedSegmentError.code == "malformed_segment"


def test_retracked_fragment_still_decodes(segment: bytes, tmp_path: Path) -> None:
    index = index_segment(segment)
    path = tmp_path / "renumbered.mp4"
    path.write_bytes(
        segment[: index.init_size]
        + b"".join(retrack(segment[f.offset : f.offset + f.size], 1, 9) for f in index.fragments)
    )
    with av.open(str(path)) as container:
        assert [frame.pts for frame in container.decode(video=0)] == PTS
