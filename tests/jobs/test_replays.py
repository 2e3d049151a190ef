"""An answer of Redis is lost after the command ran: the client sends it again, and nothing happens twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from benchmarks.lossy_proxy import LossyProxy, lossy_proxy, runs
from jobs._scripts import attempts, batches, deliveries, fields, lifecycle, segments
from jobs.batch_records import BatchInput, BatchSpec
from jobs.batch_store import BatchStore
from jobs.connections import impatient_client
from jobs.errors import JobExistsError, JobStateError
from jobs.records import Job, JobError, JobState, Stage
from jobs.specs import new_id
from jobs.store import JobStore
from jobs.transfers import DeliveryStatus, FetchedSource
from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from tests.jobs.made import (
    INPUT,
    MINUTE,
    PLAN,
    append,
    begin,
    complete,
    create,
    end,
    finished,
    make_spec,
    output,
    plan,
)
from tests.redis_server import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[LossyProxy]:
    with lossy_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def lossy_client(proxy: LossyProxy) -> Iterator[redis.Redis]:
    """A client whose answers may get lost."""
    with impatient_client(proxy.url) as client:
        yield client


Act = Callable[[JobStore, str], Any]


def _fail(store: JobStore, job_id: str) -> None:
    store.fail(job_id, JobError(code="no_frames", message="nothing to see"), ttl=MINUTE)


def _planned(store: JobStore, job_id: str) -> None:
    plan(store, job_id, 4)


def _being_planned(store: JobStore, job_id: str) -> None:
    begin(store, job_id, "plan")


def _with_segment(store: JobStore, job_id: str) -> None:
    plan(store, job_id, 4)
    store.advance(job_id, window=1)
    begin(store, job_id, "segment:0")


def _to_be_joined(store: JobStore, job_id: str) -> None:
    plan(store, job_id, 1)
    store.advance(job_id, window=1)
    begin(store, job_id, "segment:0")
    store.publish(job_id, finished(0), "token")
    end(store, job_id, "segment:0", "finished")
    begin(store, job_id, "join")


def _stopping(store: JobStore, job_id: str) -> None:
    begin(store, job_id, "plan")
    store.cancel(job_id, ttl=MINUTE)


def _worn_out(store: JobStore, job_id: str) -> None:
    for number in range(4):
        begin(store, job_id, "plan", f"token-{number}")
        end(store, job_id, "plan", "failed", f"token-{number}")


def _complete(store: JobStore, job_id: str) -> None:
    store.complete(job_id, "token", output("job"), ttl=MINUTE)


def _completed(store: JobStore, job_id: str) -> None:
    _to_be_joined(store, job_id)
    _complete(store, job_id)


def _to_be_delivered(store: JobStore, job_id: str) -> None:
    _completed(store, job_id)
    store.ask_delivery(job_id, "https://example.com/a")


def _note_delivery(store: JobStore, job_id: str, status: DeliveryStatus = DeliveryStatus.FAILED) -> None:
    delivery = store.get(job_id).delivery
    assert delivery is not None
    store.note_delivery(job_id, delivery, status, code="target_failed", message="it is away")


def _nothing(store: JobStore, job_id: str) -> None:
    return


CASES: dict[str, tuple[str, Callable[[JobStore, str], None], Act]] = {
    "begin": (attempts.BEGIN, _nothing, lambda store, job_id: begin(store, job_id, "plan")),
    "begin_exhausted": (attempts.BEGIN, _worn_out, lambda store, job_id: begin(store, job_id, "plan")),
    "begin_elsewhere": (
        attempts.BEGIN,
        lambda store, job_id: (begin(store, job_id, "plan"), end(store, job_id, "plan", "failed"))[1],
        lambda store, job_id: begin(store, job_id, "plan", num_workers=2),
    ),
    "renew": (
        attempts.RENEW,
        _with_segment,
        lambda store, job_id: store.renew(job_id, "segment:0", "token", ttl=MINUTE, num_frames=3),
    ),
    "end_failed": (
        attempts.END,
        _with_segment,
        lambda store, job_id: end(store, job_id, "segment:0", "failed"),
    ),
    "end_drained": (
        attempts.END,
        _with_segment,
        lambda store, job_id: end(store, job_id, "segment:0", "drained"),
    ),
    "end_cancelled": (attempts.END, _stopping, lambda store, job_id: end(store, job_id, "plan", "drained")),
    "set_fields": (
        attempts.SET_FIELDS,
        _being_planned,
        lambda store, job_id: store.set_fields(
            job_id, "plan", "token", run=PLAN.model_dump(), warnings=["a"]
        ),
    ),
    "append_plan": (
        segments.APPEND_PLAN,
        _being_planned,
        lambda store, job_id: append(store, job_id, range(3)),
    ),
    "publish": (
        segments.PUBLISH,
        _with_segment,
        lambda store, job_id: store.publish(job_id, finished(0), "token"),
    ),
    "advance": (segments.ADVANCE, _planned, lambda store, job_id: store.advance(job_id, window=3)),
    "complete": (lifecycle.COMPLETE, _to_be_joined, _complete),
    "ask_delivery": (
        deliveries.ASK_DELIVERY,
        _completed,
        lambda store, job_id: store.ask_delivery(job_id, "https://example.com/a"),
    ),
    "note_delivery": (deliveries.NOTE_DELIVERY, _to_be_delivered, _note_delivery),
    "close_delivery": (
        deliveries.CLOSE_DELIVERY,
        lambda store, job_id: (_to_be_delivered(store, job_id), _note_delivery(store, job_id))[1],
        lambda store, job_id: store.close_delivery(job_id),
    ),
    "fail": (lifecycle.FAIL, _nothing, _fail),
    "cancel": (
        lifecycle.CANCEL,
        _nothing,
        lambda store, job_id: store.cancel(job_id, ttl=MINUTE).state,
    ),
    "cancel_running": (
        lifecycle.CANCEL,
        _being_planned,
        lambda store, job_id: store.cancel(job_id, ttl=MINUTE).state,
    ),
    "retry": (lifecycle.RETRY, _fail, lambda store, job_id: store.retry(job_id).state),
    "delete": (lifecycle.DELETE, _nothing, lambda store, job_id: store.delete(job_id)),
}


def test_a_source_whose_arrival_is_answered_late_arrives_once(
    store: JobStore, proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    source = FetchedSource(url="https://videos.example.com/clip.mp4", filename="clip.mp4", max_bytes=1000)
    spec = make_spec().model_copy(update={"input": None, "source": source})
    job = store.create(spec, max_waiting=10)
    assert (job.stage, store.awaited_tasks(job.id)) == (Stage.FETCHING, {"fetch"})
    assert begin(store, job.id, "plan").outcome == "done"
    assert begin(store, job.id, "fetch").outcome == "ok"
    assert store.get(job.id).state is JobState.QUEUED
    proxy.lose_answer(runs(attempts.FETCHED))
    JobStore(lossy_client).set_input(spec.model_copy(update={"input": INPUT}), "token")
    fetched = store.get(job.id)
    assert (proxy.num_lost, fetched.spec.input, fetched.stage) == (1, INPUT, None)
    assert (fetched.version, fetched.total_frames) == (job.version + 1, INPUT.num_frames)
    assert begin(store, job.id, "fetch").outcome == "done"
    assert begin(store, job.id, "plan").outcome == "ok"


@pytest.mark.parametrize("name", CASES)
def test_a_change_whose_answer_is_lost_happens_once(
    name: str, store: JobStore, proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    script, prepare, act = CASES[name]
    undisturbed, disturbed = create(store), create(store)
    for job in (undisturbed, disturbed):
        prepare(store, job.id)
    expected = act(store, undisturbed.id)
    proxy.lose_answer(runs(script))
    found = act(JobStore(lossy_client), disturbed.id)
    assert proxy.num_lost == 1
    assert found == expected
    assert _traces(store, disturbed) == _traces(store, undisturbed)


def test_a_job_whose_creation_is_answered_late_is_made_once(
    store: JobStore, proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    spec = make_spec()
    proxy.lose_answer(runs(lifecycle.CREATE))
    made = JobStore(lossy_client).create(spec, max_waiting=10, max_of_owner=1)
    assert (proxy.num_lost, made.spec, made.version) == (1, spec, 1)
    assert store.num_waiting() == {"high": 0, "normal": 1, "low": 0}
    with pytest.raises(JobExistsError):
        store.create(spec.model_copy(update={"metadata": {"another": "request"}}), max_waiting=10)


def test_a_job_that_ended_again_is_not_retried_by_an_old_request(
    store: JobStore, proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    job = create(store)
    complete(store, job.id)
    with pytest.raises(JobStateError):
        store.retry(job.id)
    proxy.lose_answer(runs(lifecycle.RETRY))
    with pytest.raises(JobStateError):
        JobStore(lossy_client).retry(job.id)


def test_a_batch_whose_creation_is_answered_late_has_each_input_once(
    proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    kept = BatchStore(lossy_client)
    now = datetime.now(UTC)
    inputs = [BatchInput(index=n, job_id=new_id("job"), source=None, form={}) for n in range(3)]
    spec = BatchSpec(id=new_id("batch"), owner="local", created_at=now, num_inputs=3)
    proxy.lose_answer(runs(batches.CREATE))
    assert kept.create(spec, inputs, [], active_until=now + MINUTE)
    assert proxy.num_lost == 1
    another = spec.model_copy(update={"labels": {"made": "by another attempt"}})
    assert not kept.create(another, inputs, [], active_until=now + MINUTE)
    assert kept.undecided(spec.id, limit=10) == inputs
    proxy.lose_answer(runs(fields.STAMP))
    completed_at = kept.complete_once(spec.id)
    assert (proxy.num_lost, kept.complete_once(spec.id)) == (2, completed_at)


def test_an_upload_whose_lock_is_answered_late_is_locked_for_its_writer(
    proxy: LossyProxy, lossy_client: redis.Redis
) -> None:
    uploads = UploadStore(lossy_client)
    now = datetime.now(UTC)
    upload = Upload(
        id=new_id("upl"), owner="local", size_bytes=10, created_at=now, expires_at=now + timedelta(hours=1)
    )
    proxy.lose_answer(lambda command: upload.id.encode() in command)
    uploads.create(upload, max_unfinished=1)
    proxy.lose_answer(lambda command: b"writer" in command)
    assert uploads.lock(upload.id, token="writer", ttl=MINUTE).take()
    assert not uploads.lock(upload.id, token="another", ttl=MINUTE).take()
    uploads.advance(upload.id, "writer", 5)
    assert (proxy.num_lost, uploads.get(upload.id).offset) == (2, 5)


def _traces(store: JobStore, job: Job) -> dict[str, Any]:
    """All that is kept of a job, without ids and times."""
    key = f"dv:job:{job.id}"
    record = {
        name: value
        for name, value in store.client.hgetall(key).items()
        if name not in (b"spec", b"updated_at", b"started_at", b"completed_at", b"expires_at")
        and not name.endswith(b"_at")
    }
    if b"delivery" in record:
        record[b"delivery"] = {**json.loads(record[b"delivery"]), "asked_ms": 0, "ended_ms": 0}
    leases = {task: value.split()[0] for task, value in store.client.hgetall(f"{key}:leases").items()}
    parts = ("segments", "partial", "attempts", "failed_on", "handed_on")
    return {
        "record": record,
        "leases": leases,
        "enqueued": store.client.smembers(f"{key}:enqueued"),
        "plan": store.client.lrange(f"{key}:plan", 0, -1),
        "num_events": store.client.xlen(f"dv:events:{job.id}"),
        **{part: store.client.hgetall(f"{key}:{part}") for part in parts},
    }
