"""HLS playlists: what they state is true of the files, and they play to the joined file's frames."""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from media import ColorTags, MediaInfo, SegmentMismatchError
from media.growing import (
    Fragment,
    SegmentIndex,
    audio_playlist,
    index_segment,
    multivariant_playlist,
    video_playlist,
)
from media.growing.hls import TARGET_SECONDS
from media.probing import probe
from tests.media.sources import HDR10, HLG, SDR, Sound, make_source, write_segment
from tests.media.test_growing_stream import CONSTANT, VARIABLE, Growing, grow
from tests.media.test_join import digest, frames_of
from tests.media.test_writer import CODECS, fast


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    """Fourteen seconds of AAC."""
    folder = tmp_path_factory.mktemp("spoken")
    return probe(make_source(folder / "source.mp4", seconds=14, sounds=[Sound("aac")]))


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory, source: MediaInfo) -> Growing:
    return grow(tmp_path_factory.mktemp("growing"), source)


def video_text(indices: list[SegmentIndex], is_finished: bool = True) -> str:
    return video_playlist(indices, uri_of=lambda number: f"{number}.mp4", is_finished=is_finished)


def entries(playlist: str) -> list[tuple[float, int, int, str]]:
    """(seconds, size, offset, URI)"""
    found = re.findall(r"#EXTINF:([\d.]+),\n#EXT-X-BYTERANGE:(\d+)@(\d+)\n(.+)\n", playlist)
    return [(float(seconds), int(size), int(offset), uri) for seconds, size, offset, uri in found]


def tag(playlist: str, name: str) -> str:
    (value,) = re.findall(rf"^#{name}:(.*)$", playlist, re.MULTILINE)
    return str(value)


def attribute(playlist: str, name: str) -> str:
    (value,) = re.findall(rf'[:,]{name}=("[^"]*"|[^",\n]*)', playlist)
    return str(value).strip('"')


@pytest.mark.parametrize("cuts", [CONSTANT, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("codec", CODECS)
def test_finished_playlists_play_the_joined_files_frames_and_sound(
    tmp_path: Path, source: MediaInfo, codec: str, cuts: list[list[int]]
) -> None:
    growing = grow(tmp_path, source, cuts, codec=codec)
    assert growing.audio_index is not None
    (tmp_path / "video.m3u8").write_text(video_text(growing.indices))
    (tmp_path / "audio.m3u8").write_text(
        audio_playlist(growing.audio_index, uri="audio.mp4", available_seconds=None)
    )
    (tmp_path / "playlist.m3u8").write_text(
        multivariant_playlist(
            growing.indices, growing.audio_index, video_uri="video.m3u8", audio_uri="audio.m3u8"
        )
    )
    with av.open(str(tmp_path / "playlist.m3u8"), options={"allowed_extensions": "ALL"}) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        shown = [(frame.pts * base, digest(frame)) for frame in container.decode(stream)]
    with av.open(str(tmp_path / "playlist.m3u8"), options={"allowed_extensions": "ALL"}) as container:
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert shown == [(seconds, picture) for seconds, _, picture in frames_of(growing.joined)]
    assert abs(heard - 14 * 48_000) <= 1024


def test_entries_cover_every_fragment_once_and_begin_with_keys(growing: Growing) -> None:
    text = video_text(growing.indices)
    expected = [(f"{n}.mp4", f) for n, index in enumerate(growing.indices) for f in index.fragments]
    covered: list[tuple[str, Fragment]] = []
    for seconds, size, offset, uri in entries(text):
        inside = [f for name, f in expected if name == uri and offset <= f.offset < offset + size]
        assert (inside[0].offset, sum(f.size for f in inside)) == (offset, size)
        assert inside[0].is_key
        assert seconds == pytest.approx(sum(f.duration for f in inside) / 1000)
        covered += [(uri, f) for f in inside]
    assert covered == expected
    assert tag(text, "EXT-X-MAP") == f'URI="0.mp4",BYTERANGE="{growing.indices[0].init_size}@0"'


def test_growing_playlist_only_gets_longer(growing: Growing) -> None:
    texts = [video_text(growing.indices[:count], is_finished=False) for count in (1, 2, 3, 4)]
    for shorter, longer in pairwise(texts):
        assert longer.startswith(shorter)
        assert len(longer) > len(shorter)
    assert tag(texts[0], "EXT-X-PLAYLIST-TYPE") == "EVENT"
    assert tag(texts[0], "EXT-X-START") == "TIME-OFFSET=0,PRECISE=YES"
    finished = video_text(growing.indices)
    assert tag(finished, "EXT-X-PLAYLIST-TYPE") == "VOD"
    assert finished.endswith("#EXT-X-ENDLIST\n")
    assert entries(finished) == entries(texts[-1])
    assert tag(finished, "EXT-X-TARGETDURATION") == tag(texts[0], "EXT-X-TARGETDURATION") == "6"


def test_growing_sound_always_covers_the_picture_and_hardly_more(growing: Growing) -> None:
    audio = growing.audio_index
    assert audio is not None
    whole = audio_playlist(audio, uri="audio.mp4", available_seconds=None)
    assert sum(seconds for seconds, *_ in entries(whole)) == pytest.approx(14 + 1024 / 48_000, abs=1e-4)
    for count in range(1, 5):
        end = growing.indices[count - 1].end_seconds
        text = audio_playlist(audio, uri="audio.mp4", available_seconds=end)
        assert "ENDLIST" not in text
        listed = entries(text)
        assert listed == entries(whole)[: len(listed)]
        covered = sum(seconds for seconds, *_ in listed) - 1024 / 48_000
        assert min(end, 13.99) <= covered < end + TARGET_SECONDS
    assert whole.endswith("#EXT-X-ENDLIST\n")


def test_every_duration_rounds_to_the_target_or_less(tmp_path: Path) -> None:
    many = [(500 * n) for n in range(60)]
    index = index_segment(
        write_segment(tmp_path / "0.mp4", many, time_base=Fraction(1, 1000), rate=Fraction(2)).path
    )
    text = video_text([index])
    listed = [seconds for seconds, *_ in entries(text)]
    assert max(listed) <= TARGET_SECONDS
    assert min(listed[:-1]) > TARGET_SECONDS / 2
    slides = [0, 9_600, 20_000]
    index = index_segment(
        write_segment(tmp_path / "1.mp4", slides, time_base=Fraction(1, 1000), rate=Fraction(1, 2)).path
    )
    text = video_text([index])
    assert [seconds for seconds, *_ in entries(text)] == [9.6, 10.4, 0.001]
    assert tag(text, "EXT-X-TARGETDURATION") == "10"


def test_entry_never_begins_with_a_fragment_that_is_no_key(growing: Growing) -> None:
    index = growing.indices[0]
    first = index.fragments[0]
    fragments = tuple(
        first._replace(
            offset=first.offset + n * first.size, start=n * 4000, duration=4000, is_key=n in (0, 3)
        )
        for n in range(5)
    )
    text = video_text([replace(index, fragments=fragments)])
    assert [(seconds, offset) for seconds, _, offset, _ in entries(text)] == [
        (12, fragments[0].offset),
        (8, fragments[3].offset),
    ]
    assert SegmentIndex.from_dict(replace(index, fragments=fragments).to_dict()).fragments == fragments


@pytest.mark.parametrize(
    ("codec", "color", "written", "video_range"),
    [
        ("h264", SDR, "avc1.42C00A", "SDR"),
        ("h264", HDR10, "avc1.6E000A", "PQ"),
        ("h265", SDR, "hvc1.1.6.L30.90", "SDR"),
        ("h265", HDR10, "hvc1.2.4.L30.90", "PQ"),
        ("h265", HLG, "hvc1.2.4.L30.90", "HLG"),
        ("av1", SDR, "av01.0.00M.08.0.111.01.01.01.0", "SDR"),
        ("vp9", SDR, "vp09.00.10.08", "SDR"),
        ("av1", HDR10, "av01.0.00M.10.0.112.09.16.09.0", "PQ"),
        ("av1", HLG, "av01.0.00M.10.0.112.09.18.09.0", "HLG"),
    ],
)
def test_codec_and_range_are_those_of_the_stream(
    tmp_path: Path, codec: str, color: ColorTags, written: str, video_range: str
) -> None:
    segment = write_segment(tmp_path / "0.mp4", range(2), options=fast(codec), color=color)
    text = multivariant_playlist([index_segment(segment.path)], None, video_uri="v.m3u8", audio_uri="")
    assert attribute(text, "CODECS") == written
    assert attribute(text, "VIDEO-RANGE") == video_range
    with av.open(str(segment.path)) as container:
        context = container.streams.video[0].codec_context
        if codec == "h264":  # FFmpeg's own reading of the stream
            profile = {"Constrained Baseline": 0x42, "High 10": 0x6E}[str(context.profile)]
            assert int(written[5:7], 16) == profile


@pytest.mark.parametrize(
    ("sound", "container", "written", "channels"),
    [
        (Sound("aac"), "mp4", "mp4a.40.2", "2"),
        (Sound("aac", layout="5.1"), "mp4", "mp4a.40.2", "6"),
        (Sound("libopus", layout="mono"), "mkv", "Opus", "1"),
        (Sound("flac"), "mkv", "fLaC", "2"),
    ],
)
def test_sound_is_a_group_with_its_codec(
    tmp_path: Path, sound: Sound, container: str, written: str, channels: str
) -> None:
    source = probe(make_source(tmp_path / f"source.{container}", sounds=[sound]))
    growing = grow(tmp_path, source, [[0, 500]])
    text = multivariant_playlist(growing.indices, growing.audio_index, video_uri="v.m3u8", audio_uri="a.m3u8")
    assert attribute(text, "CODECS") == f"avc1.42C00A,{written}"
    assert attribute(text, "CHANNELS") == channels
    assert attribute(text, "URI") == "a.m3u8"
    assert attribute(text, "GROUP-ID") == attribute(text, "AUDIO") == "audio"
    assert text.endswith("\nv.m3u8\n")


def test_rates_and_size_are_measured(growing: Growing) -> None:
    text = multivariant_playlist(growing.indices, None, video_uri="v.m3u8", audio_uri="")
    assert "AUDIO" not in text
    assert attribute(text, "RESOLUTION") == "64x48"
    assert float(attribute(text, "FRAME-RATE")) == 2
    num_bits = 8 * sum(index.num_bytes for index in growing.indices)
    assert int(attribute(text, "AVERAGE-BANDWIDTH")) == pytest.approx(num_bits / 13.5, rel=1e-3)
    rates = [8 * size / seconds for seconds, size, *_ in entries(video_text(growing.indices)) if seconds > 3]
    assert int(re.findall(r":BANDWIDTH=(\d+)", text)[0]) == pytest.approx(max(rates), rel=1e-3)
    with_sound = multivariant_playlist(
        growing.indices, growing.audio_index, video_uri="v.m3u8", audio_uri="a.m3u8"
    )
    assert (
        int(attribute(with_sound, "AVERAGE-BANDWIDTH")) > int(attribute(text, "AVERAGE-BANDWIDTH")) + 50_000
    )


def test_segments_that_do_not_fit_and_broken_addresses_are_refused(growing: Growing) -> None:
    other = replace(growing.indices[1], init_digest="0" * 32)
    with pytest.raises(SegmentMismatchError, match="segment 1"):
        video_text([growing.indices[0], other])
    with pytest.raises(ValueError, match="at least one segment"):
        video_text([])
    for uri in ("", 'a"b', "a\nb"):
        arguments: dict[str, Any] = {"uri_of": lambda _, uri=uri: uri, "is_finished": True}
        with pytest.raises(ValueError, match="cannot stand in a playlist"):
            video_playlist(growing.indices, **arguments)


@pytest.mark.parametrize("seconds", [23_861, 47_722, 86_000])
def test_segments_behind_the_31st_bit_of_ticks_follow_the_first(tmp_path: Path, seconds: int) -> None:
    """Muxers write longer headers from there on, for the same samples."""
    base = Fraction(1, 90_000)
    first = write_segment(tmp_path / "0.mp4", [0, 3600], last_duration=3600, time_base=base)
    start = seconds * 90_000
    late = write_segment(tmp_path / "1.mp4", [start, start + 3600], last_duration=3600, time_base=base)
    indices = [index_segment(first.path), index_segment(late.path)]
    playlist = video_playlist(indices, uri_of=lambda number: f"{number}.mp4", is_finished=True)
    assert playlist.count("#EXTINF") == 2
    assert indices[1].start_seconds == seconds


def test_segments_of_another_size_do_not(tmp_path: Path) -> None:
    first = write_segment(tmp_path / "0.mp4", [0, 1])
    other = write_segment(tmp_path / "1.mp4", [2, 3], width=48, height=64)
    with pytest.raises(SegmentMismatchError):
        video_playlist([index_segment(first.path), index_segment(other.path)], uri_of=str, is_finished=True)
