"""The plan task: finds a job's segments, a slice at a time, and has them made while it looks for more."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog

from jobs import objects
from jobs.errors import QuotaExceededError
from jobs.queue import PLAN
from jobs.records import Job, JobPlan, Streaming, StreamSound
from media import MediaError
from media.encoding import decided_crf
from media.growing import SegmentIndex
from media.sandbox import SandboxedReader, SandboxLimits
from workers.run.decisions import expected_warnings, source_warnings
from workers.segments.description import describe_run
from workers.segments.planning import SegmentPlan, plan_source
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import Blueprint, Cutting, opened, opened_for_cutting, planned_segment
from workers.tasks.context import WorkerContext
from workers.tasks.running import enqueue_next
from workers.tasks.sound import extract

_log: Any = structlog.get_logger(__name__)

# Planning reads as fast as the decoder goes, so a slice of so many seconds is minutes of video. Where one
# worker does everything, its first segment waits for this.
SLICE_SECONDS = 10.0
_SOUND_SECONDS = 3600.0
_GIB = 1 << 30
# Sound that is encoded anew may be larger than it was.
_MAX_SOUND_GROWTH = 4


def plan(attempt: Attempt) -> None:
    """Decides what is made of the job, if nobody has, and cuts it into segments.

    Who takes no such tasks decides only, and leaves the rest to those who do: it takes no model.
    """
    start = time.monotonic()
    if attempt.job.plan is not None:
        with opened_for_cutting(attempt, attempt.job.plan) as (cutting, reader):
            _cut(attempt, cutting, reader, start=start)
        return
    with opened(attempt) as (blueprint, reader):
        _describe(attempt, blueprint)
        if PLAN in attempt.context.settings.only:
            _cut(attempt, Cutting.of(blueprint), reader, start=start)


def _cut(attempt: Attempt, cutting: Cutting, reader: SandboxedReader, *, start: float) -> None:
    """Plans segments until enough lie ahead of what is being made, or the slice is over."""
    attempt.on_stop(reader.close)
    context, job = attempt.context, attempt.job
    last = planned_segment(attempt, -1)
    state = None if last is None else last.next_state
    needs_stream = job.streaming is None
    for segment in plan_source(reader, cutting.chunks, options=cutting.options, resume=state):
        # Before it is believed: a reader that was closed ends like a source that ends.
        attempt.check()
        if needs_stream and segment.is_last:  # nobody comes back after it to do it
            needs_stream = False
            _prepare_stream(attempt, cutting)
        check_pixels(job, cutting.frame_pixels, segment.end_frame)
        _append(attempt, segment)
        enqueue_next(context, job.spec)  # other workers may be idle
        if needs_stream:
            needs_stream = False
            _prepare_stream(attempt, cutting)
        if segment.is_last or context.stopping.is_draining:
            break
        if time.monotonic() - start > SLICE_SECONDS or _is_ahead(context, job.id):
            break
    attempt.check()
    attempt.add_warnings([*source_warnings(cutting.info, cutting.options), *reader.warnings])


def _describe(attempt: Attempt, blueprint: Blueprint) -> None:
    job = attempt.job
    run, encode, encoding = blueprint.run, blueprint.options.encode, blueprint.run.encoding
    description_key = objects.description_key(job.id, attempt.token)
    plan = JobPlan(
        model=blueprint.model.name,
        width=encoding.width,
        height=encoding.height,
        codec=encoding.codec,
        encoder=encoding.encoder,
        pix_fmt=encoding.pix_fmt,
        crf=decided_crf(encode, encoding),
        preset=encode.preset or encoding.private_options.get("preset"),
        description_key=description_key,
    )
    description = describe_run(run, options=blueprint.options, model=blueprint.model)
    attempt.context.storage.put_bytes(description_key, json.dumps(description).encode())
    fields: dict[str, Any] = {"run": plan.model_dump(mode="json")}
    if run.num_frames is not None:
        fields["total_frames"] = run.num_frames
    destination = Path(f"output.{job.spec.options.container}")
    said = source_warnings(blueprint.info, blueprint.options)
    fields["warnings"] = [*said, *expected_warnings(run, destination)]
    attempt.set_fields(**fields)


def check_pixels(job: Job, frame_pixels: int, num_frames: int) -> None:
    """Holds the job to its key's limit: what the API knew of the source was an estimate, or nothing.

    Raises:
        QuotaExceededError: If the result has more pixels than the key allows.
    """
    limit = job.spec.max_output_pixels
    pixels = num_frames * frame_pixels
    if limit and pixels > limit:
        raise QuotaExceededError(
            f"the result has at least {num_frames} frames and {pixels / 1e9:.2f} gigapixels, your key allows "
            f"{limit / 1e9:.2f}; choose a smaller scale or a part of the video"
        )


def _append(attempt: Attempt, segment: SegmentPlan) -> None:
    attempt.context.store.append_plan(
        attempt.job.id,
        attempt.token,
        first_index=segment.index,
        segments=[segment.model_dump_json()],
        is_complete=segment.is_last,
        total_frames=segment.end_frame if segment.is_last else None,
    )
    _log.info("plan.appended", index=segment.index, num_frames=segment.num_frames)


def _is_ahead(context: WorkerContext, job_id: str) -> bool:
    """Whether twice as many segments are planned as may be in the queue, besides those that are there."""
    job = context.store.get(job_id)
    return job.num_segments - job.num_finished_segments >= 3 * context.window


def _prepare_stream(attempt: Attempt, cutting: Cutting) -> None:
    """Writes down what the growing stream needs, and stores its sound. A stream without sound is better than
    no job, so what goes wrong with the sound alone is a warning; the join reads it once more."""
    sound = None
    try:
        sound = _store_sound(attempt, cutting)
    except MediaError as error:
        attempt.add_warnings([f"the stream has no sound while the job runs: {error}"])
    attempt.set_fields(stream=Streaming(sound=sound).model_dump(mode="json"))


def _store_sound(attempt: Attempt, cutting: Cutting) -> StreamSound | None:
    context, job_id = attempt.context, attempt.job.id
    info, options = cutting.info, cutting.options
    if not info.audio:
        return None
    with attempt.folder() as folder, attempt.cancelling() as cancellation:
        path = (folder / "audio.mp4").absolute()
        index: dict[str, Any] | None = context.sandbox.call(
            extract,
            info,
            path,
            options.start_seconds,
            options.duration_seconds,
            timeout=_SOUND_SECONDS,
            limits=SandboxLimits(
                memory_bytes=context.settings.decode_memory_bytes,
                cpu_seconds=round(_SOUND_SECONDS),
                file_bytes=_GIB + _MAX_SOUND_GROWTH * info.size_bytes,
            ),
            readable=[info.path],
            writable=[folder],
            cancellation=cancellation,
        )
        if index is None:
            return None
        sound = StreamSound(
            key=objects.audio_key(job_id, attempt.token),
            size_bytes=SegmentIndex.from_dict(index).end_offset,
            index_key=objects.sound_index_key(job_id, attempt.token),
        )
        context.storage.put_file(sound.key, path, is_movable=True)
        context.storage.put_bytes(sound.index_key, json.dumps(index).encode())
    return sound
