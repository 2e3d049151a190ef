"""Nothing stays in Redis for ever when the records it belonged to are gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.orphans import find_orphans
from jobs.batch_records import RejectedInput
from jobs.batch_store import BatchStore
from jobs.records import JobError
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from tests.jobs.made import MINUTE, begin, complete, create, end, make_batch, plan


def orphaned_keys(store: JobStore, folder: Path) -> tuple[str, ...]:
    return find_orphans(store.client, Storage(str(folder))).keys


def job_with_everything(store: JobStore, batch_id: str | None = None) -> str:
    """Every key that a job can have, in one job."""
    job_id = create(store, labels={"film": "1"}, batch_id=batch_id).id
    plan(store, job_id, 3)
    store.advance(job_id, window=3)
    begin(store, job_id, "segment:0")
    end(store, job_id, "segment:0", "failed")
    assert begin(store, job_id, "segment:0", num_workers=2).outcome == "elsewhere"
    begin(store, job_id, "segment:1")
    store.renew(job_id, "segment:1", "token", ttl=MINUTE, num_frames=1)
    return job_id


def test_a_deleted_job_leaves_nothing(store: JobStore, tmp_path: Path) -> None:
    job_id = job_with_everything(store)
    assert len(list(store.client.scan_iter(f"dv:job:{job_id}*"))) >= 8
    assert orphaned_keys(store, tmp_path) == ()
    store.delete(job_id)
    assert list(store.client.scan_iter(f"dv:job*{job_id}*")) == []
    assert orphaned_keys(store, tmp_path) == ()


def test_a_deleted_job_is_not_to_be_delivered_any_more(store: JobStore, tmp_path: Path) -> None:
    job_id = create(store, deliver_to="https://example.com/a").id
    complete(store, job_id)
    assert store.client.zcard("dv:deliveries") == 1
    assert orphaned_keys(store, tmp_path) == ()
    store.delete(job_id)
    assert not store.client.exists("dv:deliveries")
    assert orphaned_keys(store, tmp_path) == ()


def test_a_job_that_outlives_its_batch_brings_nothing_of_it_back(store: JobStore, tmp_path: Path) -> None:
    batch_id, _ = make_batch(store, num_files=1)
    failed, running, waiting = (job_with_everything(store, batch_id) for _ in range(3))
    store.fail(failed, JobError(code="x", message="x"), ttl=MINUTE)
    BatchStore(store.client).delete(batch_id, owner="local")
    store.retry(failed)
    store.cancel(running, ttl=MINUTE)
    complete(store, create(store, batch_id=batch_id).id)
    assert orphaned_keys(store, tmp_path) == ()
    store.delete(waiting)
    assert orphaned_keys(store, tmp_path) == ()
    assert list(store.client.scan_iter(f"*{batch_id}*")) == []


def test_whoever_still_works_on_a_deleted_batch_does_not_bring_it_back(
    store: JobStore, tmp_path: Path
) -> None:
    batch_id, _ = make_batch(store, num_files=2)
    batches = BatchStore(store.client)
    inputs = batches.undecided(batch_id, limit=2)
    batches.decide(batch_id, inputs[0], RejectedInput(index=0, code="x", message="x"))
    batches.delete(batch_id, owner="local")
    batches.decide(batch_id, inputs[1])
    batches.settle(batch_id, ttl=MINUTE)
    batches.cancel(batch_id)
    batches.complete_once(batch_id)
    assert list(store.client.scan_iter(f"dv:batch*{batch_id}*")) == []
    assert orphaned_keys(store, tmp_path) == ()


def test_a_removed_upload_leaves_nothing(store: JobStore, tmp_path: Path) -> None:
    uploads = UploadStore(store.client)
    now = datetime.now(UTC)
    uploads.create(Upload(id="upl", owner="me", size_bytes=1, created_at=now, expires_at=now))
    uploads.lock("upl", token="token", ttl=timedelta(minutes=1)).take()
    assert uploads.remove("upl") == "removed"
    uploads.postpone("upl", MINUTE)
    uploads.disown("upl")
    assert list(store.client.scan_iter("dv:upload*")) == []
    assert orphaned_keys(store, tmp_path) == ()


def test_keys_without_an_owner_are_found(store: JobStore, tmp_path: Path) -> None:
    store.client.hset("dv:batch:batch_gone:counts", "queued", 1)
    store.client.hset("dv:job:job_gone:smaller", "segment:0", 1)
    store.client.zadd("dv:active", {"job_gone": 0})
    store.client.set("dv:other", 1)
    store.client.set("dv:soon", 1, ex=60)
    assert orphaned_keys(store, tmp_path) == (
        "dv:active job_gone",
        "dv:batch:batch_gone:counts",
        "dv:job:job_gone:smaller",
        "dv:other",
    )
