"""What `probe` finds out."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from media import (
    Chapter,
    ColorTags,
    ContentLight,
    MasteringDisplay,
    VideoReader,
    probe,
)
from media import _first_look as first_look
from tests.media.clips import Clip, Tags, flat_picture, moving_pictures, write_clip
from tests.media.sources import Sound, Text, make_source

ONE = 1 << 16
UPRIGHT = (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
QUARTER_LEFT = (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30)
QUARTER_RIGHT = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
HALF = (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30)
MIRRORED = (-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)


class TestGeometry:
    @pytest.mark.parametrize(
        ("matrix", "rotation"), [(QUARTER_LEFT, 90), (QUARTER_RIGHT, -90), (HALF, 180), (MIRRORED, 180)]
    )
    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_display_matrix_is_reported_bit_for_bit(
        self, tmp_path: Path, matrix: Sequence[int], rotation: int, suffix: str
    ) -> None:
        video = probe(
            write_clip(tmp_path / f"a.{suffix}", moving_pictures(2), Clip(display_matrix=matrix))
        ).video
        assert video.display_matrix is not None
        assert struct.unpack("=9i", video.display_matrix) == tuple(matrix)
        if matrix is not MIRRORED:
            assert abs(video.rotation) % 360 == abs(rotation)
            assert video.rotation == rotation or rotation == 180
        assert (video.width, video.height) == (64, 48)

    def test_upright_pictures_have_no_matrix(self, tmp_path: Path) -> None:
        video = probe(write_clip(tmp_path / "a.mp4", moving_pictures(2), Clip(display_matrix=UPRIGHT))).video
        assert video.display_matrix is None
        assert video.rotation == 0

    @pytest.mark.parametrize("degrees", [90, -90, 180])
    def test_rotation_survives_side_data_without_a_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degrees: int
    ) -> None:
        matrix = {90: QUARTER_LEFT, -90: QUARTER_RIGHT, 180: HALF}[degrees]
        path = write_clip(tmp_path / "a.mp4", moving_pictures(2), Clip(display_matrix=matrix))
        monkeypatch.setattr(first_look, "_side_data", lambda frame: {})
        assert probe(path).video.display_matrix == struct.pack("=9i", *matrix)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
    def test_pixel_shape(self, tmp_path: Path, suffix: str) -> None:
        clip = Clip(sample_aspect_ratio=Fraction(64, 45))
        video = probe(write_clip(tmp_path / f"a.{suffix}", moving_pictures(9), clip)).video
        assert video.sample_aspect_ratio == Fraction(64, 45)

    def test_pixels_are_square_where_nothing_is_said(self, tmp_path: Path) -> None:
        assert probe(write_clip(tmp_path / "a.avi", moving_pictures(2))).video.sample_aspect_ratio == 1


class TestColor:
    @pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
    @pytest.mark.parametrize(
        "tags",
        [
            Tags(matrix=1, primaries=1, transfer=1, range=1),
            Tags(matrix=6, primaries=5, transfer=4, range=2),
            Tags(matrix=9, primaries=9, transfer=18, range=1),
        ],
    )
    def test_tags_are_reported_as_stored(self, tmp_path: Path, suffix: str, tags: Tags) -> None:
        color = probe(write_clip(tmp_path / f"a.{suffix}", moving_pictures(9), Clip(tags=tags))).video.color
        assert color == ColorTags(tags.matrix, tags.primaries, tags.transfer, tags.range == 2)
        assert color.is_hdr is (tags.transfer == 18)

    def test_missing_tags_stay_unspecified_and_the_reader_names_the_matrix_it_used(
        self, tmp_path: Path
    ) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(2)))
        assert info.video.color == ColorTags(2, 2, 2, full_range=False)
        with VideoReader(info) as reader:
            assert reader.color == ColorTags(6, 2, 2, full_range=False)

    def test_hdr10_metadata(self, tmp_path: Path) -> None:
        params = (
            "log-level=none:pools=1:hdr10=1:max-cll=1000,400:"
            "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
        )
        clip = Clip(
            codec="libx265",
            pix_fmt="yuv420p10le",
            options={"x265-params": params},
            tags=Tags(matrix=9, primaries=9, transfer=16, range=1),
        )
        video = probe(write_clip(tmp_path / "a.mkv", moving_pictures(2, pix_fmt="yuv420p10le"), clip)).video
        assert (video.bit_depth, video.pix_fmt) == (10, "yuv420p10le")
        assert video.content_light == ContentLight(max_content=1000, max_average=400)
        assert video.mastering_display == MasteringDisplay(
            red=(Fraction(34000, 50000), Fraction(16000, 50000)),
            green=(Fraction(13250, 50000), Fraction(34500, 50000)),
            blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
            white_point=(Fraction(15635, 50000), Fraction(16450, 50000)),
            min_luminance=Fraction(50, 10000),
            max_luminance=Fraction(1000),
        )

    def test_ordinary_video_has_no_hdr_metadata(self, tmp_path: Path) -> None:
        video = probe(write_clip(tmp_path / "a.mp4", moving_pictures(2))).video
        assert video.mastering_display is None
        assert video.content_light is None
        assert not video.color.is_hdr


class TestNumbers:
    def test_sizes_and_durations(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(40), Clip(num_b_frames=2))
        info = probe(path)
        assert info.path == path
        assert info.size_bytes == path.stat().st_size
        assert info.duration_seconds == Fraction(8, 5)
        assert info.video.duration_seconds == Fraction(8, 5)
        assert info.video.num_frames_estimate == 40
        assert info.video.rate == 25
        assert info.video.codec == "h264"
        assert info.warnings == ()

    def test_codec_is_named_not_its_decoder(self, tmp_path: Path) -> None:
        clip = Clip(codec="libsvtav1", options={"preset": "13", "svtav1-params": "lp=1"})
        assert probe(write_clip(tmp_path / "a.mkv", moving_pictures(2), clip)).video.codec == "av1"

    def test_a_duration_that_cannot_be_is_ignored(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mkv", moving_pictures(5))
        data = bytearray(path.read_bytes())
        position = data.index(b"\x44\x89\x88") + 3  # the Duration element, milliseconds
        data[position : position + 8] = struct.pack(">d", 40 * 3600e3)
        path.write_bytes(data)
        info = probe(path)
        assert info.duration_seconds is None
        assert any("cannot be right" in warning for warning in info.warnings)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_longer_sound_does_not_count_as_video(self, tmp_path: Path, suffix: str) -> None:
        info = probe(make_longer_sound(tmp_path / f"a.{suffix}"))
        assert info.video.duration_seconds == pytest.approx(0.4, abs=0.05)
        with VideoReader(info) as reader:
            list(reader.frames())
            assert reader.warnings == []


def make_longer_sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = output.add_stream("aac", rate=48_000, layout="mono")
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for number in range(100):
            sound = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            sound.planes[0].update(bytes(sound.planes[0].buffer_size))
            sound.sample_rate, sound.pts = 48_000, number * 1024
            output.mux(audio.encode(sound))
        output.mux(audio.encode(None))
    return path


class TestStreams:
    def test_sound_tracks(self, tmp_path: Path) -> None:
        sounds = [
            Sound("aac", 44_100, "mono", {"language": "deu", "title": "Kommentar"}, disposition=1),
            Sound("flac", 48_000, "5.1", {"language": "eng"}),
        ]
        first, second = probe(make_source(tmp_path / "a.mkv", seconds=0.4, sounds=sounds)).audio
        assert (first.codec, first.sample_rate, first.channels, first.layout) == ("aac", 44_100, 1, "mono")
        assert (first.language, first.title, first.disposition) == ("deu", "Kommentar", ("default",))
        assert (second.codec, second.channels, second.layout) == ("flac", 6, "5.1")
        assert (second.index, second.language, second.title) == (2, "eng", None)

    def test_decoders_with_other_names_do_not_show(self, tmp_path: Path) -> None:
        info = probe(make_source(tmp_path / "a.mkv", seconds=0.4, sounds=[Sound("libmp3lame")]))
        assert info.audio[0].codec == "mp3"

    def test_subtitles(self, tmp_path: Path) -> None:
        cues = [(100, 300, "Hello")]
        texts = [Text("subrip", cues, {"language": "fra"}), Text("ass", cues)]
        first, second = probe(make_source(tmp_path / "a.mkv", seconds=0.4, texts=texts)).subtitles
        assert (first.codec, first.is_text, first.language) == ("subrip", True, "fra")
        assert (second.codec, second.is_text) == ("ass", True)

    def test_chapters_and_metadata(self, tmp_path: Path) -> None:
        path = make_source(
            tmp_path / "a.mkv",
            seconds=1.0,
            chapters=[(0.0, 0.5, "Anfang"), (0.5, 1.0, "Ende")],
            tags={"title": "Fünf Äpfel", "comment": "日本語"},
        )
        info = probe(path)
        assert info.chapters == (
            Chapter(start_seconds=Fraction(0), end_seconds=Fraction(1, 2), title="Anfang"),
            Chapter(start_seconds=Fraction(1, 2), end_seconds=Fraction(1), title="Ende"),
        )
        assert {key.lower(): value for key, value in info.metadata.items()}["title"] == "Fünf Äpfel"
        assert {key.lower(): value for key, value in info.metadata.items()}["comment"] == "日本語"

    def test_cover_picture_is_not_the_video(self, tmp_path: Path) -> None:
        info = probe(make_source(tmp_path / "a.mp4", seconds=0.4, cover=True))
        assert info.video.codec == "mpeg4"
        assert [(other.kind, other.codec) for other in info.others] == [("attached_picture", "png")]

    def test_an_empty_first_track_is_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as output:
            streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = 0
            output.mux(streams[1].encode(frame))
            output.mux(streams[1].encode(None))
        info = probe(path)
        assert info.video.index == 1
        assert [other.kind for other in info.others] == ["video"]

    def test_attachments_are_listed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            output.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        assert [(other.kind, other.name) for other in probe(path).others] == [("attachment", "font.ttf")]

    def test_metadata_that_is_not_utf_8_opens(self, tmp_path: Path) -> None:
        clip = Clip(codec="mpeg4", metadata={"title": "ABCDEFGH"})
        path = write_clip(tmp_path / "a.avi", moving_pictures(2), clip)
        path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xe9\xe8\xff\xfe\xc0\x80\xf8A"))
        assert "�" in probe(path).metadata["title"]


def test_interlaced_video_is_recognised_by_flag_or_first_frame(tmp_path: Path) -> None:
    grey = [flat_picture([126, 128, 128], pix_fmt="yuv420p")] * 4
    for name in ("a.mpg", "a.mp4", "a.mkv"):
        clip = Clip(codec="mpeg2video", field_order="tff")
        assert probe(write_clip(tmp_path / name, grey, clip)).video.is_interlaced
    assert not probe(write_clip(tmp_path / "b.mpg", grey, Clip(codec="mpeg2video"))).video.is_interlaced
