"""The segment task: makes one planned segment, stores it, and makes it part of the result."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from PIL import Image

from jobs import objects
from jobs.errors import LostLeaseError, QuotaExceededError, StorageError
from jobs.records import FinishedSegment
from media.growing import index_segment
from pipelines.planning.plan import ChunkPlan
from workers.run.timing import StageClock
from workers.segments.description import JobMismatchError
from workers.segments.making import MadeSegment, SegmentStoppedError, make_segment
from workers.segments.planning import SegmentPlan
from workers.segments.preview import FramePair
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import Blueprint, opened, planned_segment
from workers.tasks.context import WorkerContext
from workers.tasks.failures import without_paths

_PREVIEW_QUALITY = 88


def segment(attempt: Attempt) -> None:
    """Makes and publishes the segment that the attempt's task names."""
    start = time.monotonic()
    context, job = attempt.context, attempt.job
    index = int(attempt.task.task.partition(":")[2])
    plan = planned_segment(attempt, index)
    if plan is None or job.plan is None:
        # Deleted between the lease and now; the lease goes with the job.
        attempt.check()
        raise JobMismatchError([f"segment {index} is not planned"])
    clock = StageClock()
    with attempt.folder() as folder, opened(attempt) as (blueprint, reader):
        attempt.on_stop(reader.close)
        path = folder / "segment.mp4"
        made = _make(attempt, blueprint, plan, path, reader=reader, clock=clock)
        attempt.check()
        store_start = time.monotonic()
        finished = _store(attempt, plan, made, start=start)
        store_seconds = time.monotonic() - store_start
    publish(attempt, finished)
    context.fleet.count_segment(
        blueprint.model.name,
        output_pixels=finished.output_pixels,
        num_frames=finished.num_frames,
        seconds=finished.seconds,
        stages={**{str(stage): took for stage, took in clock.seconds.items()}, "store": store_seconds},
    )


def _make(
    attempt: Attempt, blueprint: Blueprint, plan: SegmentPlan, path: Path, *, reader: Any, clock: StageClock
) -> MadeSegment:
    """Makes the file; the model goes on with smaller tiles where memory ends.

    Raises:
        OutOfMemoryError: If the smallest do not fit either.
        LostLeaseError: If another attempt has taken over, or the job ended.
        DrainedError: If the worker stops.
    """
    attempt.expect_frames(plan.num_frames)
    try:
        return make_segment(
            reader,
            blueprint.model,
            blueprint.run,
            plan,
            path,
            options=blueprint.options,
            memory_plan=smaller_tiles(attempt, blueprint.run.plan),
            on_frame=attempt.report_frames,
            should_stop=attempt.should_stop,
            clock=clock,
        )
    except SegmentStoppedError:
        attempt.check()
        raise


def smaller_tiles(attempt: Attempt, plan: ChunkPlan) -> ChunkPlan | None:
    """What the last attempt takes in place of a plan; None for all before it."""
    # Who dies each time may die of memory, without a word.
    is_last = attempt.number > 1 and attempt.number == attempt.context.settings.max_attempts
    return plan.smaller() if is_last else None


def _store(attempt: Attempt, plan: SegmentPlan, made: MadeSegment, *, start: float) -> FinishedSegment:
    """Uploads the file and its preview."""
    job_id, path = attempt.job.id, made.info.path
    boxes = index_segment(path).to_dict()
    finished = FinishedSegment(
        index=plan.index,
        key=objects.segment_key(job_id, plan.index, attempt.token),
        num_frames=made.info.num_frames,
        size_bytes=path.stat().st_size,
        seconds=0,
        output_pixels=made.info.num_frames * boxes["format"]["width"] * boxes["format"]["height"],
        boxes=boxes,
        preview_key=objects.preview_key(job_id, plan.index, attempt.token),
        warnings=tuple(without_paths(text) for text in made.warnings),
        findings=made.findings,
    )
    store_segment(attempt.context, finished, path, made.preview)
    return finished.model_copy(update={"seconds": time.monotonic() - start})


def store_segment(context: WorkerContext, finished: FinishedSegment, path: Path, preview: FramePair) -> None:
    """Uploads a segment's file, which is moved, and its preview; both or neither.

    Raises:
        StorageError: If the storage does not take them.
    """
    assert finished.preview_key is not None
    context.storage.put_file(finished.key, path, is_movable=True)
    try:
        context.storage.put_bytes(finished.preview_key, preview_jpeg(preview))
    except StorageError:
        context.storage.delete(finished.key)  # the next attempt has another key
        raise


def publish(attempt: Attempt, finished: FinishedSegment) -> None:
    """Makes the segment part of the result; removes what was uploaded if another attempt was faster."""
    context, job = attempt.context, attempt.job
    try:
        is_published = context.store.publish(
            job.id, finished, attempt.token, max_stored_bytes=job.spec.max_stored_bytes
        )
    except (LostLeaseError, QuotaExceededError):
        _remove(context, finished)
        raise
    if not is_published:
        _remove(context, finished)


def _remove(context: WorkerContext, finished: FinishedSegment) -> None:
    context.storage.delete(finished.key)
    if finished.preview_key is not None:
        context.storage.delete(finished.preview_key)


def preview_jpeg(pair: FramePair) -> bytes:
    """Source and result side by side."""
    source, result = pair.images()
    both = Image.new("RGB", (source.width + result.width, result.height))
    both.paste(source, (0, 0))
    both.paste(result, (source.width, 0))
    content = io.BytesIO()
    both.save(content, "JPEG", quality=_PREVIEW_QUALITY)
    return content.getvalue()
