"""What nobody needs goes, everything else stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import objects
from jobs.batch_store import BatchStore
from jobs.errors import JobNotFoundError, ObjectNotFoundError
from jobs.records import JobError, JobState, Streaming, StreamSound
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.sweeper import GRACE, knows_the_storage, sweep_expired, sweep_litter
from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from tests.jobs.made import (
    MINUTE,
    PLAN,
    begin,
    complete,
    create,
    finished,
    make_batch,
    make_spec,
    output,
    plan,
)

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


def make_upload(store: JobStore, storage: Storage, upload_id: str, *, ttl: timedelta = DAY) -> str:
    """A finished upload; returns the key of its bytes."""
    now = datetime.now(UTC)
    upload = Upload(id=upload_id, owner="local", size_bytes=7, created_at=now, expires_at=now + ttl)
    UploadStore(store.client).create(upload)
    key = objects.upload_key(upload_id)
    put(storage, key)
    return key


def fail(store: JobStore, job_id: str) -> None:
    store.fail(job_id, JobError(code="x", message="x"), ttl=timedelta())


def test_a_job_that_was_retried_after_the_sweep_listed_it_stays(store: JobStore, storage: Storage) -> None:
    class Overtaken(JobStore):
        def expired_ids(self, *, limit: int) -> list[str]:
            found = super().expired_ids(limit=limit)
            for job_id in found:
                self.retry(job_id)
            return found

    job_id = create(store).id
    kept = put(storage, objects.input_key(job_id))
    fail(store, job_id)
    assert sweep_expired(Overtaken(store.client), storage) == 0
    assert store.get(job_id).state is JobState.QUEUED
    assert keys(storage) == kept


def test_an_entry_without_a_job_does_not_hold_up_the_sweep(store: JobStore, storage: Storage) -> None:
    store.client.zadd("dv:expiring", {"job_gone": 1})
    assert sweep_expired(store, storage) == 0
    assert store.expired_ids(limit=10) == []


def test_an_expired_upload_goes_with_the_last_job_that_reads_it(store: JobStore, storage: Storage) -> None:
    key = make_upload(store, storage, "1")
    jobs = [create(store, input_key=key).id for _ in range(2)]
    UploadStore(store.client).postpone("1", -MINUTE)
    fail(store, jobs[0])
    sweep_expired(store, storage)
    assert storage.exists(key)
    fail(store, jobs[1])
    sweep_expired(store, storage)
    assert not storage.exists(key)
    assert UploadStore(store.client).get_many(["1"]) == [None]


def test_an_upload_whose_time_is_not_over_outlives_its_jobs(store: JobStore, storage: Storage) -> None:
    key = make_upload(store, storage, "1")
    fail(store, create(store, input_key=key).id)
    assert sweep_expired(store, storage) == 1
    # Its owner moved the end while a job read it: it is older than uploads get, and still theirs.
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER + DAY) == 0
    assert storage.exists(key)
    assert create(store, input_key=key)


def test_an_upload_is_given_to_a_job_or_removed_but_not_both(store: JobStore, storage: Storage) -> None:
    key = make_upload(store, storage, "1", ttl=-DAY)
    assert UploadStore(store.client).remove("1", only_expired=True) == "removed"
    with pytest.raises(ObjectNotFoundError, match="upload 1 was deleted or has expired"):
        store.create(make_spec(input_key=key), max_waiting=10)


def test_files_of_a_batch_that_waits_for_long_stay(store: JobStore, storage: Storage) -> None:
    batch_id, job_ids = make_batch(store, num_files=2)
    kept = put(storage, *map(objects.input_key, job_ids))
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 0
    assert keys(storage) == kept
    BatchStore(store.client).delete(batch_id, owner="local")
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 2


def test_objects_without_a_record_go_when_they_are_old(store: JobStore, storage: Storage) -> None:
    put(storage, "jobs/job_gone/input", "jobs/job_gone/segments/0.mp4")
    assert sweep_litter(store, storage, upload_ttl=DAY) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 2
    assert keys(storage) == set()


def test_uploads_without_a_record_go_after_their_time(store: JobStore, storage: Storage) -> None:
    used = make_upload(store, storage, "used")
    create(store, input_key=used)
    put(storage, "uploads/forgotten")
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER + DAY) == 1
    assert keys(storage) == {used}


def test_bytes_of_uploads_go_when_nobody_goes_on_with_them(store: JobStore, storage: Storage) -> None:
    growing, complete = make_upload(store, storage, "growing"), make_upload(store, storage, "complete")
    uploads = UploadStore(store.client)
    uploads.lock("complete", token="token", ttl=MINUTE).take()
    found = make_spec().input
    assert found is not None
    uploads.finish("complete", "token", found, ttl=DAY)
    put(storage, "incoming/growing/bytes", "incoming/complete/000-1", "incoming/forgotten/000-1")
    assert sweep_litter(store, storage, upload_ttl=DAY) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == 2
    assert keys(storage) == {growing, complete, "incoming/growing/bytes"}


def test_a_running_job_loses_only_what_killed_attempts_left(store: JobStore, storage: Storage) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    begin(store, job_id, "segment:0")
    named = objects.segment_key(job_id, 0, "token")
    store.publish(job_id, finished(0).model_copy(update={"key": named}), "token")
    begin(store, job_id, "join")
    sound = objects.audio_key(job_id, "token")
    index, described = objects.sound_index_key(job_id, "token"), objects.description_key(job_id, "token")
    streaming = Streaming(sound=StreamSound(key=sound, size_bytes=1, index_key=index))
    store.set_fields(
        job_id,
        "join",
        "token",
        stream=streaming.model_dump(),
        run=PLAN.model_copy(update={"description_key": described}).model_dump(),
    )
    kept = put(storage, objects.input_key(job_id), named, sound, index, described)
    put(
        storage,
        *(name(job_id, "killed") for name in (objects.audio_key, objects.description_key)),
        objects.segment_key(job_id, 0, "killed"),
    )
    sweep_litter(store, storage, upload_ttl=DAY, now=LATER)
    assert keys(storage) == kept


def test_a_completed_job_loses_its_segments_after_a_while(store: JobStore, storage: Storage) -> None:
    job_id = create(store).id
    complete(store, job_id, ttl=MINUTE)
    result = output(job_id)
    kept = put(storage, objects.input_key(job_id), result.key, result.report_key, result.preview_key)
    segments = put(storage, result.segments_key, *(f"jobs/{job_id}/segments/{name}.mp4" for name in "ab"))
    soon = datetime.now(UTC) + GRACE / 2
    assert sweep_litter(store, storage, upload_ttl=DAY, now=soon) == 0
    assert sweep_litter(store, storage, upload_ttl=DAY, now=LATER) == len(segments)
    assert keys(storage) == kept


def test_an_empty_or_older_store_sweeps_nothing_of_a_storage_that_others_have_filled(
    store: JobStore, storage: Storage
) -> None:
    assert knows_the_storage(store, storage)
    backup = store.client.get("dv:sweeps")
    assert knows_the_storage(store, storage)
    store.client.set("dv:sweeps", backup)  # a power loss takes no more than the last one
    assert knows_the_storage(store, storage)
    for _ in range(2):
        assert knows_the_storage(store, storage)
    store.client.set("dv:sweeps", backup)
    assert not knows_the_storage(store, storage)
    store.client.delete("dv:sweeps")
    assert not knows_the_storage(store, storage)
    storage.delete(objects.SWEEPS_KEY)  # as the operator is told
    assert knows_the_storage(store, storage)
