"""Reading from the middle gives exactly the frames of a full read, whatever the container and codec."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from av.packet import Packet

from media import Frame, MediaError, MediaInfo, VideoReader, probe
from media import reader as reader_module
from media._entries import Entry, EntryFinder, h264_is_clean_entry, last_before
from media._seek import PacketMismatchError
from tests.media.clips import Clip, Planes, field_pictures, interlace, moving_pictures, remux, write_clip
from tests.thorough import sized

OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0", "preset": "fast"}
INTRA_REFRESH = {"x264-params": "intra-refresh=1:keyint=12"}
X265 = {"x265-params": "keyint=12:open-gop=1:log-level=none:pools=1"}
VPX = {"cpu-used": "8", "deadline": "realtime"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}

SEEKABLE = {
    "b-frames.mp4": Clip(num_b_frames=2),
    "fragmented.mp4": Clip(num_b_frames=2, container_options=FRAGMENTED),
    "open-gop.mp4": Clip(num_b_frames=3, options=OPEN_GOP),
    "h264.mkv": Clip(num_b_frames=2),
    "cueless.mkv": Clip(num_b_frames=2, container_options={"live": "1", "cluster_time_limit": "200"}),
    "h264.ts": Clip(num_b_frames=2),
    "h264.flv": Clip(num_b_frames=2),
    "hevc-open-gop.mkv": Clip(codec="libx265", options=X265, num_b_frames=3),
    "hevc-open-gop.ts": Clip(codec="libx265", options=X265, num_b_frames=3),
    "mpeg2.mpg": Clip(codec="mpeg2video", num_b_frames=2),
    "mpeg2.ts": Clip(codec="mpeg2video", num_b_frames=2),
    "mpeg4.avi": Clip(codec="mpeg4", num_b_frames=2),
    "vp8.webm": Clip(codec="libvpx", options=VPX),
    "vp9.webm": Clip(codec="libvpx-vp9", options=VPX),
    "av1.mp4": Clip(codec="libsvtav1", options={"preset": "13", "svtav1-params": "lp=1"}),
    "wmv2.wmv": Clip(codec="wmv2"),
    "prores.mov": Clip(codec="prores_ks", pix_fmt="yuv422p10le"),
    "mjpeg.avi": Clip(codec="mjpeg", pix_fmt="yuvj420p"),
}
FROM_START_ONLY = {
    "intra-refresh.mp4": Clip(options=INTRA_REFRESH),
    "intra-refresh.ts": Clip(options=INTRA_REFRESH),
    "one-keyframe.mp4": Clip(gop=1000),
    "raw.h264": Clip(num_b_frames=2),
    "raw.hevc": Clip(codec="libx265", options=X265),
}


class CountingReader(VideoReader):
    """Counts how often the file was decoded from its start."""

    num_full_decodes = num_packets = 0

    def __init__(self, info: MediaInfo, **options: Any) -> None:
        super().__init__(info, on_packet=self._count, **options)

    def _count(self) -> None:
        self.num_packets += 1

    def _frames_from_start(self, position: int) -> Iterator[Frame]:
        self.num_full_decodes += 1
        return super()._frames_from_start(position)


def assert_same(got: Sequence[Frame], expected: Sequence[Frame]) -> None:
    assert [(f.pts, f.duration) for f in got] == [(f.pts, f.duration) for f in expected]
    assert all(torch.equal(a.image, b.image) for a, b in zip(got, expected, strict=True))


def pictures(clip: Clip, count: int) -> list[Planes]:
    return moving_pictures(count, pix_fmt=clip.pix_fmt, width=clip.width, height=clip.height)


def read_all(info: MediaInfo) -> list[Frame]:
    with VideoReader(info) as reader:
        return list(reader.frames())


@pytest.mark.parametrize("name", SEEKABLE)
def test_seeking_gives_the_frames_of_a_full_read(tmp_path: Path, name: str) -> None:
    info = probe(write_clip(tmp_path / name, pictures(SEEKABLE[name], 40), SEEKABLE[name]))
    full = read_all(info)
    assert len(full) == 40
    reader = CountingReader(info)
    for number in (1, 11, 12, 13, 23, 24, 26, 38, 39):
        assert_same(list(reader.frames(from_pts=full[number].pts)), full[number:])
    # The second keyframe serves all from a little behind it on; what lies before it is read from the start.
    assert reader.num_full_decodes <= 3


@pytest.mark.parametrize("name", SEEKABLE)
def test_with_what_another_reader_found_nothing_before_is_read(tmp_path: Path, name: str) -> None:
    info = probe(write_clip(tmp_path / name, pictures(SEEKABLE[name], 40), SEEKABLE[name]))
    with VideoReader(info) as first:
        full = list(first.frames())
        entry = first.entry_before(full[20].pts)
    assert entry is not None
    reader = CountingReader(info)
    assert_same(list(reader.frames(from_pts=full[20].pts, entry=entry)), full[20:])
    assert reader.num_full_decodes == 0
    # From the keyframe on; a seek lands a second, or 64 KiB, before it in some.
    assert reader.num_packets <= (60 if name in ("mpeg2.mpg", "wmv2.wmv") else 40 - 12 + 3)
    assert reader.entry_before(full[39].pts) == first.entry_before(full[39].pts) != entry
    other = replace(entry, check=entry.check + 1)
    assert_same(list(reader.frames(from_pts=full[20].pts, entry=other)), full[20:])
    assert reader.num_full_decodes == 1


@pytest.mark.parametrize("name", FROM_START_ONLY)
def test_where_seeking_is_not_sure_the_file_is_read_from_its_start(tmp_path: Path, name: str) -> None:
    info = probe(write_clip(tmp_path / name, pictures(FROM_START_ONLY[name], 30), FROM_START_ONLY[name]))
    full = read_all(info)
    assert len(full) == 30
    reader = CountingReader(info)
    for number in (1, 13, 29):
        assert_same(list(reader.frames(from_pts=full[number].pts)), full[number:])
    assert reader.num_full_decodes == 3


def test_a_time_between_frames_begins_at_the_next_one(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(30)))
    full = read_all(info)
    with VideoReader(info) as reader:
        assert_same(list(reader.frames(from_pts=full[20].pts - 1)), full[20:])
        assert list(reader.frames(from_pts=full[-1].pts + 1)) == []
        assert_same(list(reader.frames(from_pts=-5)), full)


def test_repaired_time_stamps_are_the_same_from_the_middle(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mkv", moving_pictures(40), Clip(gop=8))

    def double(packet: Packet, number: int) -> bool:
        if number in (15, 16, 17):
            packet.pts = packet.dts = 600
        return True

    info = probe(remux(good, tmp_path / "doubled.mkv", change=double))
    full = read_all(info)
    assert len(full) == 40
    with VideoReader(info) as reader:
        for number in (10, 17, 18, 30):
            assert_same(list(reader.frames(from_pts=full[number].pts)), full[number:])


def test_deinterlaced_frames_are_the_same_from_the_middle(tmp_path: Path) -> None:
    clip = Clip(codec="mpeg2video", field_order="tff", gop=6)
    woven = interlace(field_pictures(60), is_top_first=True)
    info = probe(write_clip(tmp_path / "a.ts", woven, clip))
    reader = CountingReader(info, deinterlace=True)
    full = list(reader.frames())
    assert len(full) == 60
    reader.num_full_decodes = 0
    for number in (1, 13, 24, 25, 37, 58, 59):
        assert_same(list(reader.frames(from_pts=full[number].pts)), full[number:])
    assert reader.num_full_decodes <= 2


def test_a_preview_resumes_with_its_own_time(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(50), Clip(num_b_frames=2)))
    with VideoReader(info, start_seconds=Fraction(1), duration_seconds=Fraction(4, 5)) as reader:
        full = list(reader.frames())
        assert len(full) == 20
        assert_same(list(reader.frames(from_pts=full[7].pts)), full[7:])


def test_a_file_that_changes_its_mind_after_seeking_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(40)))
    full = read_all(info)
    real = reader_module.seek_to_entry

    def unreliable(*args: Any) -> Iterator[Packet]:
        packets = real(*args)
        assert packets is not None

        def broken() -> Iterator[Packet]:
            for number, packet in enumerate(packets):
                if number == 9:
                    raise PacketMismatchError
                yield packet

        return broken()

    monkeypatch.setattr(reader_module, "seek_to_entry", unreliable)
    reader = CountingReader(info)
    assert_same(list(reader.frames(from_pts=full[30].pts)), full[30:])
    assert reader.num_full_decodes == 1


def found(*packets: tuple[int, bool], codec: str = "vp9") -> list[int]:
    """Times of the entries among packets of these times, keyframes or not."""
    finder = EntryFinder(codec=codec, first_pts=0)
    for pts, is_key in packets:
        packet = Packet(b"picture")
        packet.pts, packet.is_keyframe = pts, is_key
        finder.add(packet)
    finder.finish()
    assert finder.is_regular or not finder.entries
    return [entry.pts for entry in finder.entries]


def test_entries_are_keyframes_behind_the_first_packet() -> None:
    assert found((0, True), (1, False), (2, True), (3, False), (4, True), (5, False)) == [2, 4]


def test_one_frame_before_the_wanted_one_is_decoded_too() -> None:
    entries = [Entry(pts, 100, -1, 1, 0) for pts in (2, 4)]
    assert [last_before(entries, pts) for pts in (5, 4, 2)] == [entries[1], entries[0], None]


def test_frames_of_earlier_packets_shown_after_a_keyframe_rule_it_out() -> None:
    assert found((0, True), (1, False), (6, False), (4, True), (5, False), (9, False)) == []


def test_codecs_with_weak_keyframes_are_not_sought() -> None:
    assert found((0, True), (1, True), (2, True), codec="gif") == []


@pytest.mark.parametrize("doubled", [0, 3, 5, 7])
def test_odd_time_stamps_are_not_sought(doubled: int) -> None:
    good = [(0, True), (1, False), (3, True), (2, False), (5, True), (4, False), (7, True), (6, False)]
    assert found(*good) == [3, 5, 7]
    assert found(*good, (doubled, False), (8, True)) == []


@pytest.mark.parametrize(
    ("payload", "is_clean"),
    [
        (bytes([0x65, 0x88]), True),  # IDR slice
        (bytes([0x41, 0x9A]), False),  # other slice
        (bytes([0x06, 6, 1, 0xC4]), True),  # recovery_frame_cnt 0, exact
        (bytes([0x06, 6, 1, 0x84]), False),  # recovery_frame_cnt 0, not exact
        (bytes([0x06, 6, 1, 0x21]), False),  # recovers some frames later
        (bytes([0x06, 5, 3, 1, 2, 3, 6, 1, 0xC4, 0x80]), True),  # behind another message
        (bytes([0x06, 5, 0xFF, 2, *[9] * 257, 6, 1, 0xC4, 0x80]), True),  # behind a long one
        (b"\x06", False),
        (b"", False),
    ],
)
def test_h264_entries_are_idr_pictures_or_exact_recovery_points(payload: bytes, is_clean: bool) -> None:
    with_lengths = len(payload).to_bytes(4, "big") + payload
    with_start_codes = b"\x00\x00\x00\x01\x09\xf0\x00\x00\x01" + payload
    assert h264_is_clean_entry(with_lengths, 4) is is_clean
    assert h264_is_clean_entry(with_start_codes, 0) is is_clean


DAMAGED = {
    "h264.mp4": Clip(num_b_frames=2),
    "h264.mkv": Clip(num_b_frames=2),
    "h264.ts": Clip(num_b_frames=2),
    "mpeg2.mpg": Clip(codec="mpeg2video", num_b_frames=2),
    "mpeg4.mp4": Clip(codec="mpeg4", num_b_frames=2),
    "vp9.webm": Clip(codec="libvpx-vp9", options=VPX),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_frames_before_beside_and_behind_damage_are_those_of_a_full_read(tmp_path: Path, name: str) -> None:
    whole = write_clip(tmp_path / f"whole-{name}", moving_pictures(60), DAMAGED[name]).read_bytes()
    path = tmp_path / name
    num_compared, num_damaged = 0, sized(12, brief=6)
    for seed in range(num_damaged):
        dice = random.Random(f"{name}{seed}")
        data, length = bytearray(whole), dice.choice([40, 400, 1500])
        start = int(len(data) * dice.uniform(0.1, 0.6))
        if seed % 3 == 0:
            data[start : start + length] = bytes(length)
        elif seed % 3 == 1:
            data[start : start + length] = dice.randbytes(length)
        else:
            for _ in range(12):
                data[start + dice.randrange(length)] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        try:
            info = probe(path)
        except MediaError:
            continue
        with VideoReader(info) as reader:
            full = contents(reader.frames())
            if contents(reader.frames()) != full:
                continue  # libavcodec conceals this damage with whatever its buffers had before
            for number in (len(full) // 2, len(full) * 3 // 4, len(full) - 5):
                assert contents(reader.frames(from_pts=full[number][0])) == full[number:]
                num_compared += 1
    assert num_compared >= num_damaged * 20 / 12


@pytest.mark.parametrize("name", ["lost.mp4", "lost.ts"])
def test_a_lost_keyframe_does_not_shift_what_follows(tmp_path: Path, name: str) -> None:
    def spoil(packet: Any, number: int) -> bool:
        if number == 24:
            packet.update(b"\xff" * packet.size)
        return True

    source = write_clip(tmp_path / f"whole-{name}", moving_pictures(60), Clip(num_b_frames=2))
    with VideoReader(probe(source)) as reader:
        expected = [frame.pts * reader.time_base for frame in reader.frames()]
    with VideoReader(probe(remux(source, tmp_path / name, change=spoil))) as reader:
        times = [frame.pts * reader.time_base for frame in reader.frames()]
    assert times[-20:] == expected[-20:]


def contents(frames: Iterator[Frame]) -> list[tuple[int, int, bytes]]:
    return [(frame.pts, frame.duration, frame.image.numpy().tobytes()) for frame in frames]
