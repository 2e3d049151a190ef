"""One time line for video, sound, subtitles and chapters of files whose time stamps begin anew or jump."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from media import JoinReport, MediaInfo, VideoReader, join_segments, probe
from media._time_line import (
    RunFinder,
    SoundFollower,
    VideoRun,
    on_line,
    plan_time_line,
)
from media.info import Stretch
from tests.media.breaks import end_to_end, heard, jump, remap
from tests.media.sources import Sound, Text, make_source, write_segment

AAC, MP2 = Sound("aac"), Sound("mp2")
FRAME = Fraction(1, 25)


def run(begin: float, end: float, position: int = 0) -> VideoRun:
    exact = Fraction(str(begin))
    return VideoRun(first=exact, begin=exact, end=Fraction(str(end)), position=position)


def times_of(info: MediaInfo) -> list[Fraction]:
    with VideoReader(info) as reader:
        return [frame.pts * reader.time_base for frame in reader.frames()]


def joined(info: MediaInfo, folder: Path, **part: Any) -> tuple[Path, JoinReport]:
    """The source with a video of four seconds."""
    segment = write_segment(folder / "segment.mp4", range(100)).path
    output = folder / "out.mp4"
    return output, join_segments([segment], output, source=info, **part)


# Deciding


def plan(*runs: VideoRun, **kwargs: Any) -> tuple[list[float], Any]:
    options: dict[str, Any] = {"sound_seconds": (), "is_wrapping": False, "keep_gaps": False} | kwargs
    line = plan_time_line(runs, **options)
    return [float(stretch.shift_seconds) for stretch in line.stretches], line


def test_one_run_is_one_stretch() -> None:
    assert plan(run(1.4, 3))[0] == [0]


def test_a_clock_that_begins_anew_goes_on_where_it_ended() -> None:
    shifts, line = plan(run(1, 3), run(1, 4), run(0.5, 2))
    assert shifts == [0, 2, 5.5]
    assert line.joints == (3, 6)


def test_a_jump_forward_is_closed_or_kept() -> None:
    assert plan(run(0, 2), run(7202, 7204))[0] == [0, -7200]
    shifts, line = plan(run(0, 2), run(7202, 7204), keep_gaps=True)
    assert shifts == [0]
    assert line.kept == ((2, 7200),)


def test_a_still_picture_with_sound_is_no_jump() -> None:
    shifts, line = plan(run(0, 2), run(62, 64), sound_seconds=set(range(64)))
    assert (shifts, line.closed) == ([0], ())


def test_a_clock_that_ffmpeg_takes_for_one_that_ran_over_is_closed_even_if_gaps_are_kept() -> None:
    wrap = 2**33 / 90_000
    shifts, line = plan(run(2000, 2002), run(1 + wrap, 3 + wrap), is_wrapping=True, keep_gaps=True)
    assert len(shifts) == 2
    assert line.joints == (2002,)


def test_reordered_frames_and_jitter_are_no_break() -> None:
    finder = RunFinder(interval=FRAME, has_decoding_times=False)
    for number in (0, 16, 8, 4, 1, 2, 3, 12, 10):
        finder.add(number * FRAME, number * FRAME, (number + 1) * FRAME, 0)
    assert len(finder.runs) == 1
    assert finder.runs[0].end == 17 * FRAME


def test_slides_are_no_jumps() -> None:
    finder = RunFinder(interval=Fraction(15), has_decoding_times=True)
    for second in (0, 15, 30, 90):
        finder.add(Fraction(second), Fraction(second), Fraction(second + 15), 0)
    assert len(finder.runs) == 1


def stretches(*bounds: tuple[float, float, float]) -> list[Stretch]:
    return [
        Stretch(
            first_seconds=Fraction(begin),
            begin_seconds=Fraction(begin),
            end_seconds=Fraction(end),
            position=0,
            shift_seconds=Fraction(shift),
        )
        for begin, end, shift in bounds
    ]


def test_sound_follows_though_it_breaks_some_packets_later() -> None:
    follower = SoundFollower(stretches((0, 10, 0), (0, 10, 10)))
    packet = Fraction(1, 40)
    shifts = [follower.shift(n * packet, packet, None) for n in range(4)]
    assert shifts == [0] * 4
    late = [
        follower.shift(9 + n * packet, packet, None) for n in range(50)
    ]  # a hole, then past the video's end
    assert set(late) == {0}
    assert [follower.shift(n * packet, packet, None) for n in range(3)] == [10] * 3


def test_chapters_in_a_closed_gap_lie_at_the_gap() -> None:
    line = stretches((0, 2, 0), (100, 102, -98))
    assert [on_line(line, Fraction(second)) for second in (1, 50, 101)] == [1, 2, 3]


# Whole files


@pytest.mark.parametrize("sound", [AAC, MP2], ids=lambda sound: sound.codec)
@pytest.mark.parametrize("origins", [(1.0, 1.0), (300.0, 1.0), (1.0, 7200.0), (1.0, 90_000.0, 5.0)])
def test_picture_and_sound_of_joined_broadcasts_go_on(
    tmp_path: Path, origins: tuple[float, ...], sound: Sound
) -> None:
    path = end_to_end(tmp_path / "a.ts", *origins, sounds=[sound])
    info = probe(path)
    times = times_of(info)
    assert len(times) == 50 * len(origins)
    assert {after - before for before, after in pairwise(times)} == {FRAME}
    output, report = joined(info, tmp_path)
    assert heard(output) == [pytest.approx((0, 2 * len(origins)), abs=0.1)]
    assert info.warnings
    assert info.duration_seconds == pytest.approx(2 * len(origins), abs=0.1)
    assert report.streams[1].action == ("copied" if sound is AAC else "transcoded")


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_jump_of_hours_is_closed_for_all_streams(tmp_path: Path, suffix: str) -> None:
    texts = [Text("subrip", [(3000, 3500, "hi")])] if suffix == "mkv" else []
    whole = make_source(tmp_path / "whole.mkv", seconds=4, sounds=[AAC], texts=texts)
    info = probe(remap(whole, tmp_path / f"jump.{suffix}", jump(2, 7200)))
    assert [round(float(time), 2) for time in times_of(info)] == [round(n * 0.04, 2) for n in range(100)]
    assert any("jump forward by 7200.0 s" in warning for warning in info.warnings)
    output, _ = joined(info, tmp_path)
    assert heard(output) == [pytest.approx((0, 4), abs=0.1)]
    if suffix == "mkv":
        with av.open(str(output)) as container:
            cues = [p for p in container.demux(container.streams.subtitles[0]) if p.size > 2]
        assert [float(cue.pts * cue.time_base) for cue in cues] == [pytest.approx(3, abs=0.01)]


def test_gaps_are_kept_on_demand(tmp_path: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=4, sounds=[AAC])
    info = probe(remap(whole, tmp_path / "jump.mkv", jump(2, 60)), keep_gaps=True)
    assert [float(time) for time in times_of(info)][49:51] == [1.96, 62.0]
    assert any("stands still" in warning for warning in info.warnings)


def test_a_still_picture_over_sound_stays(tmp_path: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=30, sounds=[AAC])
    still = remap(
        whole,
        tmp_path / "still.mkv",
        lambda second, index: None if index == 0 and 2 <= second < 25 else second,
    )
    info = probe(still)
    assert info.stretches == ()
    assert times_of(info)[50] == 25


def test_chapters_follow(tmp_path: Path) -> None:
    whole = make_source(
        tmp_path / "whole.mkv", seconds=4, chapters=[(0, 2, "one"), (102, 103, "two"), (103, 104, "three")]
    )
    info = probe(remap(whole, tmp_path / "jump.mkv", jump(2, 100)))
    output, _ = joined(info, tmp_path)
    with av.open(str(output)) as container:
        starts = [float(chapter["start"] * chapter["time_base"]) for chapter in container.chapters()]
    assert starts == [0, 2, 3]


@pytest.mark.parametrize("origins", [(1.0, 1.0, 1.0), (1.0, 7200.0)])
def test_reading_on_behind_a_break_gives_the_frames_of_a_full_read(
    tmp_path: Path, origins: tuple[float, ...]
) -> None:
    info = probe(end_to_end(tmp_path / "a.ts", *origins))
    with VideoReader(info) as reader:
        whole = list(reader.frames())
        for number in (10, 49, 50, 51, 80):
            rest = list(reader.frames(from_pts=whole[number].pts))
            assert [frame.pts for frame in rest] == [frame.pts for frame in whole[number:]]
            assert torch.equal(rest[0].image, whole[number].image)


def test_a_range_counts_on_the_line(tmp_path: Path) -> None:
    info = probe(end_to_end(tmp_path / "a.ts", 1.0, 7200.0, sounds=[AAC]))
    with VideoReader(info, start_seconds=Fraction(3), duration_seconds=Fraction(1, 2)) as reader:
        assert len(list(reader.frames())) == pytest.approx(13, abs=1)
    output, _ = joined(info, tmp_path, start_seconds=Fraction(3), duration_seconds=Fraction(1, 2))
    assert heard(output) == [pytest.approx((0, 0.5), abs=0.15)]


def test_a_quick_probe_leaves_the_video_to_the_reader(tmp_path: Path) -> None:
    info = probe(end_to_end(tmp_path / "a.ts", 1.0, 1.0), is_quick=True)
    assert info.stretches == ()
    assert len(times_of(info)) == 100


# Streams without times, and without an end


def test_pictures_without_time_stamps_come_at_the_frame_rate(tmp_path: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=2, sounds=[AAC])
    stuck = remap(whole, tmp_path / "stuck.mkv", lambda second, index: Fraction(0) if index == 0 else second)
    info = probe(stuck)
    times = times_of(info)
    assert [float(time) for time in times] == pytest.approx(
        [n * float(1 / info.video.rate) for n in range(50)]
    )
    output, _ = joined(info, tmp_path)
    assert heard(output) == [pytest.approx((0, 2), abs=0.1)]


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_sound_without_time_stamps_counts_its_samples(tmp_path: Path, codec: str) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=4, sounds=[Sound(codec)])
    stuck = remap(whole, tmp_path / "stuck.mkv", lambda second, index: second if index == 0 else Fraction(0))
    output, _ = joined(probe(stuck), tmp_path)
    assert heard(output) == [pytest.approx((0, 4), abs=0.1)]


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_no_silence_is_made_behind_the_picture(tmp_path: Path, codec: str) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=4, sounds=[Sound(codec)])
    far = remap(
        whole,
        tmp_path / "far.mkv",
        lambda second, index: second + 3600 if index == 1 and second > 3 else second,
    )
    output, report = joined(probe(far), tmp_path)
    assert heard(output) == [pytest.approx((0, 3), abs=0.1)]
    assert "behind the last picture" in report.streams[1].detail
    with av.open(str(output)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(4, abs=0.1)


def test_sound_that_outlasts_the_picture_is_kept(tmp_path: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", seconds=4, sounds=[AAC])
    short = remap(
        whole, tmp_path / "short.mkv", lambda second, index: None if index == 0 and second > 1 else second
    )
    output, _ = joined(probe(short), tmp_path)
    assert heard(output) == [pytest.approx((0, 4), abs=0.1)]


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["concatenated.ts", "time_jump_2h.ts"])
def test_reported_files_play_three_seconds(shared_dir: Path, tmp_path: Path, name: str) -> None:
    info = probe(shared_dir / "clips" / "reported" / name)
    times = times_of(info)
    assert len(times) == 30
    assert float(times[-1] - times[0]) == pytest.approx(2.9, abs=0.01)
    output, _ = joined(info, tmp_path)
    assert heard(output) == [pytest.approx((0, 3), abs=0.1)]
