"""Pictures and sound that change on the way."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
import torch

from media import MediaInfo, VideoReader, join_segments, probe
from media._fitting import Box, fit
from media._sound_changes import SoundShape, read_ac3, read_adts, read_mpeg_audio
from media.growing.audio import extract_audio
from media.info import PictureShape
from tests.media.breaks import end_to_end, heard
from tests.media.clips import Clip, field_pictures, flat_picture, interlace, moving_pictures, write_clip
from tests.media.sources import Sound, make_source, write_segment

MPEG2 = {"codec": "mpeg2video"}


def one_behind_another(folder: Path, *clips: tuple[Clip, int]) -> MediaInfo:
    """Parts of so many frames, in one transport stream whose time goes on."""
    data, start = b"", 0
    for number, (clip, count) in enumerate(clips):
        if clip.field_order is None:
            planes = moving_pictures(count, width=clip.width, height=clip.height)
        else:
            planes = interlace(field_pictures(2 * count), is_top_first=True)
        part = write_clip(folder / f"{number}.ts", planes, clip, pts=range(start, start + count))
        data += part.read_bytes()
        start += count
    path = folder / "joined.ts"
    path.write_bytes(data)
    return probe(path)


# Picture


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
@pytest.mark.parametrize("counts", [(10, 20), (20, 10)])
def test_the_longest_part_is_shown_in_its_shape(tmp_path: Path, codec: str, counts: tuple[int, int]) -> None:
    ratios = [Fraction(1), Fraction(4, 3)]
    clips = [Clip(codec=codec, sample_aspect_ratio=ratio) for ratio in ratios]
    info = one_behind_another(tmp_path, *zip(clips, counts, strict=True))
    assert info.video.sample_aspect_ratio == ratios[counts.index(20)]
    assert any("shape of the picture changes" in warning for warning in info.warnings)


def test_steady_pictures_are_not_warned_of(tmp_path: Path) -> None:
    clip = Clip(codec="mpeg2video", sample_aspect_ratio=Fraction(16, 9))
    assert one_behind_another(tmp_path, (clip, 10), (clip, 10)).warnings == ()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_an_interlaced_part_is_deinterlaced_and_the_rest_left_as_it_is(tmp_path: Path, codec: str) -> None:
    info = one_behind_another(
        tmp_path, (Clip(codec=codec), 10), (Clip(codec=codec, field_order="tff"), 15), (Clip(codec=codec), 10)
    )
    assert info.video.is_interlaced
    assert any("interlaced in places" in warning for warning in info.warnings)
    with VideoReader(info) as reader:
        times = [frame.pts * reader.time_base for frame in reader.frames()]
        assert not any("woven" in warning or "as stored" in warning for warning in reader.warnings)
    steps = [after - before for before, after in pairwise(times)]
    assert steps.count(Fraction(1, 50)) == pytest.approx(30, abs=3)
    assert steps.count(Fraction(1, 25)) == pytest.approx(19, abs=3)


def test_no_deinterlacing_is_an_option_that_is_named(tmp_path: Path) -> None:
    info = one_behind_another(tmp_path, (Clip(**MPEG2), 10), (Clip(**MPEG2, field_order="tff"), 15))
    with VideoReader(info, deinterlace=False) as reader:
        assert len(list(reader.frames())) == 25
        assert any("--deinterlace" in warning for warning in reader.warnings)


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_sizes_are_fitted_into_the_largest_whichever_comes_first(tmp_path: Path, codec: str) -> None:
    small, large = Clip(codec=codec), Clip(codec=codec, width=128, height=64)
    for number, parts in enumerate([((small, 10), (large, 5)), ((large, 5), (small, 10))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        info = one_behind_another(folder, *parts)
        assert (info.video.width, info.video.height) == (128, 64)
        assert any("64x48, 128x64" in w or "128x64, 64x48" in w for w in info.warnings)
        with VideoReader(info) as reader:
            images = [frame.image for frame in reader.frames()]
        small_one = images[0 if number == 0 else -1]
        # 64x48 is 85x64 in this height.
        assert small_one[:, :, :21].max() == 0
        assert small_one[:, :, 21 + 85 :].max() == 0
        assert small_one[:, :, 21 : 21 + 85].mean() > 0.2


def test_reading_on_in_another_size_gives_the_frames_of_a_full_read(tmp_path: Path) -> None:
    info = one_behind_another(tmp_path, (Clip(**MPEG2), 30), (Clip(**MPEG2, width=128, height=64), 30))
    with VideoReader(info) as reader:
        whole = list(reader.frames())
        for number in (5, 30, 31, 50):
            rest = list(reader.frames(from_pts=whole[number].pts))
            assert len(rest) == len(whole) - number
            assert torch.equal(rest[0].image, whole[number].image)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_streams_of_conferences_change_their_size_in_webm(tmp_path: Path, codec: str) -> None:
    parts = []
    for number, (width, height) in enumerate([(64, 48), (128, 96)]):
        planes = [flat_picture([126, 128, 128], pix_fmt="yuv420p", width=width, height=height)] * 5
        parts.append(
            write_clip(tmp_path / f"{number}.webm", planes, Clip(codec=codec, width=width, height=height))
        )
    path = tmp_path / "joined.webm"
    with av.open(str(path), "w") as output:
        stream = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.size:
                        shift = round(Fraction(number, 5) / packet.time_base)
                        packet.pts = packet.dts = (packet.pts or 0) + shift
                        packet.stream = stream
                        output.mux(packet)
    info = probe(path)
    assert (info.video.width, info.video.height) == (128, 96)
    with VideoReader(info) as reader:
        assert {tuple(frame.image.shape) for frame in reader.frames()} == {(3, 96, 128)}


def shape(width: int, height: int, ratio: Fraction = Fraction(1)) -> PictureShape:
    return PictureShape(width=width, height=height, sample_aspect_ratio=ratio)


@pytest.mark.parametrize(
    ("small", "into", "box"),
    [
        (shape(64, 48), shape(128, 96), Box(0, 0, 128, 96)),
        (shape(64, 48), shape(128, 64), Box(21, 0, 85, 64)),
        (shape(64, 32), shape(128, 96), Box(0, 16, 128, 64)),
        (shape(64, 48, Fraction(4, 3)), shape(128, 72), Box(0, 0, 128, 72)),
        # 64 pixels of double width are as wide as 128, and 48 lines are stretched to all 96.
        (shape(64, 48), shape(64, 96, Fraction(2)), Box(0, 0, 64, 96)),
    ],
)
def test_pictures_keep_their_shape(small: PictureShape, into: PictureShape, box: Box) -> None:
    assert fit(small, into) == box


# Sound


def changing_sound(folder: Path, *sounds: Sound) -> MediaInfo:
    """Two seconds of each, in a transport stream whose time goes on."""
    data = b""
    for number, sound in enumerate(sounds):
        part = make_source(folder / f"{number}.ts", origin=1 + 2 * number, sounds=[sound])
        data += part.read_bytes()
    path = folder / "joined.ts"
    path.write_bytes(data)
    return probe(path)


def joined(info: MediaInfo, folder: Path) -> tuple[Path, str, str]:
    segment = write_segment(folder / "segment.mp4", range(100)).path
    report = join_segments([segment], folder / "out.mp4", source=info)
    outcome = next(stream for stream in report.streams if stream.type == "audio")
    assert any("change on the way" in w for w in report.warnings) is (outcome.action == "transcoded")
    return report.path, outcome.action, outcome.detail


@pytest.mark.parametrize(
    "sounds",
    [
        (Sound("aac"), Sound("aac", layout="5.1")),
        (Sound("aac", layout="5.1"), Sound("aac")),
        (Sound("ac3"), Sound("ac3", layout="5.1")),
        (Sound("mp2", layout="mono"), Sound("mp2")),
        (Sound("aac", rate=44_100), Sound("aac")),
    ],
    ids=lambda sounds: "-".join(f"{s.codec}{s.layout}{s.rate}" for s in sounds),
)
def test_sound_that_changes_is_encoded_as_its_widest_part(tmp_path: Path, sounds: Sequence[Sound]) -> None:
    path, action, detail = joined(changing_sound(tmp_path, *sounds), tmp_path)
    assert action == "transcoded"
    assert "change on the way" in detail
    with av.open(str(path)) as container:
        context = container.streams.audio[0].codec_context
        assert context.layout.name == ("5.1" if any(s.layout == "5.1" for s in sounds) else "stereo")
        assert context.sample_rate == 48_000
    assert heard(path) == [pytest.approx((0, 4), abs=0.1)]


def test_the_growing_streams_sound_is_encoded_too(tmp_path: Path) -> None:
    info = changing_sound(tmp_path, Sound("aac"), Sound("aac", layout="5.1"))
    made = extract_audio(info, tmp_path / "audio.mp4")
    assert made is not None
    assert made.action == "transcoded"


def test_steady_sound_is_copied(tmp_path: Path) -> None:
    _, action, _ = joined(probe(end_to_end(tmp_path / "a.ts", 1, 3, sounds=[Sound("aac")])), tmp_path)
    assert action == "copied"


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("codec", "layout", "suffix", "read"),
    [
        *(("aac", layout, "ts", read_adts) for layout in ("mono", "stereo", "5.1")),
        *(
            (codec, layout, "mkv", read_ac3)
            for codec in ("ac3", "eac3")
            for layout in ("mono", "stereo", "5.1")
        ),
        *(
            (codec, layout, "mkv", read_mpeg_audio)
            for codec in ("mp2", "libmp3lame")
            for layout in ("mono", "stereo")
        ),
    ],
)
def test_heads_of_packets_tell_channels_and_rate(
    tmp_path: Path, codec: str, layout: str, suffix: str, read: object, rate: int
) -> None:
    path = make_source(tmp_path / f"a.{suffix}", seconds=0.5, sounds=[Sound(codec, rate=rate, layout=layout)])
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    assert callable(read)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]
    assert {read(packet[:16]) for packet in packets} == {SoundShape(channels, rate)}


@pytest.mark.parametrize("read", [read_adts, read_ac3, read_mpeg_audio])
def test_other_bytes_tell_nothing(read: object) -> None:
    assert callable(read)
    for data in (b"", b"\xff", bytes(16), b"\xff\xff\xff\xff" * 4, b"\x0b\x77\xff\xff\xff\xff\xff\xff"):
        assert read(data) is None


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_sound_that_begins_late_is_known_before(tmp_path: Path, layout: str) -> None:
    sound = Sound("aac", layout=layout, start=12.0)
    info = probe(make_source(tmp_path / "a.ts", seconds=15, sounds=[sound]))
    assert (info.audio[0].sample_rate, info.audio[0].layout) == (48_000, layout)
    _path, action, _ = joined(info, tmp_path)
    assert action == "copied"


@pytest.mark.needs_shared
def test_reported_files(shared_dir: Path, tmp_path: Path) -> None:
    reported = shared_dir / "clips" / "reported"
    video = probe(reported / "aspect_changes.ts").video
    assert video.sample_aspect_ratio * Fraction(video.width, video.height) == Fraction(16, 9)
    assert probe(reported / "progressive_then_interlaced.ts").video.is_interlaced
    path, action, _ = joined(probe(reported / "audio_stereo_then_51.ts"), tmp_path)
    assert action == "transcoded"
    assert heard(path) == [pytest.approx((0, 2), abs=0.1)]
    late = probe(reported / "late_audio_mono.ts").audio[0]
    assert (late.sample_rate, late.layout) == (44_100, "mono")
