"""Making a segment: what is read and told, how it is stopped, what happens without memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch
from torch import Tensor

from media import Entry, Frame, VideoReader
from media.sizes import SizeRequest
from pipelines.errors import OutOfMemoryError
from pipelines.loaders import load_model
from pipelines.model import Model
from pipelines.planning.frame_plan import FramePlan
from pipelines.planning.plan import ChunkPlan
from tests.media.clips import Clip, moving_pictures, write_clip
from tests.pipelines.tiny import save_nano
from tests.workers.made import make_video, options
from tests.workers.segments.runs import (
    ChunkTintModel,
    CountingSource,
    make,
    opened,
    plan_all,
)
from workers.segments.making import (
    SegmentStoppedError,
    make_segment,
)
from workers.segments.planning import PlanMismatchError
from workers.segments.preview import PREVIEW_SIDE


@pytest.fixture(scope="module")
def tinting() -> Model:
    return ChunkTintModel()


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network with random weights, whose frames depend on their chunk."""
    return load_model(str(save_nano(tmp_path_factory.mktemp("nano"))), device="cpu", dtype="float32")


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

    def frames(self, *, from_pts: int | None = None, entry: Entry | None = None) -> Iterator[Frame]:
        if self.is_early:
            self.reader.close()
        frames = self.reader.frames(from_pts=from_pts, entry=entry)
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


class PickyModel(ChunkTintModel):
    """Runs out of memory with all plans but one, and remembers the chunks it got."""

    def __init__(self, good_plan: FramePlan) -> None:
        super().__init__()
        self.good_plan = good_plan
        self.chunk_lengths: list[int] = []

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        if plan != self.good_plan:
            raise torch.OutOfMemoryError("too much")
        self.chunk_lengths.append(clip.shape[0])
        return super().restore(clip, size, plan, generator=generator)


def test_another_tile_plan_can_be_given_after_memory_ran_out(
    clip: Path, tmp_path: Path, tinting: Model
) -> None:
    good = FramePlan(chunk_len=3)
    model = PickyModel(good)
    job, plans = plan_all(clip, model, options())
    with pytest.raises(OutOfMemoryError, match="smallest plan"):
        make(clip, model, job, plans[0], tmp_path / "one.mp4", options())
    assert list(tmp_path.iterdir()) == []
    made = make(clip, model, job, plans[0], tmp_path / "one.mp4", options(), memory_plan=good)
    assert made.info.num_frames == plans[0].num_frames
    assert set(model.chunk_lengths) == {8}


def test_a_network_makes_the_segment_with_a_smaller_plan_too(tmp_path: Path, nano: Model) -> None:
    source = make_video(tmp_path / "clip.mp4", 20, size=(96, 64))
    wanted = options(size=SizeRequest(scale=Fraction(4)), chunk=16, chunk_overlap=2, tile=256)
    job, plans = plan_all(source, nano, wanted)
    smaller = job.plan.smaller()
    assert smaller is not None
    assert smaller.estimated_bytes < job.plan.estimated_bytes
    assert smaller.chunk_len == job.plan.chunk_len
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
