from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from weakref import WeakSet

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipelines.chunks import Chunk, ChunkScheduler
from workers.run.borders import MIN_SHARE_AT_CUT
from workers.run.reading import FrameMark, SourceFrame
from workers.segments.planning import PlanMismatchError, PlannerState, SegmentPlan, plan_segments


@st.composite
def sources(draw: st.DrawFn) -> list[FrameMark]:
    """Frames of any durations, with cuts anywhere."""
    num_frames = draw(st.integers(1, 60))
    cuts = draw(st.sets(st.integers(1, max(1, num_frames - 1))))
    frames, pts = [], draw(st.integers(0, 5))
    for number in range(num_frames):
        duration = draw(st.integers(1, 4))
        frames.append(FrameMark(number, pts, duration, number in cuts, (float(number),)))
        pts += duration
    return frames


@st.composite
def rules(draw: st.DrawFn) -> dict[str, int]:
    chunk_len = draw(st.integers(1, 12))
    return {
        "chunk_len": chunk_len,
        "chunk_overlap": draw(st.integers(0, chunk_len)),
        "segment_ticks": draw(st.integers(1, 60)),
    }


def read_from(frames: list[FrameMark], state: PlannerState | None) -> Iterator[FrameMark]:
    """What `read_frames` gives from a resume point on: its first frame is no cut."""
    first = state.resume.read_frame if state and state.resume else 0
    for frame in frames[first:]:
        is_cut = frame.is_cut and frame.number > first
        yield FrameMark(frame.number, frame.pts, frame.duration, is_cut, frame.cut_history)


def chunks_of(
    frames: list[FrameMark], rule: dict[str, int], *, start: int, stop: int, cuts: set[int]
) -> list[Chunk]:
    overlap = min(rule["chunk_overlap"], rule["chunk_len"] // 2)
    scheduler = ChunkScheduler(rule["chunk_len"], overlap, first_frame=start)
    found: list[Chunk | None] = []
    for number in range(start, stop):
        found.append(scheduler.begin_frame(is_cut=number in cuts))
        found.append(scheduler.end_frame())
    found.append(scheduler.finish())
    return [chunk for chunk in found if chunk is not None]


@given(sources(), rules())
def test_segments_follow_one_another_and_have_all_frames(
    frames: list[FrameMark], rule: dict[str, int]
) -> None:
    plans = list(plan_segments(frames, **rule))
    assert [plan.index for plan in plans] == list(range(len(plans)))
    assert (plans[0].start, plans[0].first_frame, plans[-1].end_frame) == (None, 0, len(frames))
    assert [plan.is_last for plan in plans] == [False] * (len(plans) - 1) + [True]
    for before, after in pairwise(plans):
        assert before.end_frame == after.first_frame
        assert after.start is not None
        assert after.start == before.next_start
        assert after.start.next_frame == after.first_frame
    for plan in plans:
        assert plan.num_frames > 0
        assert plan.first_pts == frames[plan.first_frame].pts
        last = frames[plan.end_frame - 1]
        assert plan.end_pts == last.pts + last.duration
        is_at_cut = rule["chunk_overlap"] > 0 and plan.read_stop == plan.end_frame
        share = MIN_SHARE_AT_CUT if is_at_cut else 1
        assert plan.is_last or plan.end_pts - plan.first_pts >= share * rule["segment_ticks"]


@given(sources(), rules())
def test_planning_goes_on_after_any_segment_in_another_process(
    frames: list[FrameMark], rule: dict[str, int]
) -> None:
    plans = list(plan_segments(frames, **rule))
    for plan in plans[:-1]:
        assert plan.next_state is not None
        state = PlannerState.model_validate_json(plan.next_state.model_dump_json())
        rest = list(plan_segments(read_from(frames, state), **rule, resume=state))
        assert rest == plans[plan.index + 1 :]


@given(sources(), rules())
def test_the_chunks_of_a_segment_alone_are_those_of_the_whole(
    frames: list[FrameMark], rule: dict[str, int]
) -> None:
    cuts = {frame.number for frame in frames if frame.is_cut}
    whole = chunks_of(frames, rule, start=0, stop=len(frames), cuts=cuts)
    for plan in plan_segments(frames, **rule):
        start = plan.start.chunk_frame if plan.start else 0
        alone = chunks_of(frames, rule, start=start, stop=plan.read_stop, cuts=set(plan.cuts))
        wanted = [chunk for chunk in whole if plan.first_frame < chunk.stop and chunk.start < plan.end_frame]
        assert [(chunk.start, chunk.stop) for chunk in alone] == [
            (chunk.start, chunk.stop) for chunk in wanted
        ]


@given(sources(), rules())
def test_a_plan_is_known_before_more_is_read_than_its_successor_needs(
    frames: list[FrameMark], rule: dict[str, int]
) -> None:
    num_read = 0

    def counted() -> Iterator[FrameMark]:
        nonlocal num_read
        for frame in frames:
            num_read += 1
            yield frame

    for plan in plan_segments(counted(), **rule):
        assert num_read <= min(plan.read_stop + 1, len(frames))


@pytest.mark.parametrize(
    ("cut", "chunk_overlap", "expected"),
    [
        (78, 2, [78, 102]),  # 102: where the chunk that makes it long enough ends
        (70, 2, [100, 102]),
        (78, 0, [102, 104]),
    ],
)
def test_a_segment_ends_at_a_cut_a_little_before_its_length_if_chunks_overlap(
    cut: int, chunk_overlap: int, expected: list[int]
) -> None:
    frames = [FrameMark(n, n, 1, n == cut, ()) for n in range(300)]
    plans = list(plan_segments(frames, chunk_len=8, chunk_overlap=chunk_overlap, segment_ticks=100))
    assert [plan.num_frames for plan in plans[:2]] == expected


def test_planning_keeps_no_images() -> None:
    images: WeakSet[Tensor] = WeakSet()
    most = 0

    def frames() -> Iterator[SourceFrame]:
        nonlocal most
        for number in range(50):
            image = torch.zeros(3, 4, 4)
            images.add(image)
            most = max(most, len(images))
            yield SourceFrame(number, number, 1, False, (), image)

    plans = list(plan_segments(frames(), chunk_len=20, chunk_overlap=4, segment_ticks=30))
    assert plans[-1].end_frame == 50
    assert most <= 3


def test_a_plan_survives_json() -> None:
    frames = [FrameMark(n, n, 1, n == 7, (0.1, 1 / 3)) for n in range(20)]
    for plan in plan_segments(frames, chunk_len=4, chunk_overlap=1, segment_ticks=5):
        values: Any = json.loads(json.dumps(plan.model_dump(mode="json")))
        assert SegmentPlan.model_validate(values) == plan


def test_a_source_that_became_shorter_is_noticed() -> None:
    frames = [FrameMark(n, n, 1, False, ()) for n in range(20)]
    rule = {"chunk_len": 4, "chunk_overlap": 0, "segment_ticks": 8}
    first = next(plan_segments(frames, **rule))
    with pytest.raises(PlanMismatchError, match="segment 1 should begin at frame 8"):
        list(plan_segments(read_from(frames[:8], first.next_state), **rule, resume=first.next_state))
