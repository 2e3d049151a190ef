"""What nobody needs goes, everything else stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import objects
from jobs.errors import JobNotFoundError
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.sweeper import GRACE, remove_job, sweep_expired, sweep_litter
from tests.jobs.made import MINUTE, begin, complete, create, finished, output, plan

DAY = timedelta(days=1)
LATER = datetime.now(UTC) + 2 * GRACE


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def put(storage: Storage, *keys: str) -> set[str]:
    for key in keys:
        storage.put_bytes(key, b"content")
    return set(keys)


def keys(storage: Storage) -> set[str]:
    return {stored.key for stored in storage.list()}


def test_expired_jobs_go_with_their_files(store: JobStore, storage: Storage) -> None:
    expired, kept = create(store).id, create(store).id
    put(storage, f"jobs/{expired}/input", f"jobs/{expired}/previews/1.jpg")
    others = put(storage, f"jobs/{kept}/input")
    complete(store, expired, ttl=timedelta())
    assert sweep_expired(store, storage) == 1
    with pytest.raises(JobNotFoundError):
        store.get(expired)
    assert keys(storage) == others


def test_an_upload_goes_with_the_last_job_that_reads_it_unless_another_may_be_made_of_it(
    store: JobStore, storage: Storage
) -> None:
    jobs = [create(store, input_key="uploads/1").id for _ in range(3)]
    put(storage, "uploads/1")
    remove_job(store, storage, jobs[0])
    remove_job(store, storage, jobs[1])
    jobs.append(create(store, input_key="uploads/1").id)
    remove_job(store, storage, jobs[2])
    remove_job(store, storage, jobs[3])
    assert storage.exists("uploads/1")
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER + DAY) == 0
    last = create(store, input_key="uploads/1").id
    store.client.delete("dv:upload:1")
    remove_job(store, storage, last)
    assert not storage.exists("uploads/1")


def test_objects_without_a_record_go_when_they_are_old(store: JobStore, storage: Storage) -> None:
    put(storage, "jobs/job_gone/input", "jobs/job_gone/segments/0.mp4")
    assert sweep_litter(store, storage, upload_ttl=DAY) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 2
    assert keys(storage) == set()


def test_uploads_go_after_their_time_unless_a_job_reads_them(store: JobStore, storage: Storage) -> None:
    put(storage, "uploads/used", "uploads/forgotten")
    create(store, input_key="uploads/used")
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER + DAY) == 1
    assert keys(storage) == {"uploads/used"}


def test_a_running_job_loses_only_what_killed_attempts_left(store: JobStore, storage: Storage) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    begin(store, job_id, "segment:0")
    named = objects.segment_key(job_id, 0, "token")
    store.publish(job_id, finished(0).model_copy(update={"key": named}), "token")
    begin(store, job_id, "join")
    sound = objects.audio_key(job_id, "token")
    store.set_fields(job_id, "join", "token", streaming={"audio": {"key": sound}})
    kept = put(storage, objects.input_key(job_id), named, sound)
    put(storage, objects.segment_key(job_id, 0, "killed"), objects.audio_key(job_id, "killed"))
    sweep_litter(store, storage, upload_ttl=DAY, now=LATER)
    assert keys(storage) == kept


def test_a_completed_job_loses_its_segments_after_a_while(store: JobStore, storage: Storage) -> None:
    job_id = create(store).id
    complete(store, job_id, ttl=MINUTE)
    result = output(job_id)
    kept = put(storage, objects.input_key(job_id), result.key, result.report_key)
    segments = put(storage, *(f"jobs/{job_id}/segments/{name}.mp4" for name in "ab"))
    soon = datetime.now(UTC) + GRACE / 2
    assert sweep_litter(store, storage, upload_ttl=DAY, now=soon) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == len(segments)
    assert keys(storage) == kept
