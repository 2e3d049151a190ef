"""Works out what a job would take: the planner's arithmetic, and speeds that workers have measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobs.fleet import ModelInfo, count_takers
from jobs.options import JobOptions, picture_kind
from jobs.queue import SEGMENT
from jobs.records import Job
from jobs.specs import PRIORITIES, InputInfo, Priority
from pipelines.errors import OutOfMemoryError, PipelineError
from pipelines.planning.kinds import plan_chunks, shape_from_json
from pipelines.planning.plan import ChunkPlan, ChunkRequest
from service.auth import Caller
from service.context import ServiceContext
from service.errors import InvalidRequestError
from service.estimates.schemas import EstimateInput, EstimateSchema, OutputSize, TilesSchema
from service.jobs.checks import check_range, decide_container, find_model
from service.jobs.sizes import output_frames, output_size
from service.models.catalogue import known_models

# As the workers' planner assumes where a source does not tell its length; longer than any chunk.
_UNKNOWN_FRAMES = 1000
# Of more unfinished jobs only so many are looked at, and the rest is taken to be like them.
_MAX_SAMPLE = 200


@dataclass(frozen=True)
class _PlanEstimate:
    """What the planner says.

    Attributes:
        tiles: None without a plan.
        memory_bytes: None where the model has no network.
        problem: Why there is no plan; "" if all is well.
    """

    tiles: TilesSchema | None
    memory_bytes: int | None
    problem: str = ""


def estimate(
    context: ServiceContext, caller: Caller, found: InputInfo, options: JobOptions, priority: Priority
) -> EstimateSchema:
    """What a job would take. Blocking: asks Redis.

    Raises:
        InvalidRequestError: If the model does not exist or the options are impossible for this input.
    """
    model = find_model(context, options.model)
    options, found = decide_container(options, found)
    check_range(options, found)
    width, height = output_size(options, found, model)
    frames = output_frames(options, found)
    pixels = None if frames is None else width * height * frames
    planned = _plan(model, found, frames or _UNKNOWN_FRAMES, (width, height))
    speeds, num_workers = context.fleet.speeds(), _count_workers(context)
    warnings = [planned.problem] if planned.problem else []
    if not model.is_measured:
        warnings.append("no worker has loaded the model yet, so the memory it takes is not known")
    if num_workers == 0:
        warnings.append("no worker that makes segments is alive; jobs wait until one starts")
    if frames is None:
        warnings.append("the source does not tell its length")
    limit = caller.limits.max_output_pixels
    is_allowed = not limit or pixels is None or pixels <= limit
    if not is_allowed:
        warnings.append(f"your key allows {limit / 1e9:.2f} gigapixels in one result")
    speed = speeds.get(model.name)
    return EstimateSchema(
        frames=frames,
        output=OutputSize(width=width, height=height),
        megapixels=None if pixels is None else round(pixels / 1e6, 3),
        tiles=planned.tiles,
        memory_bytes=planned.memory_bytes,
        seconds=_work_seconds(context, found, frames, pixels, speed, num_workers),
        queue_seconds=_queue_seconds(context, priority, speeds, num_workers),
        fits=is_allowed and not planned.problem,
        warnings=warnings,
    )


def describe_unseen(given: EstimateInput, options: JobOptions) -> InputInfo:
    """Measures that a customer gave, in the place of a probe's; of a still where a picture is asked for."""
    duration = given.duration_seconds
    if duration is None and given.num_frames is not None:
        duration = given.num_frames / given.frame_rate
    return InputInfo(
        filename="video",
        size_bytes=0,
        format_name="",
        codec="",
        width=given.width,
        height=given.height,
        frame_rate=given.frame_rate,
        duration_seconds=duration,
        num_frames=given.num_frames,
        picture=picture_kind(options.container),
    )


def _plan(model: ModelInfo, found: InputInfo, num_frames: int, out: tuple[int, int]) -> _PlanEstimate:
    if not model.is_measured:
        return _PlanEstimate(None, None)
    try:
        request = ChunkRequest(
            num_frames=num_frames,
            height=found.height,
            width=found.width,
            out_height=out[1],
            out_width=out[0],
            memory_bytes=model.memory_bytes,
        )
        plan = plan_chunks(shape_from_json(model.shape), request)
    except OutOfMemoryError as error:
        return _PlanEstimate(None, error.required_bytes, str(error))
    except PipelineError as error:
        raise InvalidRequestError(str(error)) from error
    return _PlanEstimate(_describe_tiles(plan, num_frames), plan.estimated_bytes)


def _describe_tiles(plan: ChunkPlan, num_frames: int) -> TilesSchema:
    layout = plan.layout()
    return TilesSchema(
        rows=layout.rows,
        cols=layout.cols,
        tile_width=layout.width,
        tile_height=layout.height,
        chunk_frames=min(plan.chunk_len or num_frames, num_frames),
    )


def _count_workers(context: ServiceContext) -> int:
    return count_takers(context.fleet.workers())[SEGMENT]


def _work_seconds(
    context: ServiceContext,
    found: InputInfo,
    frames: int | None,
    pixels: int | None,
    speed: float | None,
    num_workers: int,
) -> float | None:
    """Seconds of upscaling. Workers share a job by its segments, so a short one keeps few of them busy."""
    if not speed or not num_workers or frames is None or pixels is None:
        return None
    num_segments = math.ceil(frames / found.frame_rate / context.settings.segment_seconds)
    return round(pixels / 1e6 / speed / min(num_workers, max(1, num_segments)), 1)


def _queue_seconds(
    context: ServiceContext, priority: Priority, speeds: dict[str, float], num_workers: int
) -> float | None:
    """Seconds of work that is there already; None if a model in it was never measured, or a source is
    still being fetched."""
    store = context.store
    ids = store.active_ids()
    if not ids:
        return 0.0
    if not num_workers:
        return None
    models = {model.name: model for model in known_models(context)}
    total = 0.0
    sample = store.get_many(ids[:_MAX_SAMPLE])
    for job in sample:
        if PRIORITIES.index(job.spec.priority) <= PRIORITIES.index(priority):
            seconds = _seconds_left(job, models, speeds)
            if seconds is None:
                return None
            total += seconds
    return round(total * len(ids) / max(1, len(sample)) / num_workers, 1)


def _seconds_left(job: Job, models: dict[str, ModelInfo], speeds: dict[str, float]) -> float | None:
    """Of one worker."""
    name, found = job.spec.options.model or "", job.spec.input
    if name not in models or not speeds.get(name) or found is None:
        return None
    frames = job.total_frames or output_frames(job.spec.options, found) or 0
    width, height = output_size(job.spec.options, found, models[name])
    return max(0, frames - job.processed_frames) * width * height / 1e6 / speeds[name]
