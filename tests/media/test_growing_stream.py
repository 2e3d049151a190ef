"""The growing stream: at its end exactly the joined file's frames and sound, and playable at every length."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import MediaInfo, SegmentMismatchError, join_segments
from media.growing import (
    GrowingStream,
    MalformedSegmentError,
    Piece,
    SegmentIndex,
    index_segment,
    retrack,
    stream_init,
)
from media.growing.audio import extract_audio
from media.probing import probe
from tests.media import boxes as mp4
from tests.media.sources import Sound, make_source, write_segment
from tests.media.test_audio import decode, lag_seconds
from tests.media.test_join import digest, frames_of
from tests.media.test_writer import CODECS, fast

# Two frames per second make groups of four frames: two fragments in most segments, one cut short in the last.
RATE = Fraction(2)
CONSTANT = [[500 * n for n in range(first, first + 8)] for first in (0, 8, 16)] + [[12_000, 12_500, 13_000]]
VARIABLE = [
    [0, 33, 700, 1001, 1402, 3000, 3333],
    [3334],
    [4000, 4003, 7000, 7001, 7002, 9000],
    [9001, 11_000],
]


@dataclass(frozen=True)
class Growing:
    """What workers left behind, and the file they would be joined to."""

    segments: list[Path]
    indices: list[SegmentIndex]
    audio: Path | None
    audio_index: SegmentIndex | None
    joined: Path

    @property
    def init(self) -> bytes:
        audio = self.audio_index and self.audio and self.audio.read_bytes()[: self.audio_index.init_size]
        return stream_init(self.segments[0].read_bytes()[: self.indices[0].init_size], audio or None)

    def pieces(self) -> list[Piece]:
        stream = GrowingStream(self.audio_index)
        return [piece for index in self.indices for piece in stream.add_segment(index)] + stream.finish()

    def read(self, piece: Piece) -> bytes:
        path = self.segments[piece.segment] if piece.source == "video" else self.audio
        assert path is not None
        return path.read_bytes()[piece.offset : piece.offset + piece.length]

    def whole(self) -> bytes:
        return self.init + b"".join(piece.apply(self.read(piece)) for piece in self.pieces())

    def seconds(self, piece: Piece) -> tuple[Fraction, Fraction]:
        """When a piece is shown, from and to."""
        index = self.indices[piece.segment] if piece.source == "video" else self.audio_index
        assert index is not None
        (fragment,) = [f for f in index.fragments if f.offset == piece.offset]
        return index.seconds(fragment.start), index.seconds(fragment.end)


def grow(
    folder: Path,
    source: MediaInfo,
    cuts: Sequence[Sequence[int]] = CONSTANT,
    *,
    codec: str = "h264",
    **part: Any,
) -> Growing:
    """Segments with a frame at each pts in milliseconds, written last to first, as workers may."""
    segments = {
        number: write_segment(
            folder / f"{number}.mp4",
            pts,
            last_duration=(cuts[number + 1][0] - pts[-1]) if number + 1 < len(cuts) else 500,
            options=fast(codec),
            time_base=Fraction(1, 1000),
            rate=RATE,
        ).path
        for number, pts in reversed(list(enumerate(cuts)))
    }
    paths = [segments[number] for number in range(len(cuts))]
    audio = extract_audio(source, folder / "audio.mp4", **part)
    join_segments(paths, folder / "joined.mp4", source=source, **part)
    return Growing(
        paths,
        [index_segment(path) for path in paths],
        audio and audio.path,
        audio and audio.index,
        folder / "joined.mp4",
    )


def frames_in(data: bytes) -> list[tuple[Fraction, str]]:
    """(seconds, digest) of every decoded frame."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [(frame.pts * stream.time_base, digest(frame)) for frame in container.decode(stream)]


def sound_of(path: Path, seconds: int = 15) -> tuple[np.ndarray[Any, np.dtype[np.float32]], int]:
    """What is heard from 0 on, one channel, and its rate."""
    line, rate = np.zeros(0, np.float32), 0
    for start, samples, rate in decode(path):
        line = line if len(line) else np.zeros(seconds * rate, np.float32)
        assert start is not None
        begin = round(start * rate)
        heard = samples[max(0, -begin) :]
        line[max(0, begin) : max(0, begin) + len(heard)] = heard[: max(0, len(line) - max(0, begin))]
    return line, rate


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    return probe(make_source(tmp_path_factory.mktemp("silent") / "source.mp4"))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    """With fourteen seconds of AAC; the video of `CONSTANT` lasts thirteen and a half."""
    folder = tmp_path_factory.mktemp("spoken")
    return probe(make_source(folder / "source.mp4", seconds=14, sounds=[Sound("aac")]))


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory, spoken: MediaInfo) -> Growing:
    return grow(tmp_path_factory.mktemp("growing"), spoken)


@pytest.mark.parametrize("cuts", [CONSTANT, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("codec", CODECS)
def test_whole_stream_decodes_to_the_joined_files_frames_and_times(
    tmp_path: Path, silent: MediaInfo, codec: str, cuts: list[list[int]]
) -> None:
    growing = grow(tmp_path, silent, cuts, codec=codec)
    assert growing.audio is None
    assert max(len(index.fragments) for index in growing.indices) > 1
    expected = [(seconds, picture) for seconds, _, picture in frames_of(growing.joined)]
    assert [float(seconds) for seconds, _ in expected] == [pts / 1000 for cut in cuts for pts in cut]
    assert frames_in(growing.whole()) == expected


@pytest.mark.parametrize(
    ("sound", "container"),
    [
        (Sound("aac"), "mp4"),
        (Sound("aac"), "ts"),
        (Sound("aac", start=0.5), "mkv"),
        (Sound("libmp3lame"), "mp4"),
        (Sound("pcm_s16le", rate=44_100, layout="mono"), "avi"),
        (Sound("libopus"), "mkv"),
        (Sound("flac"), "mkv"),
    ],
    ids=lambda value: f"{value.codec}+{value.start}" if isinstance(value, Sound) else value,
)
@pytest.mark.parametrize(
    ("first_pts", "part"),
    [(0, {}), (500, {}), (0, {"start_seconds": Fraction("0.6345"), "duration_seconds": Fraction("1.5")})],
    ids=["from the start", "late video", "preview"],
)
def test_sound_lies_where_it_lies_in_the_joined_file(
    tmp_path: Path, sound: Sound, container: str, first_pts: int, part: dict[str, Fraction]
) -> None:
    source = probe(make_source(tmp_path / f"source.{container}", seconds=3, sounds=[sound]))
    growing = grow(tmp_path, source, [[first_pts, first_pts + 500], [first_pts + 1000]], **part)
    (tmp_path / "whole.mp4").write_bytes(growing.whole())
    assert [f[:1] + f[2:] for f in frames_of(growing.joined)] == frames_in(growing.whole())
    expected, rate = sound_of(growing.joined)
    found, rate_found = sound_of(tmp_path / "whole.mp4")
    assert rate_found == rate
    # What is copied ends within a packet after the range, what is encoded on the sample.
    shown = slice(round(part.get("duration_seconds", 15) * rate))
    late, likeness = lag_seconds(expected[shown], found[shown], rate)
    assert abs(late) < 0.001
    assert likeness > 0.99
    if sound.codec == "aac":
        # The whole file's edit list cuts the last packet short, which a stream without an end cannot know.
        length = len(np.trim_zeros(expected, "b")) - 2048
        assert np.array_equal(found[:length], expected[:length])


def test_stream_can_be_decoded_up_to_every_piece(growing: Growing) -> None:
    data, num_frames, num_packets = growing.init, 0, 0
    everything = frames_in(growing.whole())
    for piece in growing.pieces():
        data += piece.apply(growing.read(piece))
        index = growing.indices[piece.segment] if piece.source == "video" else growing.audio_index
        assert index is not None
        (fragment,) = [f for f in index.fragments if f.offset == piece.offset]
        if piece.source == "video":
            num_frames += fragment.num_samples
        else:
            num_packets += fragment.num_samples
        assert frames_in(data) == everything[:num_frames]
        with av.open(io.BytesIO(data)) as container:
            packets = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        assert len(packets) == num_packets
    assert num_frames == 27


def test_sound_is_never_ahead_of_the_picture_and_less_than_a_fragment_behind(growing: Growing) -> None:
    pieces = growing.pieces()
    last_video = max(number for number, piece in enumerate(pieces) if piece.source == "video")
    assert growing.audio_index is not None
    longest = max(Fraction(f.duration, growing.audio_index.timescale) for f in growing.audio_index.fragments)
    assert longest < Fraction("1.1")
    shown = heard = Fraction(0)
    for piece, following in pairwise(pieces[: last_video + 1]):
        start, end = growing.seconds(piece)
        if piece.source == "video":
            shown = end
        else:
            heard = end
            assert start <= end <= shown
        if following.source == "video":
            assert shown - heard < longest
    assert {piece.source for piece in pieces[last_video + 1 :]} == {"audio"}
    assert growing.seconds(pieces[-1])[1] == growing.audio_index.end_seconds == 14


def test_pieces_are_numbered_and_placed_one_behind_the_other(growing: Growing) -> None:
    position = 0
    whole = growing.whole()[len(growing.init) :]
    for number, piece in enumerate(growing.pieces()):
        assert (piece.position, piece.sequence_number) == (position, number + 1)
        position += piece.length
        found = mp4.read_boxes(whole[piece.position : position])
        assert [box.path for box in found if "/" not in box.path] == ["moof", "mdat"]
        (header,), (track,) = mp4.find(found, "mfhd"), mp4.find(found, "tfhd")
        assert int.from_bytes(header.body[4:8], "big") == number + 1
        assert int.from_bytes(track.body[4:8], "big") == (1 if piece.source == "video" else 2)
    assert position == len(whole)


def test_every_byte_but_numbers_is_the_segments_own(growing: Growing) -> None:
    for piece in growing.pieces():
        read = growing.read(piece)
        differing = [n for n, (a, b) in enumerate(zip(read, piece.apply(read), strict=True)) if a != b]
        allowed = {n for box in mp4.read_boxes(read) if box.name in ("mfhd", "tfhd")
                   for n in range(box.offset + 12, box.offset + 16)}  # fmt: skip
        assert set(differing) <= allowed


def test_merged_init_has_both_tracks_as_they_were(growing: Growing) -> None:
    found = mp4.read_boxes(growing.init)
    assert [int.from_bytes(box.body[12:16], "big") for box in mp4.find(found, "tkhd")] == [1, 2]
    assert int.from_bytes(mp4.find(found, "mvhd")[0].body[-4:], "big") == 3
    (mvex,) = mp4.find(found, "mvex")
    assert mvex.body.count(b"trex") == 2
    assert mp4.edits(mp4.find(found, "elst")[1]) == [(0, 1024)]
    assert growing.audio is not None
    for path in (growing.segments[0], growing.audio):
        (before,) = mp4.find(mp4.read_boxes(path), "mdia")
        assert before.body in [box.body for box in mp4.find(found, "mdia")]


def test_retracking_twice_changes_nothing_more(growing: Growing) -> None:
    fragment = growing.read(growing.pieces()[0])
    once = retrack(fragment, 2, 70_000)
    assert retrack(once, 2, 70_000) == once != fragment
    assert retrack(retrack(fragment, 7, 1), 2, 70_000) == once
    assert retrack(once, 1, 1) == fragment


def test_finishing_twice_gives_nothing_more(growing: Growing) -> None:
    stream = GrowingStream(growing.audio_index)
    stream.add_segment(growing.indices[0])
    assert stream.finish()
    assert stream.finish() == []
    with pytest.raises(SegmentMismatchError, match="after the stream was finished"):
        stream.add_segment(growing.indices[1])


@pytest.mark.parametrize(
    "changes",
    [{"options": fast("h264", crf=40)}, {"options": fast("h265")}, {"width": 96}],
    ids=["quality", "codec", "size"],
)
def test_segment_encoded_otherwise_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    common = {"time_base": Fraction(1, 1000), "rate": RATE, "options": fast("h264")}
    first = index_segment(write_segment(tmp_path / "0.mp4", [0, 500], **common).path)
    second = index_segment(write_segment(tmp_path / "1.mp4", [1000, 1500], **(common | changes)).path)
    stream = GrowingStream()
    stream.add_segment(first)
    with pytest.raises(SegmentMismatchError, match="segment 1 "):
        stream.add_segment(second)


def test_segment_out_of_order_is_refused(growing: Growing) -> None:
    stream = GrowingStream()
    stream.add_segment(growing.indices[1])
    for number in (0, 1):
        with pytest.raises(SegmentMismatchError, match="must follow one another"):
            stream.add_segment(growing.indices[number])
    assert stream.num_segments == 1


def test_piece_refuses_bytes_that_are_not_its_own(growing: Growing) -> None:
    piece = growing.pieces()[0]
    with pytest.raises(SegmentMismatchError, match="of a fragment of"):
        piece.apply(growing.read(piece)[:-1])
    with pytest.raises(MalformedSegmentError, match="expected b'moof'"):
        piece.apply(bytes(piece.length))
