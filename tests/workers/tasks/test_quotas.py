"""Workers hold jobs to their key's limits where the API could not know."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import av
import pytest

from jobs.errors import QuotaExceededError
from jobs.objects import source_info_key
from jobs.records import JobState
from jobs.stored_bytes import StoredBytes
from tests.workers.tasks.farm import Farm
from workers.tasks.failures import judge


def raw_stream(clip: Path, path: Path) -> Path:
    """The clip's pictures as a stream without a container: nothing in it says how long it is."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in source.decode(video=0):
            frame.pts = None
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_a_source_of_unknown_length_cannot_have_more_pixels_than_the_key_allows(
    farm: Farm, short_clip: Path, tmp_path: Path
) -> None:
    clip = raw_stream(short_clip, tmp_path / "clip.h264")
    pixels = 20 * 128 * 96
    with farm.worker():
        allowed = farm.submit(clip, scale=2, limits={"max_output_pixels": pixels})
        refused = farm.submit(clip, scale=2, limits={"max_output_pixels": pixels - 1})
        assert farm.wait(allowed).state is JobState.COMPLETED
        failed = farm.wait(refused)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "quota_exceeded"
    assert "at least 20 frames" in failed.error.message


def test_a_result_that_does_not_fit_fails_and_leaves_no_file(farm: Farm, short_clip: Path) -> None:
    size = short_clip.stat().st_size
    with farm.worker():
        job_id = farm.submit(short_clip, scale=2, limits={"max_stored_bytes": size + 100})
        failed = farm.wait(job_id)
    assert failed.error is not None
    assert failed.error.code == "quota_exceeded"
    assert "delete some, and retry" in failed.error.message
    assert failed.plan is not None
    found = source_info_key(job_id)
    kept = {failed.spec.input_key, found, failed.plan.description_key}  # for a retry
    assert {stored.key for stored in farm.storage.list(f"jobs/{job_id}/")} == kept
    assert StoredBytes(farm.store.client).of("local") == size


def test_what_is_stored_is_what_lies_there(farm: Farm, short_clip: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(short_clip, scale=2))
    assert job.output is not None
    stored = StoredBytes(farm.store.client)
    assert stored.of("local") == short_clip.stat().st_size + job.output.size_bytes
    farm.store.delete(job.id)
    assert stored.of("local") == 0


def test_a_quota_is_not_tried_again() -> None:
    verdict = judge(QuotaExceededError("too much"), task="plan", number=1, max_attempts=4)
    assert (verdict.action, verdict.error.code) == ("fail", "quota_exceeded")


@pytest.mark.slow
def test_a_key_with_many_jobs_leaves_half_of_the_turns_to_one_with_one_job(
    farm: Farm, long_clip: Path
) -> None:
    greedy = [farm.submit(long_clip, owner="a") for _ in range(20)]
    with farm.worker():
        farm.wait(greedy[0], lambda job: job.num_finished_segments > 0)
        modest = farm.submit(long_clip, owner="b")
        farm.wait(modest, lambda job: job.num_finished_segments >= 4)
    start, *times = [_milliseconds(farm.store.get(modest).started_at), *published(farm, modest)]
    end = times[3]
    segments = [at for job_id in greedy for at in published(farm, job_id) if start <= at <= end]
    plans = [at for job_id in greedy if (at := farm.store.get(job_id).started_at) is not None]
    num_plans = sum(start <= _milliseconds(at) <= end for at in plans)
    # Five turns of the one: its plan and four segments.
    assert 3 <= len(segments) + num_plans <= 7


def _milliseconds(at: datetime | None) -> float:
    assert at is not None
    return at.timestamp() * 1000


def published(farm: Farm, job_id: str) -> list[int]:
    """When each segment of a job was published, in milliseconds."""
    events = farm.store.client.xrange(f"dv:events:{job_id}")
    return [int(event.split(b"-")[0]) for event, fields in events if fields[b"type"] == b"segment"]
