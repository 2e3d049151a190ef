"""Facts of containers that FFmpeg or PyAV do not pass on: read from the file itself, or said in words."""

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image

from media import UnsupportedCodecError, VideoReader, join_segments, probe
from media._clean_aperture import crop_of, read_aperture
from media._matroska import parse_tracks
from media.info import Crop
from tests.media.clips import Clip, moving_pictures, remux, write_clip
from tests.media.sources import Sound, make_source, write_segment
from tests.media.spherical import box, write_with_box


def times_of(path: Path) -> list[Fraction]:
    with VideoReader(probe(path)) as reader:
        return [frame.pts * reader.time_base for frame in reader.frames()]


# MP4


def clap(*numbers: int) -> bytes:
    """Width, height, and the way from the middle, each over a denominator."""
    return struct.pack(">4I4i", *numbers)


def test_a_clean_aperture_is_applied(tmp_path: Path) -> None:
    aperture = clap(40, 1, 40, 1, 3, 1, -1, 1)
    path = write_with_box(tmp_path / "a.mp4", box(b"clap", aperture))
    video = probe(path).video
    assert (video.width, video.height) == (40, 40)
    assert video.crop == Crop(top=3, bottom=5, left=15, right=9)
    plain = write_clip(tmp_path / "b.mp4", moving_pictures(3))
    shown, whole = (next(VideoReader(probe(name)).frames()).image for name in (path, plain))
    assert torch.equal(shown, whole[:, 3:43, 15:55])


@pytest.mark.parametrize(
    "aperture",
    [
        pytest.param(clap(64, 1, 48, 1, 0, 1, 0, 1), id="the whole picture"),
        pytest.param(clap(66, 1, 48, 1, 0, 1, 0, 1), id="more than it"),
        pytest.param(clap(60, 1, 40, 1, 9, 1, 0, 1), id="beside it"),
        pytest.param(clap(60, 0, 40, 1, 0, 1, 0, 1), id="nonsense"),
        pytest.param(clap(60, 1, 40, 1, 0, 1, 0, 1)[:-1], id="cut off"),
    ],
)
def test_an_aperture_that_cuts_nothing_off_counts_for_nothing(aperture: bytes) -> None:
    assert crop_of(aperture, width=64, height=48) is None


@pytest.mark.parametrize(("right", "left"), [(0, 1), (1, 2)])
def test_an_aperture_is_rounded_to_whole_pixels(right: int, left: int) -> None:
    """One of 61 pixels of 64 has one and a half on each side, unless it is moved by a half."""
    crop = crop_of(clap(61, 1, 48, 1, right, 2, 0, 1), width=64, height=48)
    assert crop == Crop(top=0, bottom=0, left=left, right=3 - left)


def test_an_aperture_for_another_size_or_stream_counts_for_nothing(tmp_path: Path) -> None:
    path = write_with_box(tmp_path / "a.mp4", box(b"clap", clap(40, 1, 40, 1, 0, 1, 0, 1)))
    assert read_aperture(path, 0, width=64, height=48) is not None
    assert read_aperture(path, 0, width=80, height=48) is None
    assert read_aperture(path, 1, width=64, height=48) is None
    path.write_bytes(path.read_bytes()[:-40])
    assert read_aperture(path, 0, width=64, height=48) is None


# Matroska


def cropped(path: Path, *, top: int) -> Path:
    """A Matroska file whose unit of display sizes is renamed to the height that is cropped."""
    data = write_clip(path.with_name("plain.mkv"), moving_pictures(5)).read_bytes()
    unit, crop = b"\x54\xb2\x81", b"\x54\xbb\x81"
    at = data.index(unit)
    path.write_bytes(data[:at] + crop + bytes([top]) + data[at + 4 :])
    return path


def test_cropping_is_applied(tmp_path: Path) -> None:
    info = probe(cropped(tmp_path / "a.mkv", top=6))
    assert (info.video.width, info.video.height) == (64, 42)
    assert info.video.crop == Crop(top=6, bottom=0, left=0, right=0)
    with VideoReader(probe(tmp_path / "plain.mkv")) as whole, VideoReader(info) as reader:
        for full, frame in zip(whole.frames(), reader.frames(), strict=True):
            assert torch.equal(frame.image, full.image[:, 6:])
        assert reader.warnings == []


def element(number: str, body: bytes) -> bytes:
    return bytes.fromhex(number) + bytes([0x80 | len(body)]) + body


def test_tracks_tell_cropping_and_encryption() -> None:
    sizes = element("54cc", b"\x02") + element("54dd", b"\x01\x00")
    encrypted = element("6d80", element("6240", element("5035", b"")))
    body = element("ae", element("e0", sizes)) + element("ae", encrypted) + element("ec", b"\0\0")
    video, sound = parse_tracks(body)
    assert video.crop == Crop(top=0, bottom=0, left=2, right=256)
    assert (video.is_encrypted, sound.is_encrypted, sound.crop) == (False, True, None)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xae", b"\xae\xff", b"\xae\x01\xff", bytes(range(256))])
def test_damaged_tracks_tell_what_they_can(data: bytes) -> None:
    assert all(track.crop is None for track in parse_tracks(data))


# Encryption


CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def test_encrypted_films_are_called_so(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mp4", moving_pictures(5))
    with pytest.raises(UnsupportedCodecError, match=r"encrypted \(DRM\)"):
        probe(remux(plain, tmp_path / "a.mp4", options=CENC))


def test_encrypted_sound_is_left_out_with_the_reason(tmp_path: Path) -> None:
    source = make_source(tmp_path / "plain.mp4", sounds=[Sound("aac")])
    locked = tmp_path / "locked.mp4"
    with av.open(str(source)) as reading, av.open(str(locked), "w", options=CENC) as writing:
        copy = writing.add_stream_from_template(reading.streams.audio[0])
        for packet in reading.demux(reading.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                writing.mux(packet)
    # The film is clear: its description, the sound comes from the locked file.
    info = probe(source)
    segment = write_segment(tmp_path / "segment.mp4", range(50)).path
    shifted = replace(info, path=locked, video=replace(info.video, index=99))
    report = join_segments([segment], tmp_path / "out.mp4", source=shifted)
    assert [(stream.action, stream.detail) for stream in report.streams] == [
        ("dropped", "it is encrypted (DRM)")
    ]


# Pictures that move


def test_an_animated_webp_is_called_so(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 24), (40 * number, 0, 0)) for number in range(3)]
    path = tmp_path / "a.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    with pytest.raises(UnsupportedCodecError, match="animated WebP"):
        probe(path)


def test_a_still_webp_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "a.webp")
    assert probe(tmp_path / "a.webp").video.width == 32


# B frames in AVI


def write_b_frames(path: Path, *, is_packed: bool) -> Path:
    """MPEG-4 with a B frame between any two others; packed is P and B in one packet, and an empty one."""
    stored = Clip(codec="mpeg4", rate=Fraction(10), num_b_frames=1, gop=100, options={"bf": "1"})
    plain = write_clip(path.with_suffix(".mkv"), moving_pictures(11), stored)
    with av.open(str(plain)) as reading, av.open(str(path), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        copy.codec_context.codec_tag = "DX50"
        packets = [bytes(packet) for packet in reading.demux(stream) if packet.size]
        if is_packed:
            # I, then pairs of a P frame and the B frame before it.
            pairs = zip(packets[1::2], packets[2::2], strict=True)
            nothing = b"\x00\x00\x01\xb6" + bytes([0b01010000, 0b10000000])
            name = b"\x00\x00\x01\xb2DivX503b1393p\x00"
            packets = [name + packets[0], *(part for p, b in pairs for part in (p + b, nothing))]
        for number, data in enumerate(packets):
            packet: Any = av.Packet(data)
            packet.stream, packet.time_base = copy, Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            writing.mux(packet)
    return path


@pytest.mark.parametrize("is_packed", [False, True])
def test_frames_of_avi_come_in_the_order_of_their_slots(tmp_path: Path, is_packed: bool) -> None:
    times = times_of(write_b_frames(tmp_path / "a.avi", is_packed=is_packed))
    assert times == [Fraction(number, 10) for number in range(11)]


@pytest.mark.needs_shared
def test_reported_files(shared_dir: Path) -> None:
    reported = shared_dir / "clips" / "reported"
    assert times_of(reported / "packed_bframes.avi") == [Fraction(number, 10) for number in range(12)]
    video = probe(reported / "mkv_pixel_crop.mkv").video
    assert (video.width, video.height) == (96, 48)
    for name, words in (("animated.webp", "animated WebP"), ("encrypted_cenc.mp4", r"encrypted \(DRM\)")):
        with pytest.raises(UnsupportedCodecError, match=words):
            probe(reported / name)
