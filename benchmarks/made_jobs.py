"""Jobs of files that are nowhere: to be listed, polled and counted, and never made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from jobs.objects import input_key
from jobs.options import JobOptions
from jobs.records import InputInfo, JobSpec, new_id

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
        input_key=input_key(job_id),
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
