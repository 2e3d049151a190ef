"""What all workers must agree on to make a job's segments: decided once, kept in its record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import objects
from jobs.records import JobPlan
from media import MediaInfo
from media.containers import check_output
from media.sandbox import SandboxedReader
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from workers.run.decisions import DecidedRun, decide_run
from workers.run.options import UpscaleOptions
from workers.segments.description import JobMismatchError, options_from_json, read_cutting, rebuild_run
from workers.segments.planning import SegmentPlan
from workers.tasks.attempts import Attempt
from workers.tasks.inputs import open_reader, upscale_options


@dataclass(frozen=True)
class Blueprint:
    """A job, ready to be worked on in this process.

    Attributes:
        info: The source.
        model: That makes its frames.
        options: Of the run.
        run: What it will do.
    """

    info: MediaInfo
    model: Model
    options: UpscaleOptions
    run: DecidedRun


@dataclass(frozen=True)
class Cutting:
    """What cutting a job into segments takes.

    Attributes:
        info: The source.
        options: Of the run.
        chunks: Of the run.
        frame_pixels: Of a frame of the result.
    """

    info: MediaInfo
    options: UpscaleOptions
    chunks: ChunkPlan
    frame_pixels: int

    @classmethod
    def of(cls, blueprint: Blueprint) -> Cutting:
        """Of a job that has just been decided."""
        encoding = blueprint.run.encoding
        frame_pixels = encoding.width * encoding.height
        return cls(blueprint.info, blueprint.options, blueprint.run.plan, frame_pixels)


def source_of(attempt: Attempt) -> MediaInfo:
    """What is known of a job's source, as its options have it read.

    Raises:
        MediaError: If it is no video.
        StorageError: If it cannot be had.
    """
    spec = attempt.job.spec
    with attempt.cancelling() as cancellation:
        return attempt.context.inputs.get(
            spec.input_key,
            info_key=objects.source_info_key(spec.id),
            video_stream=spec.options.video_stream,
            keep_gaps=spec.options.keep_gaps,
            cancellation=cancellation,
        )


def read_description(attempt: Attempt, plan: JobPlan) -> dict[str, Any]:
    """What `workers.segments.description.describe_run` has said of the job.

    Raises:
        StorageError: If it cannot be had.
    """
    assert plan.description_key is not None  # of a completed job only
    found: dict[str, Any] = json.loads(attempt.context.storage.get_bytes(plan.description_key))
    return found


def planned_segment(attempt: Attempt, index: int) -> SegmentPlan | None:
    """A segment of the job's plan, -1 for the last so far; None if it is not planned, or the job is gone.

    Raises:
        JobMismatchError: If another version has planned it.
    """
    found = attempt.context.store.planned_segment(attempt.job.id, index)
    try:
        return None if found is None else SegmentPlan.model_validate_json(found)
    except ValidationError as error:
        raise JobMismatchError(["the job was planned by another version"]) from error


@contextmanager
def opened(attempt: Attempt) -> Iterator[tuple[Blueprint, SandboxedReader]]:
    """The job as its record says, or decided now if no one has, and a reader for it.

    Raises:
        MediaError: If the source cannot be read or the result not be encoded.
        PipelineError: If the model cannot do it.
        JobMismatchError: If this worker would decide otherwise.
        StorageError: If the source cannot be had.
    """
    context, job, plan = attempt.context, attempt.job, attempt.job.plan
    info = source_of(attempt)
    model = context.models.get(plan.model if plan else job.spec.options.model)
    if plan is None and job.num_segments:
        raise JobMismatchError(["the job was planned by an older version"])
    description = None if plan is None else read_description(attempt, plan)
    if description is None:
        options = upscale_options(job.spec.options, segment_seconds=context.settings.segment_seconds)
    else:
        options = options_from_json(description["options"])
    with open_reader(info, options, settings=context.settings, sandbox=context.sandbox) as reader:
        if description is None:
            run = decide_run(info, reader, model=model, options=options)
            check_output(Path(f"output.{job.spec.options.container}"), run.encoding.codec)
        else:
            options, run = rebuild_run(description, info, reader, model=model)
        yield Blueprint(info, model, options, run), reader


@contextmanager
def opened_for_cutting(attempt: Attempt, plan: JobPlan) -> Iterator[tuple[Cutting, SandboxedReader]]:
    """A job that was decided, and a reader for it. Loads no model, and tries no encoder.

    Raises:
        MediaError: If the source cannot be read.
        JobMismatchError: If another version has decided it.
        StorageError: If the source cannot be had.
    """
    info, context = source_of(attempt), attempt.context
    options, chunks = read_cutting(read_description(attempt, plan))
    with open_reader(info, options, settings=context.settings, sandbox=context.sandbox) as reader:
        yield Cutting(info, options, chunks, plan.width * plan.height), reader
