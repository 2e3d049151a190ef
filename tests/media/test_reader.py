"""Times, order, geometry and range of the frames that come out."""

import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from media import InputLimitError, InputLimits, NoFramesError, VideoReader, probe
from media._clock import Clock, with_durations
from media._decoder import StreamDecoder
from media._notes import Notes
from media._rates import choose_rate
from tests.media.clips import (
    X264_LOSSLESS,
    Clip,
    Planes,
    add_origin,
    field_pictures,
    flat_picture,
    interlace,
    moving_pictures,
    png,
    remux,
    write_clip,
)

VFR = [0, 40, 90, 100, 250, 251, 400, 1000, 1033, 1066]
TICKS_90K = Fraction(1, 90_000)
MILLISECONDS = Fraction(1, 1000)


def times(path: Path, **options: object) -> tuple[list[int], list[int], VideoReader]:
    """pts, durations, and the closed reader."""
    with VideoReader(probe(path), **options) as reader:  # type: ignore[arg-type]
        frames = list(reader.frames())
    return [f.pts for f in frames], [f.duration for f in frames], reader


def timed_frame(pts: int, duration: int) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16, "gray")
    frame.pts, frame.duration = pts, duration
    return frame


class TestTimes:
    @pytest.mark.parametrize("num_b_frames", [0, 2])
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
    def test_variable_frame_rate_is_exact(self, tmp_path: Path, name: str, num_b_frames: int) -> None:
        clip = Clip(time_base=MILLISECONDS, num_b_frames=num_b_frames)
        pts, _, reader = times(write_clip(tmp_path / name, moving_pictures(10), clip, pts=VFR))
        assert [time * reader.time_base for time in pts] == [time * MILLISECONDS for time in VFR]

    def test_a_frame_lasts_until_the_next_one_and_the_last_as_the_file_says(self, tmp_path: Path) -> None:
        clip = Clip(time_base=MILLISECONDS)
        path = write_clip(tmp_path / "a.mp4", moving_pictures(10), clip, pts=VFR, last_duration=77)
        pts, durations, reader = times(path)
        assert durations[:-1] == [after - before for before, after in pairwise(pts)]
        assert durations[-1] * reader.time_base == Fraction(77, 1000)

    @pytest.mark.parametrize(
        ("said", "last"),
        [
            ((40, 40, 25), 25),
            ((1, 1, 1), 40),  # Matroska without a default duration says 1 ms for every frame
            ((40, 40, 0), 40),
        ],
    )
    def test_the_last_duration_counts_where_the_others_were_right(
        self, said: tuple[int, ...], last: int
    ) -> None:
        frames = [timed_frame(40 * number, duration) for number, duration in enumerate(said)]
        timed = list(with_durations(frames, frame_interval=Fraction(50)))
        assert [frame.duration for frame in timed] == [40, 40, last]

    @pytest.mark.parametrize(("said", "expected"), [(30, 30), (0, 50)])
    def test_a_single_frame_lasts_as_it_says_or_one_interval(self, said: int, expected: int) -> None:
        timed = list(with_durations([timed_frame(0, said)], frame_interval=Fraction(50)))
        assert [frame.duration for frame in timed] == [expected]

    def test_b_frames_come_in_order(self, tmp_path: Path) -> None:
        planes = [flat_picture([20 + 8 * n, 128, 128], pix_fmt="yuv420p") for n in range(25)]
        path = write_clip(tmp_path / "a.mp4", planes, Clip(num_b_frames=3, options={"crf": "5"}))
        with VideoReader(probe(path)) as reader:
            means = [float(frame.image.mean()) for frame in reader.frames()]
        assert means == pytest.approx([(4 + 8 * n) / 219 for n in range(25)], abs=0.01)

    def test_edit_list_hides_frames_and_the_first_shown_is_at_zero(self, tmp_path: Path) -> None:
        source = write_clip(tmp_path / "a.mp4", moving_pictures(60), Clip(gop=25, num_b_frames=2))
        cut = tmp_path / "cut.mp4"
        # Negative times of a stream that is copied from a keyframe on become an edit list.
        remux(source, cut, change=add_origin(-30 * 512), options={"avoid_negative_ts": "disabled"})
        pts, _, reader = times(cut)
        assert pts == [512 * n for n in range(30)]
        assert reader.info.video.num_frames_estimate is not None

    @pytest.mark.parametrize("start", [133_200, 577_777])
    @pytest.mark.parametrize("suffix", ["ts", "mpg"])
    def test_container_start_is_subtracted_exactly(self, tmp_path: Path, start: int, suffix: str) -> None:
        options = {"output_ts_offset": str(start / 90_000), "muxdelay": "0", "muxpreload": "0"}
        clip = Clip(codec="mpeg2video", container_options=options)
        pts, _, reader = times(write_clip(tmp_path / f"a.{suffix}", moving_pictures(8), clip))
        assert pts == [3600 * n for n in range(8)]
        assert (reader.info.origin_seconds / TICKS_90K).denominator == 1
        assert reader.info.video.start_seconds == 0

    def test_video_that_starts_behind_the_sound_keeps_its_gap(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ts"
        with av.open(str(path), "w") as output:
            video = output.add_stream("mpeg2video", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            audio = output.add_stream("mp2", rate=48_000, layout="mono")
            silence = av.AudioFrame(format="s16", layout="mono", samples=1152)
            silence.planes[0].update(bytes(silence.planes[0].buffer_size))
            silence.sample_rate = 48_000
            for number in range(50):
                silence.pts = number * 1152
                output.mux(audio.encode(silence))
            output.mux(audio.encode(None))
            for number in range(5):
                frame = av.VideoFrame(64, 48, "yuv420p")
                for plane in frame.planes:
                    plane.update(b"\x80" * plane.buffer_size)
                frame.pts, frame.time_base = 12 + number, Fraction(1, 25)
                output.mux(video.encode(frame))
            output.mux(video.encode(None))
        info = probe(path)
        pts, _, reader = times(path)
        assert pts[0] * reader.time_base == info.video.start_seconds
        assert 0.4 < info.video.start_seconds < 0.5

    @pytest.mark.parametrize("suffix", ["h264", "hevc"])
    def test_raw_streams_are_spaced_by_their_rate(self, tmp_path: Path, suffix: str) -> None:
        codec = {"h264": "libx264", "hevc": "libx265"}[suffix]
        options = {} if suffix == "h264" else {"x265-params": "log-level=none:pools=1"}
        clip = Clip(codec=codec, rate=Fraction(24), options=options, num_b_frames=2)
        pts, durations, reader = times(write_clip(tmp_path / f"a.{suffix}", moving_pictures(9), clip))
        assert reader.rate == 24
        assert [time * reader.time_base for time in pts] == [Fraction(n, 24) for n in range(9)]
        assert set(durations) == {durations[0]}
        assert any("without time stamps" in warning for warning in reader.warnings)

    def test_gif_delays_are_kept(self, tmp_path: Path) -> None:
        planes = [[np.full((48, 64), 40 * n, np.uint8)] for n in range(4)]
        clip = Clip(codec="gif", pix_fmt="rgb8", time_base=Fraction(1, 100))
        pts, durations, reader = times(
            write_clip(tmp_path / "a.gif", planes, clip, pts=[0, 10, 15, 65], last_duration=30)
        )
        assert pts == [0, 10, 15, 65]
        assert durations == [10, 5, 50, 30]
        assert reader.time_base == Fraction(1, 100)

    def test_still_picture_is_one_frame_with_a_duration(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(png(8, 8, "rgb24", [np.zeros((8, 24), np.uint8)]))
        pts, durations, reader = times(path)
        assert pts == [0]
        assert durations[0] * reader.time_base == 1 / reader.rate


class TestClock:
    def clock(self) -> tuple[Clock, Notes]:
        notes = Notes()
        return (
            Clock(time_base=Fraction(1, 1000), rate=Fraction(25), origin_ticks=Fraction(100), notes=notes),
            notes,
        )

    def test_good_times_pass_without_a_word(self) -> None:
        clock, notes = self.clock()
        assert [clock.stamp(time) for time in (100, 140, 141, 500)] == [0, 40, 41, 400]
        assert notes == []

    def test_doubled_and_slightly_backward_times_move_forward(self) -> None:
        clock, notes = self.clock()
        assert [clock.stamp(time) for time in (100, 140, 140, 130, 220)] == [0, 40, 41, 42, 120]
        assert notes == ["2 frame time stamps were doubled or ran backwards; they were moved forward"]

    def test_times_before_the_container_s_start_are_not_negative(self) -> None:
        clock, _ = self.clock()
        assert [clock.stamp(time) for time in (20, 60, 100, 140)] == [0, 1, 2, 40]

    def test_missing_times_are_filled_at_the_frame_rate(self) -> None:
        clock, notes = self.clock()
        assert [clock.stamp(time) for time in (100, None, None, 260, None)] == [0, 40, 80, 160, 200]
        assert len(notes) == 1

    def test_a_new_count_goes_on_where_the_old_one_ended(self) -> None:
        clock, notes = self.clock()
        raw = [100, 140, 5000, 5040, 100, 140, 5000]
        assert [clock.stamp(time) for time in raw] == [0, 40, 4900, 4940, 4980, 5020, 9880]
        assert "jump back" in notes[0]


class TestNotes:
    def test_repeated_messages_are_counted_in_place_and_never_count_down(self) -> None:
        notes = Notes()
        for _ in range(3):
            notes.add("packet", lambda count: f"{count} packets")
        notes.add("other", "said once")
        notes.begin_pass()  # a second reading, from the middle, meets fewer of them
        notes.add("packet", lambda count: f"{count} packets")
        assert notes == ["3 packets", "said once"]


class TestRates:
    @pytest.mark.parametrize(
        ("claims", "step", "expected"),
        [
            ([Fraction(25)], 40, 25),
            (
                [Fraction(60), Fraction(1000), Fraction(60)],
                33,
                30,
            ),  # field rate of H.264, no default duration
            ([Fraction(90_000), None, Fraction(90_000)], 40, 25),
            ([Fraction(30_000, 1001)], 33, Fraction(30_000, 1001)),
            ([Fraction(60)], 17, 60),
            ([None, None, Fraction(1000)], 70, 15),
            ([], 1, 240),
            ([], 5000, Fraction(1, 5)),
        ],
    )
    def test_claims_are_checked_against_the_time_stamps(
        self, claims: list[Fraction | None], step: int, expected: Fraction
    ) -> None:
        assert choose_rate(claims, [n * step for n in range(20)], MILLISECONDS) == expected

    def test_without_time_stamps_the_first_sane_claim_counts(self) -> None:
        assert choose_rate([None, Fraction(0), Fraction(24)], [], MILLISECONDS) == 24
        assert choose_rate([Fraction(90_000)], [], MILLISECONDS) == 25


class TestRange:
    def test_preview_starts_at_the_first_frame_in_it_and_counts_from_its_start(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(50), Clip(num_b_frames=2))
        full, _, _ = times(path)
        pts, durations, reader = times(
            path, start_seconds=Fraction(101, 100), duration_seconds=Fraction(1, 2)
        )
        start = 101 * 128  # 1.01 s in ticks of 1/12800 s
        assert pts == [time - start for time in full if start <= time < start + 6400]
        assert pts[0] * reader.time_base == Fraction(3, 100)
        assert pts[-1] + durations[-1] == 6400  # the last frame does not last beyond the range

    def test_preview_pictures_are_those_of_a_full_read(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mkv", moving_pictures(40), Clip(num_b_frames=2)))
        with VideoReader(info) as reader:
            full = list(reader.frames())
        with VideoReader(info, start_seconds=Fraction(3, 4)) as reader:
            part = list(reader.frames())
        assert len(part) == 21  # 0.76 s ... 1.56 s
        assert all(torch.equal(a.image, b.image) for a, b in zip(part, full[19:], strict=True))

    def test_preview_behind_the_end_says_how_long_the_file_is(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(10)))
        with (
            VideoReader(info, start_seconds=Fraction(5)) as reader,
            pytest.raises(NoFramesError, match=r"0\.40 s"),
        ):
            list(reader.frames())

    @pytest.mark.parametrize(
        "options",
        [{"start_seconds": Fraction(-1)}, {"duration_seconds": Fraction(0)}, {"num_threads": 0}],
    )
    def test_impossible_ranges_are_refused(self, tmp_path: Path, options: dict[str, object]) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(2)))
        with pytest.raises(ValueError, match="must be"):
            VideoReader(info, **options)  # type: ignore[arg-type]

    def test_a_video_that_goes_on_beyond_the_limit_stops(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mkv", moving_pictures(50)))
        with VideoReader(info, limits=InputLimits(max_seconds=1)) as reader, pytest.raises(InputLimitError):
            list(reader.frames())


def woven_clip(path: Path, *, is_top_first: bool) -> tuple[Path, list[Planes]]:
    fields = field_pictures(50, width=128, height=96)
    clip = Clip(
        codec="mpeg2video",
        width=128,
        height=96,
        options={"b": "8M"},
        field_order="tff" if is_top_first else "bff",
    )
    return write_clip(path, interlace(fields, is_top_first=is_top_first), clip), fields


class TestInterlaced:
    @pytest.mark.parametrize("suffix", ["mp4", "ts", "mpg"])
    @pytest.mark.parametrize("is_top_first", [True, False])
    def test_every_field_becomes_a_frame(self, tmp_path: Path, suffix: str, is_top_first: bool) -> None:
        path, originals = woven_clip(tmp_path / f"a.{suffix}", is_top_first=is_top_first)
        info = probe(path)
        assert info.video.is_interlaced
        with VideoReader(info) as reader:
            made = list(reader.frames())
            assert reader.rate == 50
        with VideoReader(info, deinterlace=False) as reader:
            woven = list(reader.frames())
            assert any("interlaced" in warning for warning in reader.warnings)
        assert [frame.pts * info.video.time_base / 2 for frame in made] == [
            Fraction(n, 50) for n in range(50)
        ]
        assert {frame.duration * info.video.time_base / 2 for frame in made} == {Fraction(1, 50)}
        gain = luma_psnr([f.image for f in made], originals) - luma_psnr(
            [f.image for f in woven for _ in range(2)], originals
        )
        assert gain > 4

    def test_progressive_material_can_be_deinterlaced_on_demand(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(6)))
        with VideoReader(info, deinterlace=True) as reader:
            assert len(list(reader.frames())) == 12

    def test_colour_passes_the_filter_unchanged(self, tmp_path: Path) -> None:
        # A filter graph without colour would turn BT.601 into BT.709 here.
        planes = [flat_picture([120, 90, 170], pix_fmt="yuv420p")] * 4
        info = probe(write_clip(tmp_path / "a.mp4", planes, Clip(options=X264_LOSSLESS)))
        with VideoReader(info, deinterlace=True) as made, VideoReader(info, deinterlace=False) as plain:
            assert torch.allclose(next(made.frames()).image, next(plain.frames()).image, atol=1e-5)


def luma_psnr(images: list[torch.Tensor], originals: list[Planes]) -> float:
    errors = [
        ((image[1] * 219 + 16 - torch.from_numpy(planes[0]).float()) ** 2).mean()
        for image, planes in zip(images[4:-4], originals[4:-4], strict=True)
    ]
    return float(10 * torch.log10(255**2 / torch.stack(errors).mean()))


class TestGeometry:
    @pytest.mark.parametrize(("width", "height"), [(321, 181), (161, 121), (16, 16), (33, 2)])
    @pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
    def test_odd_sizes_are_read_whole(self, tmp_path: Path, width: int, height: int, pix_fmt: str) -> None:
        clip = Clip(codec="ffv1", pix_fmt=pix_fmt, width=width, height=height)
        planes = moving_pictures(2, pix_fmt=pix_fmt, width=width, height=height)
        with VideoReader(probe(write_clip(tmp_path / "a.mkv", planes, clip))) as reader:
            images = [frame.image for frame in reader.frames()]
            assert (reader.width, reader.height) == (width, height)
        assert [image.shape for image in images] == [(3, height, width)] * 2

    def test_a_change_of_size_is_fitted_into_the_largest(self, tmp_path: Path) -> None:
        parts = []
        for number, (width, height) in enumerate([(64, 48), (128, 80)]):
            planes = [flat_picture([126, 128, 128], pix_fmt="yuv420p", width=width, height=height)] * 5
            clip = Clip(width=width, height=height)
            part = write_clip(tmp_path / f"{number}.ts", planes, clip, pts=range(5 * number, 5 * number + 5))
            parts.append(part.read_bytes())
        path = tmp_path / "joined.ts"
        path.write_bytes(b"".join(parts))
        with VideoReader(probe(path)) as reader:
            frames = list(reader.frames())
        assert len(frames) == 10
        assert {tuple(frame.image.shape) for frame in frames} == {(3, 80, 128)}
        assert frames[-1].image.sub(110 / 219).abs().max() < 0.02
        # 64x48 is 106.67x80 in this height: 11 black columns on one side, 10 on the other.
        first = frames[0].image
        assert first[:, :, :10].max() == 0
        assert first[:, :, -11:].max() == 0
        assert first[:, :, 10:-11].sub(110 / 219).abs().max() < 0.02
        assert all(after.pts > before.pts for before, after in pairwise(frames))
        assert sum("64x48, 128x80" in warning for warning in reader.info.warnings) == 1

    def test_files_joined_end_to_end_play_on(self, tmp_path: Path) -> None:
        part = write_clip(tmp_path / "a.ts", moving_pictures(10), Clip(codec="mpeg2video"))
        (tmp_path / "twice.ts").write_bytes(part.read_bytes() * 2)
        pts, _, reader = times(tmp_path / "twice.ts")
        assert pts == [3600 * n for n in range(20)]
        assert any("begin anew" in warning for warning in reader.info.warnings)
        assert reader.warnings == []


class TestLifetime:
    def test_frames_own_their_memory(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(20), Clip(num_b_frames=2)))
        with VideoReader(info) as reader:
            untouched = [frame.image.clone() for frame in reader.frames()]
            scribbled = []
            for frame in reader.frames():
                scribbled.append(frame.image.clone())
                frame.image.zero_()
        assert all(torch.equal(a, b) for a, b in zip(untouched, scribbled, strict=True))

    def test_an_iterator_left_early_closes_its_file_and_ends_its_threads(self, tmp_path: Path) -> None:
        clip = Clip(codec="ffv1", width=256, height=256, options={"slices": "4", "level": "3"})
        planes = moving_pictures(8, width=256, height=256)
        info = probe(write_clip(tmp_path / "a.mkv", planes, clip))
        reader = VideoReader(info, num_threads=4)
        next(iter(reader.frames()))
        before = num_native_threads()
        for _ in range(5):
            for _frame in reader.frames():
                break
        iterator = reader.frames()
        next(iterator)
        assert num_native_threads() > before
        assert open_files(info.path) == 1
        iterator.close()  # type: ignore[attr-defined]
        assert num_native_threads() <= before
        assert open_files(info.path) == 0

    def test_closing_the_reader_ends_its_iterators(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(8)))
        reader = VideoReader(info)
        iterator = reader.frames()
        next(iterator)
        reader.close()
        reader.close()
        assert list(iterator) == []
        assert open_files(info.path) == 0
        with pytest.raises(ValueError, match="closed"):
            reader.frames()

    def test_a_closed_decoder_gives_no_more_packets(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(8))
        decoder = StreamDecoder(path, 0, num_threads=1, limits=InputLimits(), notes=Notes())
        packets = decoder.packets()
        next(packets)
        decoder.close()
        assert list(packets) == []  # reading on in a closed container crashes the process

    def test_two_iterators_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        info = probe(write_clip(tmp_path / "a.mp4", moving_pictures(20)))
        with VideoReader(info) as reader:
            pairs = list(zip(reader.frames(), reader.frames(), strict=True))
        assert len(pairs) == 20
        assert all(torch.equal(a.image, b.image) for a, b in pairs)

    def test_reading_again_does_not_repeat_warnings(self, tmp_path: Path) -> None:
        with VideoReader(probe(write_clip(tmp_path / "a.h264", moving_pictures(3)))) as reader:
            list(reader.frames())
            first = list(reader.warnings)
            list(reader.frames())
            assert reader.warnings == first

    def test_opening_often_does_not_gather_memory(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(3))

        def open_often(count: int) -> int:
            for _ in range(count):
                with VideoReader(probe(path)) as reader:
                    next(reader.frames())
            return resident_bytes()

        before = open_often(20)
        assert open_often(100) - before < 20_000_000  # without close(): 0.4 MB each time


def num_native_threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def open_files(path: Path) -> int:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    return sum(
        link.is_symlink() and link.readlink() == path.resolve() for link in list(descriptors.iterdir())
    )


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        pytest.skip("needs /proc")
    return int(statm.read_text().split()[1]) * 4096
