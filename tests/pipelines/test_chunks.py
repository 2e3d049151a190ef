from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipelines.chunks import Chunk, ChunkJoiner, ChunkScheduler, clip_chunks, reference_chunks
from pipelines.planning.spans import Span, reference_spans
from pipelines.tiling import blend_weights


def schedule(num_frames: int, chunk_len: int, overlap: int, cuts: set[int], first: int = 0) -> list[Chunk]:
    scheduler = ChunkScheduler(chunk_len, overlap, first_frame=first)
    chunks: list[Chunk | None] = []
    for number in range(first, num_frames):
        chunks.append(scheduler.begin_frame(is_cut=number in cuts))
        chunks.append(scheduler.end_frame())
    chunks.append(scheduler.finish())
    return [chunk for chunk in chunks if chunk is not None]


sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n // 2)))
frames_and_cuts = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.integers(1, max(1, n - 1))))
)


@given(frames_and_cuts, sizes)
def test_every_frame_is_covered_and_no_chunk_crosses_a_cut(
    frames: tuple[int, set[int]], size: tuple[int, int]
) -> None:
    num_frames, cuts = frames
    chunks = schedule(num_frames, *size, cuts)
    assert set().union(*(range(c.start, c.stop) for c in chunks)) == set(range(num_frames))
    for chunk in chunks:
        assert len(chunk) <= size[0]
        assert not any(chunk.start < cut < chunk.stop for cut in cuts)


@given(frames_and_cuts, sizes)
def test_neighbours_in_a_shot_share_the_overlap_and_others_nothing(
    frames: tuple[int, set[int]], size: tuple[int, int]
) -> None:
    num_frames, cuts = frames
    chunks = schedule(num_frames, *size, cuts)
    assert chunks[0].lead == 0
    for before, after in pairwise(chunks):
        assert before.stop - after.start == after.lead
        assert after.lead == (0 if before.stop in cuts else size[1])


@given(frames_and_cuts, sizes)
def test_a_schedule_that_starts_at_any_chunk_goes_on_the_same(
    frames: tuple[int, set[int]], size: tuple[int, int]
) -> None:
    num_frames, cuts = frames
    chunks = schedule(num_frames, *size, cuts)
    for index, chunk in enumerate(chunks):
        resumed = schedule(num_frames, *size, cuts, first=chunk.start)
        assert [(c.start, c.stop) for c in resumed] == [(c.start, c.stop) for c in chunks[index:]]


def test_more_than_half_a_chunk_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="at most half"):
        ChunkScheduler(8, 5)


def fade(chunks: list[Chunk], values: list[float]) -> list[tuple[int, Tensor]]:
    emitted: list[tuple[int, Tensor]] = []
    joiner = ChunkJoiner()
    for chunk, value in zip(chunks, values, strict=True):
        emitted += joiner.join(chunk, iter(torch.full((len(chunk), 3, 2, 2), value).split(3)))
    return emitted + joiner.flush()


@given(frames_and_cuts, sizes)
def test_each_frame_is_handed_out_once_in_order(frames: tuple[int, set[int]], size: tuple[int, int]) -> None:
    num_frames, cuts = frames
    chunks = schedule(num_frames, *size, cuts)
    emitted = fade(chunks, [float(index) for index in range(len(chunks))])
    assert [number for number, _ in emitted] == list(range(num_frames))


def test_shared_frames_cross_over_on_a_line() -> None:
    chunks = schedule(14, 8, 4, set())
    emitted = fade(chunks, [0.0, 1.0, 2.0])
    values = [float(image[0, 0, 0]) for _, image in emitted]
    assert values[:8] == pytest.approx([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875])
    assert values[8:12] == pytest.approx([1.125, 1.375, 1.625, 1.875])
    assert values[12:] == [2, 2]


def test_frames_on_both_sides_of_a_cut_are_not_mixed() -> None:
    emitted = fade(schedule(12, 8, 4, {8}), [0.0, 1.0])
    assert [float(image.mean()) for _, image in emitted] == [0.0] * 8 + [1.0] * 4


def test_a_chunk_with_too_few_frames_is_noticed() -> None:
    with pytest.raises(ValueError, match="gave 3 frames for a chunk of 4"):
        list(ChunkJoiner().join(Chunk(0, 4), iter([torch.zeros(3, 3, 2, 2)])))


@given(st.integers(1, 80), st.integers(0, 20), st.integers(0, 20))
def test_a_whole_clip_is_cut_like_an_endless_row(num_frames: int, chunk_len: int, overlap: int) -> None:
    chunks = clip_chunks(num_frames, chunk_len, overlap)
    length = min(chunk_len or num_frames, num_frames)
    expected = schedule(num_frames, length, min(overlap, length // 2), set())
    assert [(c.start, c.stop, c.lead) for c in chunks] == [(c.start, c.stop, c.lead) for c in expected]
    assert chunks[-1].tail == 0


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 19))
def test_the_references_chunks_are_cut_in_the_middle_of_what_they_share(
    num_frames: int, chunk_len: int, overlap: int
) -> None:
    overlap = min(overlap, chunk_len - 1)
    chunks = reference_chunks(num_frames, chunk_len, overlap)
    spans = [Span(chunk.start, chunk.stop) for chunk in chunks]
    assert spans == reference_spans(num_frames, chunk_len, overlap)
    joiner, emitted = ChunkJoiner("cut"), list[tuple[int, Tensor]]()
    for index, chunk in enumerate(chunks):
        emitted += joiner.join(chunk, iter(torch.full((len(chunk), 3, 1, 1), float(index)).split(4)))
    assert [number for number, _ in emitted] == list(range(num_frames))
    weights = blend_weights(spans, num_frames, "cut")
    for number, image in emitted:
        span = spans[int(image.mean())]
        assert weights[int(image.mean())][number - span.start] == 1
