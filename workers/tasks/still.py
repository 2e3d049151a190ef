"""The three tasks of a job of a still: its one segment is the picture, and the result a copy of it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from fractions import Fraction

from torch import Tensor

from jobs import objects
from jobs.records import FinishedSegment, JobPlan
from media import JoinReport
from media.stills import Picture, write_picture
from pipelines.model import Model
from workers.run.options import UpscaleOptions
from workers.run.still import DecidedStill, decide_still, restore_still
from workers.run.timing import StageClock
from workers.segments.description import JobMismatchError
from workers.segments.planning import SegmentPlan
from workers.segments.preview import FramePair, make_still_pair
from workers.segments.stills import describe_still, rebuild_still
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import read_description, source_of
from workers.tasks.failures import without_paths
from workers.tasks.inputs import read_still, upscale_options
from workers.tasks.join import complete
from workers.tasks.plan import check_pixels
from workers.tasks.segment import publish, smaller_tiles, store_segment

_ONLY_SEGMENT = SegmentPlan(
    index=0, start=None, first_frame=0, end_frame=1, first_pts=0, end_pts=1, read_stop=1, next_start=None
)


def plan_still(attempt: Attempt) -> None:
    """Decides size and tiles, if nobody has, and plans the one segment: there is nothing to look for."""
    context, job = attempt.context, attempt.job
    if job.plan is None:
        model = context.models.get(job.spec.options.model)
        options = upscale_options(job.spec.options, segment_seconds=context.settings.segment_seconds)
        picture = _read(attempt)
        decided = decide_still(picture, model=model, options=options)
        check_pixels(job, decided.width * decided.height, 1)
        _describe(attempt, decided, options=options, model=model)
    context.store.append_plan(
        job.id,
        attempt.token,
        first_index=0,
        segments=[_ONLY_SEGMENT.model_dump_json()],
        is_complete=True,
        total_frames=1,
    )


def segment_still(attempt: Attempt) -> None:
    """Makes and publishes the picture, with the bytes that `dovetail upscale` writes."""
    start = time.monotonic()
    context, job = attempt.context, attempt.job
    if job.plan is None:
        attempt.check()  # deleted between the lease and now; the lease goes with the job
        raise JobMismatchError(["the picture is not planned"])
    plan, clock = job.plan, StageClock()
    model = context.models.get(plan.model)
    options, tiles = rebuild_still(read_description(attempt, plan), model=model)
    attempt.expect_frames(1)
    with clock.measure("read"):
        picture = _read(attempt)
    attempt.check()
    with clock.measure("model"):
        tiles = smaller_tiles(attempt, tiles) or tiles
        restored = restore_still(picture, (plan.height, plan.width), tiles, model=model, seed=options.seed)
    attempt.check()
    with attempt.folder() as folder:
        path = folder / f"picture.{job.spec.options.container}"
        with clock.measure("write"):
            warnings = write_picture(restored, path)
        attempt.report_frames(1)
        finished = FinishedSegment(
            index=0,
            key=objects.segment_key(job.id, 0, attempt.token, job.spec.options.container),
            num_frames=1,
            size_bytes=path.stat().st_size,
            seconds=time.monotonic() - start,
            output_pixels=plan.width * plan.height,
            preview_key=objects.preview_key(job.id, 0, attempt.token),
            warnings=tuple(without_paths(text) for text in warnings),
            findings=dict(model.findings),
        )
        store_segment(context, finished, path, _pair(picture, restored))
    publish(attempt, finished)
    context.fleet.count_segment(
        model.name,
        output_pixels=finished.output_pixels,
        num_frames=1,
        seconds=finished.seconds,
        stages={str(stage): took for stage, took in clock.seconds.items()},
    )


def join_still(attempt: Attempt) -> None:
    """Makes the picture the result and completes the job."""
    start = time.monotonic()
    context, job = attempt.context, attempt.job
    assert job.plan is not None
    description = read_description(attempt, job.plan)
    segments = context.store.finished_segments(job.id)
    # What a film would lose of its streams is none of a still's.
    info = replace(source_of(attempt), warnings=())
    with (
        attempt.folder() as folder,
        context.storage.local_file(segments[0].key, work_dir=folder) as picture,
    ):
        output = folder / f"output.{job.spec.options.container}"
        shutil.copyfile(picture, output)
        joined = JoinReport(output, (), (), 1, Fraction(0), output.stat().st_size)
        attempt.check()
        complete(attempt, description, segments, info, joined, start=start)


def _describe(attempt: Attempt, decided: DecidedStill, *, options: UpscaleOptions, model: Model) -> None:
    job = attempt.job
    description_key = objects.description_key(job.id, attempt.token)
    plan = JobPlan(
        model=model.name,
        width=decided.width,
        height=decided.height,
        codec=job.spec.options.container,
        description_key=description_key,
    )
    description = describe_still(decided, options=options, model=model)
    attempt.context.storage.put_bytes(description_key, json.dumps(description).encode())
    attempt.set_fields(run=plan.model_dump(mode="json"), warnings=list(decided.warnings))


def _read(attempt: Attempt) -> Picture:
    info = source_of(attempt)
    context = attempt.context
    with attempt.cancelling() as cancellation:
        return read_still(info, settings=context.settings, sandbox=context.sandbox, cancellation=cancellation)


def _pair(picture: Picture, restored: Picture) -> FramePair:
    """Before and after, on white: a page shows them as JPEG."""
    return make_still_pair(*(_on_white(side) for side in (picture, restored)))


def _on_white(picture: Picture) -> Tensor:
    return picture.image if picture.alpha is None else picture.image * picture.alpha + (1 - picture.alpha)
