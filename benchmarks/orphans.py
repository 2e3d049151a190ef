"""Finds what nobody owns: files without a job, jobs without their files, keys that nothing removes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from jobs.batch_store import BatchStore
from jobs.connections import impatient_client
from jobs.errors import JobNotFoundError
from jobs.objects import SWEEPS_KEY, upload_id_of
from jobs.queue import JobQueue
from jobs.records import Job, JobState
from jobs.settings import CommonSettings
from jobs.storage import Storage
from jobs.store import JobStore

# Kept as long as the installation lives; their number does not grow with the jobs.
_LASTING = re.compile(
    r"dv:(counts|finished|failures|(deliveries|webhooks):ended|totals|stage_seconds|stage_counts|speed:\w+|models|workers"
    r"|keys(:by-digest)?|webhooks:secrets)"
)
# Sets whose members are ids of records.
_OF_JOBS = re.compile(r"dv:(active|expiring|deliveries|waiting:\w+|jobs:.+|batch:[^:]+:jobs)")
# Also of jobs that a batch is going to make.
_OF_INPUTS = re.compile(r"dv:input:.+")
_OF_BATCHES = re.compile(r"dv:batches:.+")
_OF_UPLOADS = re.compile(r"dv:uploads:(expiring|unfinished:.+)")
# A hash of bytes by the id of a job or upload, and their sum.
_STORED = re.compile(r"dv:stored:.+")
# Parts of a record, by its id.
_JOB_PART = re.compile(r"dv:(?:job|events):([^:]+)(?::\w+)?")
_BATCH_PART = re.compile(r"dv:batch:([^:]+)(?::\w+)?")
_UPLOAD_PART = re.compile(r"dv:upload:([^:]+)(?::parts)?")
# The dispatcher empties it.
_NOTES = "dv:webhooks:pending"
_REST_SECONDS = 60


@dataclass(frozen=True)
class Orphans:
    """What was found, by name.

    Attributes:
        files: In the storage, of no job, batch or upload.
        jobs: That name a file which is not there.
        keys: Of the store, without a time to live and of no record; for sets, "key member".
        messages: Of the queue, for jobs that are gone or have ended, as "job task".
    """

    files: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Of all kinds together."""
        return len(self.files) + len(self.jobs) + len(self.keys) + len(self.messages)


def find_orphans(client: redis.Redis, storage: Storage, queue: JobQueue | None = None) -> Orphans:
    """Looks at everything of an installation at rest.

    Args:
        client: Of the store.
        storage: Its files.
        queue: Its messages; None leaves them out.
    """
    store = JobStore(client)
    records = _Records(client)
    jobs = [job for job_id in sorted(records.jobs) if (job := _get(store, job_id)) is not None]
    messages: list[str] = []
    if queue is not None:
        unfinished = {job.id for job in jobs if not job.state.is_final}
        messages = [f"{task.job_id} {task.task}" for task in queue.tasks() if task.job_id not in unfinished]
    names = {stored.key for stored in storage.list()} - {SWEEPS_KEY}
    return Orphans(
        files=tuple(sorted(name for name in names if not records.own_file(name))),
        jobs=tuple(job.id for job in jobs if not _named_files(store, job) <= names),
        keys=tuple(sorted(records.orphaned_keys())),
        messages=tuple(sorted(messages)),
    )


def orphans_at_rest(settings: CommonSettings, storage: Storage | None = None) -> Orphans:
    """What nobody owns when messages of the killed have come back and been dropped.

    Args:
        settings: Of the installation.
        storage: Its files, where they are not in its folder.
    """
    deadline = time.monotonic() + _REST_SECONDS
    storage = storage or Storage(settings.effective_storage_url)
    with (
        impatient_client(settings.redis_url) as client,
        impatient_client(settings.effective_queue_redis_url) as queue_client,
    ):
        queue = JobQueue(queue_client)
        while True:
            found = find_orphans(client, storage, queue)
            if not found.count or time.monotonic() > deadline:
                return found
            time.sleep(1)


class _Records:
    """Ids of all records, and what belongs to them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._keys = {key.decode() for key in client.scan_iter(count=1000)}
        self.jobs = self._ids(r"dv:job:([^:]+)")
        self._batches = self._ids(r"dv:batch:([^:]+)")
        self._uploads = self._ids(r"dv:upload:([^:]+)")
        batches = BatchStore(client)
        self._expected = {job_id for batch_id in self._batches for job_id in batches.input_job_ids(batch_id)}

    def own_file(self, name: str) -> bool:
        """Whether a job, a batch or an upload has the file."""
        upload_id = upload_id_of(name)
        if upload_id is not None:
            return upload_id in self._uploads
        return name.split("/")[1] in self.jobs | self._expected | self._uploads

    def orphaned_keys(self) -> Iterator[str]:
        """Keys, and members of sets, that no record owns."""
        for key in self._keys:
            if _LASTING.fullmatch(key) or key == _NOTES or self._client.ttl(key) != -1:
                continue
            if _STORED.fullmatch(key):
                names = {name.decode() for name in self._client.hkeys(key)} - {"sum"}
                unknown = names - self.jobs - self._expected - self._uploads
                yield from (f"{key} {name}" for name in unknown)
                continue
            for pattern, ids in (
                (_OF_INPUTS, self.jobs | self._expected),
                (_OF_JOBS, self.jobs),
                (_OF_BATCHES, self._batches),
                (_OF_UPLOADS, self._uploads),
            ):
                if pattern.fullmatch(key):
                    yield from (f"{key} {member}" for member in self._members(key) - ids)
                    break
            else:
                if not self._is_part(key):
                    yield key

    def _is_part(self, key: str) -> bool:
        for pattern, ids in (
            (_JOB_PART, self.jobs),
            (_BATCH_PART, self._batches),
            (_UPLOAD_PART, self._uploads),
        ):
            match = pattern.fullmatch(key)
            if match:
                return match[1] in ids
        return False

    def _ids(self, pattern: str) -> set[str]:
        return {match[1] for key in self._keys if (match := re.fullmatch(pattern, key))}

    def _members(self, key: str) -> set[str]:
        is_set = self._client.type(key) == b"set"
        found = self._client.smembers(key) if is_set else self._client.zrange(key, 0, -1)
        return {member.decode() for member in found}


def _get(store: JobStore, job_id: str) -> Job | None:
    try:
        return store.get(job_id)
    except JobNotFoundError:
        return None


def _named_files(store: JobStore, job: Job) -> set[str]:
    """Files that must be there for the job to end well, or to be downloaded."""
    if job.state is JobState.COMPLETED:
        assert job.output is not None
        return {job.spec.input_key, job.output.key, job.output.report_key}
    return {job.spec.input_key, *(segment.key for segment in store.finished_segments(job.id))}
