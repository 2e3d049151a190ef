"""Segments that are made alone are those of a whole run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch import Tensor

from media import Frame, VideoReader, join_segments, probe
from media.sandbox import SandboxedReader
from media.sizes import SizeRequest
from pipelines.errors import OutOfMemoryError
from pipelines.planning import UpscalePlan
from tests.media.clips import Clip, field_pictures, interlace, moving_pictures, write_clip
from tests.pipelines.tiny import save_nano
from tests.workers.made import FAST, StandInPipeline, make_video, stand_in_model, video_packets
from workers.job import Job, plan_job
from workers.job_description import describe_job
from workers.manifest import SegmentRecord, load_manifest
from workers.models import Model, load_model
from workers.options import UpscaleOptions
from workers.segment_making import (
    PREVIEW_SIDE,
    MadeSegment,
    SegmentStoppedError,
    make_segment,
    smaller_plan,
)
from workers.segment_planning import PlanMismatchError, SegmentPlan, plan_source
from workers.upscaler import upscale_file
from workers.workfolder import WorkFolder

ROOT = Path(__file__).parents[2]


def options(**changes: Any) -> UpscaleOptions:
    fields: dict[str, Any] = {
        "size": SizeRequest(scale=Fraction(2)),
        "encode": FAST,
        "segment_seconds": Fraction(1, 2),
        "chunk": 8,
        "chunk_overlap": 3,
    }
    return UpscaleOptions(**(fields | changes))


class ChunkTintPipeline:
    """Enlarges by repetition and tints each chunk by where it begins, so that other chunks give other
    frames."""

    def stream(
        self, clip: Tensor, *, height: int, width: int, generator: torch.Generator, **_: object
    ) -> Iterator[Tensor]:
        tint = 0.02 * (generator.initial_seed() % 13) + 0.01 * (clip.shape[0] % 5)
        for batch in clip.split(3):
            yield torch.nn.functional.interpolate(batch, size=(height, width)) * 0.7 + tint


@pytest.fixture(scope="module")
def tinting() -> Model:
    return replace(stand_in_model(StandInPipeline()), pipeline=ChunkTintPipeline())


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network with random weights, whose frames depend on their chunk."""
    return load_model(str(save_nano(tmp_path_factory.mktemp("nano"))), device="cpu", dtype="float32")


@contextmanager
def opened(source: Path, wanted: UpscaleOptions) -> Iterator[VideoReader]:
    with VideoReader(
        probe(source),
        start_seconds=wanted.start_seconds,
        duration_seconds=wanted.duration_seconds,
        deinterlace=wanted.deinterlace,
    ) as reader:
        yield reader


@dataclass
class Whole:
    """What a whole run made: the final file and each segment."""

    path: Path
    segments: list[bytes]
    records: tuple[SegmentRecord, ...]


def run_whole(
    source: Path, folder: Path, model: Model, wanted: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> Whole:
    kept = folder / "kept"

    def keep(work: WorkFolder) -> None:
        shutil.copytree(work.path, kept)
        remove(work)

    remove = WorkFolder.remove
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "remove", keep)
        upscale_file(source, folder / "whole.mp4", model=model, options=wanted)
    manifest = load_manifest(kept)
    assert manifest is not None
    return Whole(
        folder / "whole.mp4",
        [path.read_bytes() for path in sorted(kept.glob("segment-*.mp4"))],
        manifest.segments,
    )


def plan_all(source: Path, model: Model, wanted: UpscaleOptions) -> tuple[Job, list[SegmentPlan]]:
    with opened(source, wanted) as reader:
        job = plan_job(reader.info, reader, model=model, options=wanted)
        return job, list(plan_source(reader, job, options=wanted))


def make(
    source: Path,
    model: Model,
    job: Job,
    plan: SegmentPlan,
    destination: Path,
    wanted: UpscaleOptions,
    **arguments: Any,
) -> MadeSegment:
    """As another worker does: with a reader of its own, and the plan from JSON."""
    plan = SegmentPlan.model_validate_json(plan.model_dump_json())
    with opened(source, wanted) as reader:
        return make_segment(reader, model, job, plan, destination, options=wanted, **arguments)


def check_segments(
    source: Path, folder: Path, model: Model, wanted: UpscaleOptions, patch: pytest.MonkeyPatch
) -> list[SegmentPlan]:
    """Makes all segments, the last one first and the first one twice, and joins them."""
    whole = run_whole(source, folder, model, wanted, patch)
    job, plans = plan_all(source, model, wanted)
    assert [(plan.num_frames, plan.first_pts, plan.end_pts, plan.next_start) for plan in plans] == [
        (record.num_frames, record.first_pts, record.end_pts, record.resume) for record in whole.records
    ]
    for plan in (plans[0], *reversed(plans)):
        path = folder / f"{plan.index}.mp4"
        made = make(source, model, job, plan, path, wanted)
        assert path.read_bytes() == whole.segments[plan.index], plan
        assert (made.info.num_frames, made.info.first_pts, made.info.end_pts) == (
            plan.num_frames,
            plan.first_pts,
            plan.end_pts,
        )
    join(job, plans, folder, wanted)
    assert video_packets(folder / "joined.mp4") == video_packets(whole.path)
    assert (folder / "joined.mp4").read_bytes() == whole.path.read_bytes()
    return plans


def join(job: Job, plans: list[SegmentPlan], folder: Path, wanted: UpscaleOptions) -> Path:
    return join_segments(
        [folder / f"{plan.index}.mp4" for plan in plans],
        folder / "joined.mp4",
        source=job.info,
        start_seconds=wanted.start_seconds,
        duration_seconds=wanted.duration_seconds,
    ).path


@pytest.mark.parametrize("chunking", [(8, 3), (8, 0), (7, 3), (1, 0), (30, 15), (8, 7)])
def test_each_segment_and_their_join_are_those_of_a_whole_run(
    clip: Path, tmp_path: Path, tinting: Model, chunking: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(chunk=chunking[0], chunk_overlap=chunking[1])
    plans = check_segments(clip, tmp_path, tinting, wanted, monkeypatch)
    assert len(plans) > 2


@pytest.mark.parametrize("chunk_overlap", [3, 0])
def test_cuts_anywhere_give_the_same_segments(
    tmp_path: Path, tinting: Model, chunk_overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At the end of a full chunk, one frame after another cut, at the end of a segment, before the last frame.
    source = make_video(tmp_path / "cuts.mp4", 70, cuts=(8, 13, 33, 34, 46, 69))
    wanted = options(chunk_overlap=chunk_overlap)
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert {cut for plan in plans for cut in plan.cuts} >= {8, 33, 34}


def test_a_scene_cut_at_a_border_needs_no_frame_of_the_scene_before(tmp_path: Path, tinting: Model) -> None:
    source = make_video(tmp_path / "cut.mp4", 30, cuts=(14,))
    _, plans = plan_all(source, tinting, options())
    first, second = plans[:2]
    assert (first.end_frame, first.read_stop) == (14, 14)
    assert second.start is not None
    assert (second.start.chunk_frame, second.start.read_frame) == (14, 13)


def test_variable_frame_times_give_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pts = [0, 100, 110, 500, 501, 900, 2000, 2001, 2500, 3000, 3100, 5000]
    source = make_video(tmp_path / "vfr.mkv", pts=pts, time_base=Fraction(1, 1000))
    plans = check_segments(source, tmp_path, tinting, options(chunk=4, chunk_overlap=2), monkeypatch)
    assert len(plans) > 2


def test_interlaced_sources_give_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = interlace(field_pictures(60), is_top_first=True)
    source = write_clip(tmp_path / "a.ts", fields, Clip(codec="mpeg2video", field_order="tff", gop=6))
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    assert plans[-1].end_frame == 60


def test_a_source_with_one_keyframe_and_b_frames_gives_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Clip(gop=1000, num_b_frames=2, options={"preset": "ultrafast", "x264-params": "keyint=infinite"})
    source = write_clip(tmp_path / "long.mp4", moving_pictures(50), shape)
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    assert len(plans) > 2


def test_a_preview_gives_the_same_segments(
    clip: Path, tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(start_seconds=Fraction(1, 2), duration_seconds=Fraction(201, 100))
    plans = check_segments(clip, tmp_path, tinting, wanted, monkeypatch)
    assert plans[-1].end_pts * Fraction(1, 12800) == Fraction(201, 100)
    assert len(plans) > 2


def test_segments_of_one_frame_are_the_same(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "short.mp4", 6)
    wanted = options(chunk=1, chunk_overlap=0, segment_seconds=Fraction(1, 25))
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert [plan.num_frames for plan in plans] == [1] * 6


def test_a_last_segment_of_one_frame_is_the_same(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "long.mp4", 33)
    wanted = options(chunk_overlap=0, segment_seconds=Fraction(16, 25))
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert [plan.num_frames for plan in plans] == [16, 16, 1]


def test_a_network_with_overlapping_chunks_gives_the_same_segments(
    tmp_path: Path, nano: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "clip.mp4", 30, size=(32, 32), cuts=(13,))
    wanted = options(size=SizeRequest(scale=Fraction(4)), segment_seconds=Fraction(2, 5))
    plans = check_segments(source, tmp_path, nano, wanted, monkeypatch)
    assert len(plans) > 1


MAKES_ODD_SEGMENTS = """
    import json, sys
    from pathlib import Path
    from media import VideoReader, probe
    from workers.job_description import rebuild_job
    from workers.models import load_model
    from workers.segment_making import make_segment
    from workers.segment_planning import SegmentPlan

    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    described = json.loads((folder / "job.json").read_text())
    model = load_model("lanczos", device="cpu")
    with VideoReader(probe(source)) as reader:
        options, job = rebuild_job(described["job"], reader.info, reader, model=model)
        for plan in map(SegmentPlan.model_validate, described["plans"]):
            if plan.index % 2:
                make_segment(reader, model, job, plan, folder / f"{plan.index}.mp4", options=options)
"""


def test_segments_of_two_processes_join_to_the_whole_run(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wanted = load_model("lanczos", device="cpu"), options()
    whole = run_whole(clip, tmp_path, model, wanted, monkeypatch)
    job, plans = plan_all(clip, model, wanted)
    described = {
        "job": describe_job(job, options=wanted, model=model),
        "plans": [plan.model_dump(mode="json") for plan in plans],
    }
    (tmp_path / "job.json").write_text(json.dumps(described))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MAKES_ODD_SEGMENTS), str(clip), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    for plan in plans[::2]:
        make(clip, model, job, plan, tmp_path / f"{plan.index}.mp4", wanted)
    assert join(job, plans, tmp_path, wanted).read_bytes() == whole.path.read_bytes()


def test_a_sandboxed_reader_plans_and_makes_the_same_segments(
    clip: Path, tmp_path: Path, tinting: Model
) -> None:
    wanted = options()
    job, plans = plan_all(clip, tinting, wanted)
    with SandboxedReader(job.info) as reader:
        assert plan_job(job.info, reader, model=tinting, options=wanted) == job
        assert list(plan_source(reader, job, options=wanted)) == plans
        make_segment(reader, tinting, job, plans[2], tmp_path / "boxed.mp4", options=wanted)
    make(clip, tinting, job, plans[2], tmp_path / "plain.mp4", wanted)
    assert (tmp_path / "boxed.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()


class CountingSource:
    """A reader that counts the frames it gives."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.num_frames = 0

    @property
    def warnings(self) -> list[str]:
        return self.reader.warnings

    def frames(self, *, from_pts: int | None = None) -> Iterator[Frame]:
        for frame in self.reader.frames(from_pts=from_pts):
            self.num_frames += 1
            yield frame


def test_only_the_frames_of_a_segment_are_read(clip: Path, tmp_path: Path, tinting: Model) -> None:
    wanted = options()
    job, plans = plan_all(clip, tinting, wanted)
    for plan in plans:
        with opened(clip, wanted) as reader:
            source = CountingSource(reader)
            make_segment(source, tinting, job, plan, tmp_path / "one.mp4", options=wanted)
        begin = plan.start.read_frame if plan.start else 0
        assert source.num_frames == plan.read_stop - begin <= plan.num_frames + 8 + 3


def test_progress_counts_the_frames_of_the_segment(clip: Path, tmp_path: Path, tinting: Model) -> None:
    job, plans = plan_all(clip, tinting, options())
    seen: list[int] = []
    make(clip, tinting, job, plans[1], tmp_path / "one.mp4", options(), on_frame=seen.append)
    assert seen == list(range(1, plans[1].num_frames + 1))


@pytest.mark.parametrize("num_asked", [0, 5, 20])
def test_a_stopped_segment_leaves_nothing_behind(
    clip: Path, tmp_path: Path, tinting: Model, num_asked: int
) -> None:
    job, plans = plan_all(clip, tinting, options())
    answers = chain(repeat(False, num_asked), repeat(True))
    with pytest.raises(SegmentStoppedError, match="segment 1 was told to stop"):
        make(clip, tinting, job, plans[1], tmp_path / "one.mp4", options(), should_stop=lambda: next(answers))
    assert list(tmp_path.iterdir()) == []


class ClosedSource(CountingSource):
    """A reader that another thread closes before or while it looks for its first frame."""

    def __init__(self, reader: VideoReader, *, is_early: bool) -> None:
        super().__init__(reader)
        self.is_early = is_early

    def frames(self, *, from_pts: int | None = None) -> Iterator[Frame]:
        if self.is_early:
            self.reader.close()
        frames = self.reader.frames(from_pts=from_pts)
        self.reader.close()
        return frames


@pytest.mark.parametrize(
    ("is_told", "is_early", "error"),
    [
        (True, True, SegmentStoppedError),
        (True, False, SegmentStoppedError),
        (False, True, ValueError),
        (False, False, PlanMismatchError),
    ],
)
def test_closing_the_reader_ends_a_search_for_the_first_frame(
    clip: Path, tmp_path: Path, tinting: Model, is_told: bool, is_early: bool, error: type[Exception]
) -> None:
    wanted = options()
    job, (_, plan, *_) = plan_all(clip, tinting, wanted)
    with opened(clip, wanted) as reader:
        source = ClosedSource(reader, is_early=is_early)
        with pytest.raises(error):
            make_segment(
                source,
                tinting,
                job,
                plan,
                tmp_path / "one.mp4",
                options=wanted,
                should_stop=lambda: is_told,
            )
    assert list(tmp_path.iterdir()) == []


class PickyPipeline(ChunkTintPipeline):
    """Runs out of memory with all plans but one, and remembers the chunks it got."""

    def __init__(self, good_plan: UpscalePlan) -> None:
        self.good_plan = good_plan
        self.chunk_lengths: list[int] = []

    def stream(self, clip: Tensor, *, plan: UpscalePlan, **arguments: Any) -> Iterator[Tensor]:
        if plan != self.good_plan:
            raise torch.OutOfMemoryError("too much")
        self.chunk_lengths.append(clip.shape[0])
        return super().stream(clip, **arguments)


def test_another_tile_plan_can_be_given_after_memory_ran_out(
    clip: Path, tmp_path: Path, tinting: Model
) -> None:
    good = UpscalePlan(chunk_len=3, chunk_overlap=0)
    pipeline = PickyPipeline(good)
    model = replace(tinting, pipeline=pipeline)
    job, plans = plan_all(clip, model, options())
    with pytest.raises(OutOfMemoryError, match="segment 0"):
        make(clip, model, job, plans[0], tmp_path / "one.mp4", options())
    assert list(tmp_path.iterdir()) == []
    made = make(clip, model, job, plans[0], tmp_path / "one.mp4", options(), memory_plan=good)
    assert made.info.num_frames == plans[0].num_frames
    assert set(pipeline.chunk_lengths) == {8}


def test_smaller_plans_need_less_memory_down_to_the_smallest(nano: Model) -> None:
    plan = nano.plan(num_frames=100, size=(180, 320), out_size=(720, 1280), reserved_bytes=0)
    needed = [smaller_plan(plan, times).estimated_bytes for times in range(60)]
    assert needed[0] == plan.estimated_bytes
    assert needed[1] < needed[0]
    assert smaller_plan(plan, 59) == smaller_plan(plan, 58)
    assert smaller_plan(UpscalePlan(chunk_len=8, chunk_overlap=0), 3).chunk_len == 8


def test_a_network_makes_the_segment_with_a_smaller_plan_too(tmp_path: Path, nano: Model) -> None:
    source = make_video(tmp_path / "clip.mp4", 20, size=(32, 32))
    wanted = options(size=SizeRequest(scale=Fraction(4)), chunk=16, chunk_overlap=2)
    job, plans = plan_all(source, nano, wanted)
    smaller = smaller_plan(job.plan, 1)
    assert smaller.chunk_len < job.plan.chunk_len
    made = make(source, nano, job, plans[0], tmp_path / "one.mp4", wanted, memory_plan=smaller)
    assert made.info.num_frames == plans[0].num_frames


@pytest.mark.parametrize(
    "change", [{"end_frame": 14}, {"first_pts": 1}, {"end_pts": 7}, {"first_frame": 1}, {"read_stop": 9}]
)
def test_a_plan_that_does_not_fit_the_source_is_refused(
    clip: Path, tmp_path: Path, tinting: Model, change: dict[str, int]
) -> None:
    job, plans = plan_all(clip, tinting, options())
    assert plans[0].end_frame != 14
    with pytest.raises(PlanMismatchError, match="segment 0 was planned with"):
        make(clip, tinting, job, plans[0].model_copy(update=change), tmp_path / "one.mp4", options())
    assert list(tmp_path.iterdir()) == []


def test_the_preview_shows_the_last_frame_before_and_after(
    clip: Path, tmp_path: Path, bicubic: Model
) -> None:
    job, plans = plan_all(clip, bicubic, options())
    made = make(clip, bicubic, job, plans[1], tmp_path / "one.mp4", options())
    pair = made.preview
    assert pair.number == plans[1].end_frame - 1
    assert pair.pts * job.video_format.time_base == Fraction(pair.number, 25)
    assert pair.source.shape == pair.result.shape == (3, 96, 128)
    assert torch.equal(pair.source, pair.result)  # bicubic against bicubic
    source, result = pair.images()
    assert source.size == result.size == (128, 96)
    assert result.tobytes() == pair.result.permute(1, 2, 0).contiguous().numpy().tobytes()


def test_previews_are_small_upright_and_of_square_pixels(tmp_path: Path, bicubic: Model) -> None:
    shape = Clip(
        width=320,
        height=32,
        sample_aspect_ratio=Fraction(2),
        display_matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    )
    source = write_clip(tmp_path / "turned.mp4", moving_pictures(2, width=320, height=32), shape)
    wanted = options(size=SizeRequest(scale=Fraction(4)))
    job, plans = plan_all(source, bicubic, wanted)
    made = make(source, bicubic, job, plans[0], tmp_path / "one.mp4", wanted)
    assert abs(job.info.video.rotation) == 90
    assert made.preview.images()[1].size == (64, PREVIEW_SIDE)


def test_damage_gives_the_same_segments_and_is_told_by_the_segment_that_has_it(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "damaged.mp4", 60)
    with av.open(str(source)) as container:
        position = [packet.pos for packet in container.demux(video=0)][45]
    with source.open("rb+") as file:
        file.seek(position)
        file.write(bytes(60))
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    job, _ = plan_all(source, tinting, options())
    told = [make(source, tinting, job, plan, tmp_path / "one.mp4", options()).warnings for plan in plans]
    assert told[0] == ()
    assert any("damaged" in warning for warnings in told for warning in warnings)
