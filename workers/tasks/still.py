"""The three tasks of a job of a still: its one segment is the picture, and the result a copy of it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from fractions import Fraction

from torch import Tensor

from jobs import objects
from jobs.records import FinishedSegment, JobPlan, PlannedSegment
from jobs.records import Job as JobRecord
from media import JoinReport
from media.stills import Picture, write_picture
from pipelines.model import Model
from workers.run.options import UpscaleOptions
from workers.run.still import DecidedStill, decide_still, restore_still
from workers.run.timing import StageClock
from workers.segments.description import JobMismatchError
from workers.segments.preview import FramePair, make_still_pair
from workers.segments.stills import describe_still, rebuild_still
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import read_description, source_of
from workers.tasks.context import WorkerContext
from workers.tasks.failures import without_paths
from workers.tasks.inputs import read_still, upscale_options
from workers.tasks.join import complete
from workers.tasks.plan import check_pixels
from workers.tasks.segment import publish, smaller_tiles, store_segment


def plan_still(context: WorkerContext, attempt: Attempt, record: JobRecord) -> None:
    """Decides size and tiles, if nobody has, and plans the one segment: there is nothing to look for."""
    if record.plan is None:
        model = context.models.get(record.spec.options.model)
        options = upscale_options(record.spec.options, segment_seconds=context.settings.segment_seconds)
        picture = _read(context, attempt, record)
        decided = decide_still(picture, model=model, options=options)
        check_pixels(record, decided.width * decided.height, 1)
        _describe(context, attempt, record, decided, options=options, model=model)
    context.store.append_plan(
        record.id,
        attempt.token,
        first_index=0,
        segments=[PlannedSegment(index=0, num_frames=1, first_pts=0, end_pts=1, detail={})],
        state={},
        is_complete=True,
        total_frames=1,
    )


def segment_still(context: WorkerContext, attempt: Attempt, record: JobRecord) -> None:
    """Makes and publishes the picture, with the bytes that `dovetail upscale` writes."""
    start = time.monotonic()
    if record.plan is None:
        attempt.check()  # deleted between the lease and now; the lease goes with the job
        raise JobMismatchError(["the picture is not planned"])
    plan, clock = record.plan, StageClock()
    model = context.models.get(plan.model)
    options, tiles = rebuild_still(read_description(context, plan), model=model)
    attempt.expect_frames(1)
    with clock.measure("read"):
        picture = _read(context, attempt, record)
    attempt.check()
    with clock.measure("model"):
        tiles = smaller_tiles(context, attempt, tiles) or tiles
        restored = restore_still(picture, (plan.height, plan.width), tiles, model=model, seed=options.seed)
    attempt.check()
    with attempt.folder() as folder:
        path = folder / f"picture.{record.spec.options.container}"
        with clock.measure("write"):
            warnings = write_picture(restored, path)
        attempt.report_frames(1)
        finished = FinishedSegment(
            index=0,
            key=objects.segment_key(record.id, 0, attempt.token, record.spec.options.container),
            num_frames=1,
            size_bytes=path.stat().st_size,
            seconds=time.monotonic() - start,
            output_pixels=plan.width * plan.height,
            preview_key=objects.preview_key(record.id, 0, attempt.token),
            warnings=tuple(without_paths(text) for text in warnings),
            findings=dict(model.findings),
        )
        store_segment(context, finished, path, _pair(picture, restored))
    publish(context, attempt, record, finished)
    context.fleet.count_segment(
        record,
        model.name,
        output_pixels=finished.output_pixels,
        num_frames=1,
        seconds=finished.seconds,
        stages={str(stage): took for stage, took in clock.seconds.items()},
    )


def join_still(context: WorkerContext, attempt: Attempt, record: JobRecord) -> None:
    """Makes the picture the result and completes the job."""
    start = time.monotonic()
    assert record.plan is not None
    description = read_description(context, record.plan)
    segments = context.store.finished_segments(record.id)
    # What a film would lose of its streams is none of a still's.
    info = replace(source_of(context, attempt, record), warnings=())
    with (
        attempt.folder() as folder,
        context.storage.local_file(segments[0].key, work_dir=folder) as picture,
    ):
        output = folder / f"output.{record.spec.options.container}"
        shutil.copyfile(picture, output)
        joined = JoinReport(output, (), (), 1, Fraction(0), output.stat().st_size)
        attempt.check()
        complete(context, attempt, record, description, segments, info, joined, start=start)


def _describe(
    context: WorkerContext,
    attempt: Attempt,
    record: JobRecord,
    decided: DecidedStill,
    *,
    options: UpscaleOptions,
    model: Model,
) -> None:
    description_key = objects.description_key(record.id, attempt.token)
    plan = JobPlan(
        model=model.name,
        width=decided.width,
        height=decided.height,
        codec=record.spec.options.container,
        description_key=description_key,
    )
    description = describe_still(decided, options=options, model=model)
    context.storage.put_bytes(description_key, json.dumps(description).encode())
    context.store.set_fields(
        record.id, "plan", attempt.token, run=plan.model_dump(mode="json"), warnings=list(decided.warnings)
    )


def _read(context: WorkerContext, attempt: Attempt, record: JobRecord) -> Picture:
    info = source_of(context, attempt, record)
    with attempt.cancelling() as cancellation:
        return read_still(info, settings=context.settings, sandbox=context.sandbox, cancellation=cancellation)


def _pair(picture: Picture, restored: Picture) -> FramePair:
    """Before and after, on white: a page shows them as JPEG."""
    return make_still_pair(*(_on_white(side) for side in (picture, restored)))


def _on_white(picture: Picture) -> Tensor:
    return picture.image if picture.alpha is None else picture.image * picture.alpha + (1 - picture.alpha)
