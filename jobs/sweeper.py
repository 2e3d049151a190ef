"""Removes what nobody needs any more: expired jobs, uploads without a job, objects that no record names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import structlog

from jobs import keys, objects
from jobs.clock import redis_now
from jobs.errors import JobNotFoundError, ObjectNotFoundError
from jobs.records import Job
from jobs.storage import Storage, StoredObject
from jobs.store import JobStore
from jobs.uploads import UploadStore

_log: Any = structlog.get_logger(__name__)

# An object may be older than the record that will name it, and a player may still read a segment when the
# job is complete.
GRACE = timedelta(hours=1)
_BATCH = 500
_ADVICE = "restore Redis, or delete the object 'sweeps' if what Redis does not know may go"


def sweep_expired(store: JobStore, storage: Storage) -> int:
    """Removes jobs whose time is over, with their files.

    Returns:
        How many.

    Raises:
        StoreUnavailableError: If the store does not answer.
        StorageError: If files cannot be removed; their records are gone, `sweep_litter` finds them later.
    """
    count = 0
    while ids := store.expired_ids(limit=_BATCH):
        for job_id in ids:
            if _remove_expired(store, storage, job_id):
                count += 1
                _log.info("sweeper.expired", job_id=job_id)
    return count


def _remove_expired(store: JobStore, storage: Storage, job_id: str) -> bool:
    """Removes a job, its files, and the upload it reads if that has expired too and no other job reads it.

    Returns:
        Whether it was removed; False where it has been tried again since it was listed.
    """
    try:
        upload_id = objects.upload_id_of(store.get(job_id).spec.input_key)
    except JobNotFoundError:
        upload_id = None
    # First the record: a job without files would be worse than files without a job.
    if not store.delete(job_id, only_expired=True):
        return False
    storage.delete_prefix(objects.job_prefix(job_id))
    if upload_id is not None:
        _remove_upload(store, storage, upload_id)
    return True


def _remove_upload(store: JobStore, storage: Storage, upload_id: str) -> bool:
    is_removed = UploadStore(store.client).remove(upload_id, only_expired=True) == "removed"
    if is_removed:
        storage.delete(objects.upload_key(upload_id))
    return is_removed


def sweep_litter(
    store: JobStore, storage: Storage, *, upload_ttl: timedelta, now: datetime | None = None
) -> int:
    """Removes objects that no record names: of killed attempts and deleted jobs, segments of completed jobs,
    uploads and parts of uploads without a record. Young ones are left alone.

    Args:
        store: Job records.
        storage: Objects.
        upload_ttl: How long an upload waits for its job.
        now: UTC; None is now, by the store's clock.

    Returns:
        How many.

    Raises:
        StoreUnavailableError: If the store does not answer.
        StorageError: If the storage does not.
    """
    now = now or redis_now(store.client)
    count = 0
    for job_id, found in groupby(storage.list("jobs/"), key=_id_of):
        for key in _litter(store, job_id, list(found), now):
            storage.delete(key)
            count += 1
    for stored in storage.list("uploads/"):
        upload_id = objects.upload_id_of(stored.key)
        if upload_id is not None and now - stored.modified_at > upload_ttl:
            count += _remove_upload(store, storage, upload_id)
    for upload_id, found in groupby(storage.list("incoming/"), key=_id_of):
        old = [stored.key for stored in found if now - stored.modified_at > GRACE]
        [upload] = UploadStore(store.client).get_many([upload_id]) if old else [None]
        if upload is None or upload.found is not None:
            for key in old:
                storage.delete(key)
            count += len(old)
    if count:
        _log.info("sweeper.swept", num_objects=count)
    return count


def knows_the_storage(store: JobStore, storage: Storage) -> bool:
    """Whether the store is as new as the storage, as far as sweeps of litter tell, which both count. An empty
    one, or one from a backup, does not name all that is wanted. Counts one more.

    Raises:
        StoreUnavailableError: If the store does not answer.
        StorageError: If the storage does not.
    """
    counted = int(store.client.get(keys.SWEEPS()) or 0)
    try:
        seen = int(storage.get_bytes(objects.SWEEPS_KEY))
    except ObjectNotFoundError:
        seen = 0
    # A power loss may take the last one from Redis.
    if counted + 1 < seen:
        _log.error("sweeper.store_is_older_than_storage", sweeps=counted, storage=seen, advice=_ADVICE)
        return False
    storage.put_bytes(objects.SWEEPS_KEY, str(store.client.incr(keys.SWEEPS())).encode())
    return True


def _id_of(stored: StoredObject) -> str:
    return stored.key.split("/")[1]


def _litter(store: JobStore, job_id: str, found: list[StoredObject], now: datetime) -> Iterable[str]:
    old = [stored.key for stored in found if now - stored.modified_at > GRACE]
    if not old:
        return []
    try:
        job = store.get(job_id)
    except JobNotFoundError:
        # A file of a batch whose turn to become a job has not come yet is used.
        return [key for key in old if not store.is_input_used(key)]
    if job.completed_at is not None and now - job.completed_at <= GRACE:
        return []
    named = _named_keys(store, job)
    return [key for key in old if key not in named]


def _named_keys(store: JobStore, job: Job) -> set[str]:
    """Objects that a job's record names and somebody may still ask for."""
    named = {job.spec.input_key, objects.input_key(job.id)}
    if job.output is not None:
        return named | {job.output.key, job.output.report_key, job.output.preview_key or ""}
    named.add(objects.source_info_key(job.id))
    for segment in store.finished_segments(job.id):
        named |= {segment.key, segment.preview_key or ""}
    if job.plan is not None:
        named.add(job.plan.description_key or "")
    if job.streaming is not None and job.streaming.sound is not None:
        named |= {job.streaming.sound.key, job.streaming.sound.index_key}
    return named
