"""Job records made on the spot, and the steps that workers take with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.api_keys import KeyLimits
from jobs.batch_records import BatchInput, BatchSpec
from jobs.batch_store import BatchStore
from jobs.options import JobOptions
from jobs.records import FinishedSegment, Job, JobPlan, OutputInfo
from jobs.specs import InputInfo, JobSpec, Priority, WebhookTarget, new_id
from jobs.store import Beginning, JobStore

MINUTE = timedelta(minutes=1)
INPUT = InputInfo(
    filename="clip.mp4",
    size_bytes=1000,
    format_name="mp4",
    codec="h264",
    width=64,
    height=48,
    frame_rate=25,
    num_frames=100,
)


def make_spec(
    *,
    owner: str = "local",
    priority: Priority = Priority.NORMAL,
    model: str | None = None,
    labels: Mapping[str, str] | None = None,
    batch_id: str | None = None,
    input_key: str | None = None,
    webhook: WebhookTarget | None = None,
    deliver_to: str | None = None,
) -> JobSpec:
    job_id = new_id("job")
    return JobSpec(
        id=job_id,
        owner=owner,
        created_at=datetime.now(UTC),
        input_key=input_key or f"jobs/{job_id}/input",
        input=INPUT,
        options=JobOptions(model=model),
        priority=priority,
        labels=dict(labels or {}),
        batch_id=batch_id,
        webhook=webhook,
        deliver_to=deliver_to,
    )


def create(store: JobStore, **values: Any) -> Job:
    upload_id = (values.get("input_key") or "").partition("uploads/")[2]
    if upload_id:
        store.client.hset(f"dv:upload:{upload_id}", "owner", "local")
    return store.create(make_spec(**values), max_waiting=1000)


def begin(store: JobStore, job_id: str, task: str, token: str = "token", **changes: Any) -> Beginning:
    values = {"ttl": MINUTE, "max_attempts": 4, "worker": "worker-1", "num_workers": 1}
    return store.begin(job_id, task, token, **(values | changes))  # type: ignore[arg-type]


def end(store: JobStore, job_id: str, task: str, reason: Any, token: str = "token") -> None:
    store.end(job_id, task, token, reason, worker="worker-1", cancelled_ttl=MINUTE)


def planned(index: int) -> str:
    return json.dumps({"number": index})


def append(
    store: JobStore,
    job_id: str,
    indices: range,
    *,
    is_complete: bool = True,
    token: str = "token",
) -> None:
    store.append_plan(
        job_id,
        token,
        first_index=indices.start,
        segments=[planned(index) for index in indices],
        is_complete=is_complete,
        total_frames=indices.stop * 10 if is_complete else None,
    )


def plan(store: JobStore, job_id: str, num_segments: int, *, is_complete: bool = True) -> None:
    """One slice of planning, from the beginning."""
    assert begin(store, job_id, "plan").outcome == "ok"
    append(store, job_id, range(num_segments), is_complete=is_complete)
    end(store, job_id, "plan", "finished")


def finished(index: int, token: str = "token", num_frames: int = 10) -> FinishedSegment:
    return FinishedSegment(
        index=index,
        key=f"{index}-{token}",
        num_frames=num_frames,
        size_bytes=100,
        seconds=1.5,
        output_pixels=1000,
    )


def make_segment(store: JobStore, job_id: str, index: int, token: str = "token") -> None:
    """What a worker does for a segment, from the lease to its end."""
    assert begin(store, job_id, f"segment:{index}", token).outcome == "ok"
    assert store.publish(job_id, finished(index, token), token)
    end(store, job_id, f"segment:{index}", "finished", token)


PLAN = JobPlan(
    model="bicubic", width=256, height=192, codec="h264", encoder="libx264", pix_fmt="yuv420p", crf=18,
    preset="medium",
)  # fmt: skip


def output(job_id: str) -> OutputInfo:
    return OutputInfo(
        job_id=job_id,
        container="mp4",
        num_segments=2,
        width=256,
        height=192,
        num_frames=20,
        duration_seconds=0.8,
        size_bytes=1000,
        sha256="00",
        token="1",
        preview_token="2",
    )


def complete(store: JobStore, job_id: str, *, ttl: timedelta = MINUTE) -> None:
    """The whole way of a job."""
    plan(store, job_id, 2)
    for index in store.advance(job_id, window=2).segments:
        make_segment(store, job_id, index)
    assert begin(store, job_id, "join").outcome == "ok"
    store.complete(job_id, "token", output(job_id), ttl=ttl)


def make_batch(store: JobStore, *, num_files: int, owner: str = "local") -> tuple[str, list[str]]:
    """A batch of files that nobody has made jobs of; returns its id and those that the jobs will have."""
    now = datetime.now(UTC)
    spec = BatchSpec(
        id=new_id("batch"), owner=owner, limits=KeyLimits(), created_at=now, num_inputs=num_files
    )
    inputs = [
        BatchInput(index=index, job_id=new_id("job"), source=None, form={}) for index in range(num_files)
    ]
    BatchStore(store.client).create(spec, inputs, [], active_until=now + timedelta(days=1))
    return spec.id, [item.job_id for item in inputs]
