"""Jobs in any state without a worker: the tests do a worker's part by hand, with real files."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from jobs import objects
from jobs.options import JobOptions
from jobs.records import FinishedSegment, Job, JobError, OutputInfo, Streaming, StreamSound
from jobs.segment_list import SegmentList
from jobs.specs import InputInfo, JobSpec, Priority, new_id
from service.context import ServiceContext
from tests.media.test_growing_stream import Growing

TTL = timedelta(hours=1)
TOKEN = "0123456789abcdef"

INPUT = InputInfo(
    filename="holiday.mov",
    size_bytes=1000,
    format_name="mov,mp4,m4a,3gp,3g2,mj2",
    codec="h264",
    width=64,
    height=48,
    frame_rate=25.0,
    duration_seconds=0.48,
    num_frames=12,
)


def make_job(
    context: ServiceContext,
    *,
    owner: str = "local",
    source: bytes = b"",
    found: InputInfo = INPUT,
    **values: Any,
) -> Job:
    """A queued job that no worker hears of."""
    job_id = new_id("job")
    key = objects.input_key(job_id)
    context.storage.put_bytes(key, source)
    spec = JobSpec(
        id=job_id,
        owner=owner,
        created_at=datetime.now(UTC),
        input_key=key,
        input=found.model_copy(update={"size_bytes": len(source)}),
        **{"options": JobOptions(model="bicubic"), **values},
    )
    return context.store.create(spec, max_waiting=1_000_000)


def begin(context: ServiceContext, job_id: str, task: str = "plan", token: str = TOKEN) -> None:
    """Takes a task's lease."""
    beginning = context.store.begin(
        job_id, task, token, ttl=TTL, max_attempts=4, worker="by hand", num_workers=1
    )
    assert beginning.outcome == "ok", beginning


def end(context: ServiceContext, job_id: str, task: str, token: str = TOKEN) -> None:
    """Gives it back."""
    context.store.end(job_id, task, token, "finished", worker="by hand", cancelled_ttl=TTL)


def fail(context: ServiceContext, job_id: str) -> None:
    """Ends a job with an error."""
    context.store.fail(job_id, JobError(code="no_frames", message="there was nothing to see"), ttl=TTL)


def complete(context: ServiceContext, job_id: str, content: bytes) -> None:
    """Completes a job with a result."""
    begin(context, job_id, "join")
    segments = context.store.finished_segments(job_id)
    streaming = context.store.get(job_id).streaming
    output = OutputInfo(
        job_id=job_id,
        container=context.store.get(job_id).spec.options.container,
        num_segments=len(segments),
        width=64,
        height=48,
        num_frames=27,
        duration_seconds=13.5,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        token=objects.short(TOKEN),
        preview_token=objects.short(TOKEN) if segments else None,
    )
    listed = SegmentList(segments=tuple(segments), sound=streaming and streaming.sound)
    context.storage.put_bytes(output.key, content)
    context.storage.put_bytes(output.segments_key, listed.to_json())
    context.storage.put_bytes(output.report_key, b'{"frames": 27}')
    context.store.complete(job_id, TOKEN, output, ttl=TTL)


class HandMade:
    """A job whose segments are published when a test says so.

    Args:
        context: Of the API.
        growing: The files.
        owner: Whose job it is.
        found: What the probe found.
    """

    def __init__(
        self, context: ServiceContext, growing: Growing, *, owner: str = "local", found: InputInfo = INPUT
    ) -> None:
        self.context, self.growing = context, growing
        self.id = make_job(context, owner=owner, source=b"source" * 100, found=found).id
        self.path = f"/v1/jobs/{self.id}"
        self.audio_key = objects.audio_key(self.id, TOKEN)

    def plan(self, *, num_segments: int | None = None, is_complete: bool = True) -> None:
        """Plans segments, and stores the sound."""
        count = len(self.growing.segments) if num_segments is None else num_segments
        begin(self.context, self.id)
        self.context.store.append_plan(
            self.id,
            TOKEN,
            first_index=0,
            segments=["{}"] * count,
            is_complete=is_complete,
            total_frames=8 * count,
        )
        sound = None
        if self.growing.audio is not None and self.growing.audio_index is not None:
            self.context.storage.put_file(self.audio_key, self.growing.audio)
            index = self.growing.audio_index
            sound = StreamSound(
                key=self.audio_key,
                size_bytes=index.end_offset,
                index_key=objects.sound_index_key(self.id, TOKEN),
            )
            self.context.storage.put_bytes(sound.index_key, json.dumps(index.to_dict()).encode())
        streaming = Streaming(sound=sound).model_dump()
        self.context.store.set_fields(self.id, "plan", TOKEN, stream=streaming)
        end(self.context, self.id, "plan")

    def publish(self, *indices: int) -> None:
        """Makes segments part of the result."""
        for index in indices:
            task, path = f"segment:{index}", self.growing.segments[index]
            begin(self.context, self.id, task)
            key = objects.segment_key(self.id, index, TOKEN)
            preview_key = objects.preview_key(self.id, index, TOKEN)
            self.context.storage.put_file(key, path)
            self.context.storage.put_bytes(preview_key, picture(index))
            boxes = self.growing.indices[index]
            finished = FinishedSegment(
                index=index,
                key=key,
                num_frames=boxes.num_samples,
                size_bytes=path.stat().st_size,
                seconds=1.0,
                output_pixels=1,
                boxes=boxes.to_dict(),
                preview_key=preview_key,
            )
            assert self.context.store.publish(self.id, finished, TOKEN)
            end(self.context, self.id, task)

    def publish_all(self) -> None:
        """All of them."""
        self.publish(*range(len(self.growing.segments)))

    def join(self) -> bytes:
        """Completes the job.

        Returns:
            The result.
        """
        content = self.growing.joined.read_bytes()
        complete(self.context, self.id, content)
        return content

    def sweep_segments(self) -> None:
        """Removes the files of the segments and their list, as is done some time after the job."""
        self.context.storage.delete(objects.segments_key(self.id, TOKEN))
        for index in range(len(self.growing.segments)):
            self.context.storage.delete(objects.segment_key(self.id, index, TOKEN))


def picture(index: int) -> bytes:
    """A before/after picture: black on the left, on the right brighter with each segment."""
    image = Image.new("L", (40, 10))
    image.paste(100 + 20 * index, (20, 0, 40, 10))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=95)
    return content.getvalue()


def brightness(jpeg: bytes) -> tuple[tuple[int, int], int]:
    """Size of a picture, and its mean level."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.size, round(ImageStat.Stat(image.convert("L")).mean[0])


def set_waiting(context: ServiceContext, count: int, priority: Priority = Priority.NORMAL) -> list[Job]:
    """So many queued jobs."""
    return [make_job(context, priority=priority) for _ in range(count)]


def folder_of(context: ServiceContext) -> Path:
    """Where the storage's files are."""
    assert context.storage.folder is not None
    return context.storage.folder
