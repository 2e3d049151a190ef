"""Jobs of files that are nowhere: to be listed, polled and counted, and never made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from jobs import objects
from jobs.options import JobOptions
from jobs.records import FinishedSegment, JobPlan, OutputInfo, Streaming, StreamSound
from jobs.specs import InputInfo, JobSpec, new_id
from jobs.store import JobStore

FRAME_RATE = 25


def made_spec(
    owner: str, *, labels: Mapping[str, str] | None = None, model: str = "bicubic", seconds: float = 10.0
) -> JobSpec:
    """What somebody might have submitted.

    Args:
        owner: Whose.
        labels: Of the job.
        model: To make it with.
        seconds: Length of the video.
    """
    job_id = new_id("job")
    return JobSpec(
        id=job_id,
        owner=owner,
        created_at=datetime.now(UTC),
        input_key=objects.input_key(job_id),
        input=InputInfo(
            filename="clip.mp4",
            size_bytes=1000,
            format_name="mov,mp4",
            codec="h264",
            width=320,
            height=180,
            frame_rate=FRAME_RATE,
            duration_seconds=seconds,
            num_frames=int(seconds * FRAME_RATE),
            has_audio=True,
        ),
        options=JobOptions(model=model),
        labels=dict(labels or {}),
    )


def complete_made_job(store: JobStore, spec: JobSpec, *, kept: timedelta) -> None:
    """Takes a job of one segment through the store to its end, as API and workers do, without files."""
    store.create(spec, max_waiting=1)
    token, job_id = uuid4().hex, spec.id
    assert spec.input is not None
    frames, width, height = spec.input.num_frames or 1, spec.input.width, spec.input.height

    def begin(task: str) -> None:
        store.begin(job_id, task, token, ttl=kept, max_attempts=1, worker="made", num_workers=1)

    def end(task: str) -> None:
        store.end(job_id, task, token, "finished", worker="made", cancelled_ttl=kept)

    begin("plan")
    run = JobPlan(
        model=spec.options.model or "bicubic", codec="h264", encoder="libx264", pix_fmt="yuv420p", crf=18,
        preset="veryfast", description_key=objects.description_key(job_id, token), width=width, height=height,
    )  # fmt: skip
    sound = StreamSound(
        key=objects.audio_key(job_id, token), size_bytes=100_000,
        index_key=objects.sound_index_key(job_id, token),
    )  # fmt: skip
    streaming = Streaming(sound=sound)
    store.set_fields(job_id, "plan", token, run=run.model_dump(), stream=streaming.model_dump())
    store.append_plan(job_id, token, first_index=0, segments=["{}"], is_complete=True, total_frames=frames)
    end("plan")
    store.advance(job_id, window=1)

    begin("segment:0")
    made = FinishedSegment(
        index=0, key=objects.segment_key(job_id, 0, token), num_frames=frames, size_bytes=1000, seconds=1,
        output_pixels=1, preview_key=objects.preview_key(job_id, 0, token),
    )  # fmt: skip
    store.publish(job_id, made, token)
    end("segment:0")

    begin("join")
    output = OutputInfo(
        job_id=job_id, container=spec.options.container, num_segments=1, num_frames=frames,
        duration_seconds=frames / FRAME_RATE, size_bytes=1000, sha256=64 * "0", token=objects.short(token),
        preview_token=objects.short(token), width=width, height=height,
    )  # fmt: skip
    store.complete(job_id, token, output, ttl=kept)
