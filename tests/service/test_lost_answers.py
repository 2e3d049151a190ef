"""Answers that never arrive, a queue that is away, a killed process: no job is lost, none is made twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.lossy_proxy import LossyProxy, lossy_proxy, runs
from jobs._scripts import batches, lifecycle
from jobs.api_keys import Scope
from jobs.batch_store import BatchStore
from jobs.embedded_redis import free_port
from jobs.errors import ObjectNotFoundError
from jobs.fleet import ModelInfo
from jobs.objects import input_key, upload_key
from jobs.reconciler import reconcile_once
from jobs.settings import ServiceSettings
from jobs.specs import new_id
from jobs.sweeper import sweep_litter
from jobs.uploads import UploadStore
from service.auth import Caller
from service.jobs.service import submit_source
from service.jobs.submissions import JobForm
from tests.service.api_process import api_process
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import TTL, fail, make_job
from tests.service.outages import own_server
from tests.service.test_batches import upload


@contextmanager
def behind_proxy(settings: ServiceSettings) -> Iterator[tuple[Api, LossyProxy]]:
    """The API, with a proxy between it and its store. The queue is reached without."""
    port = urlsplit(settings.redis_url).port
    assert port is not None
    with lossy_proxy(port) as proxy:
        through = settings.model_copy(
            update={"redis_url": proxy.url, "queue_redis_url": settings.effective_queue_redis_url}
        )
        with running_api(through) as api:
            yield api, proxy


def submit(api: Api, clip: Path, key: str | None = None) -> httpx.Response:
    return submit_to(api.url, clip, key)


def submit_to(url: str, clip: Path, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    with httpx.Client(timeout=60, trust_env=False, verify=False) as client, clip.open("rb") as file:
        return client.post(f"{url}/v1/jobs", files={"file": ("clip.mp4", file)}, headers=headers)


def repeat(api: Api, clip: Path, key: str) -> httpx.Response:
    """Sends a request until its forerunner is no longer being worked on."""
    answers: list[httpx.Response] = []

    def is_decided() -> bool:
        answers.append(submit(api, clip, key))
        return answers[-1].status_code != 409

    wait_until(is_decided)
    return answers[-1]


def jobs_of(api: Api) -> list[str]:
    return [job["id"] for job in api.http.get("/v1/jobs").json()["data"]]


def has_input(api: Api, job_id: str) -> bool:
    return api.context.storage.exists(api.context.store.get(job_id).spec.input_key)


def test_a_creation_whose_answer_is_lost_once_is_accepted(settings: ServiceSettings, clip: Path) -> None:
    with behind_proxy(settings) as (api, proxy):
        proxy.lose_answer(runs(lifecycle.CREATE))
        answer = submit(api, clip)
        assert (answer.status_code, proxy.num_lost) == (202, 1)
        assert has_input(api, answer.json()["id"])


def test_a_job_that_may_exist_keeps_its_input(settings: ServiceSettings, clip: Path) -> None:
    with behind_proxy(settings) as (api, proxy):
        proxy.lose_answer(runs(lifecycle.CREATE), times=3)
        assert submit(api, clip).status_code == 503
        (job_id,) = jobs_of(api)
        assert has_input(api, job_id)
        assert submit(api, clip).status_code == 202  # without a key, another job


def test_a_repeated_request_finds_the_job_whose_creation_was_never_answered(
    settings: ServiceSettings, clip: Path
) -> None:
    with behind_proxy(settings) as (api, proxy):
        proxy.lose_answer(runs(lifecycle.CREATE), times=3)
        assert submit(api, clip, "order-1").status_code == 503
        answer = repeat(api, clip, "order-1")
        assert answer.status_code == 202
        assert jobs_of(api) == [answer.json()["id"]]
        assert has_input(api, answer.json()["id"])


def test_a_repeated_request_finds_the_job_of_a_process_that_was_killed(
    settings: ServiceSettings, clip: Path
) -> None:
    with behind_proxy(settings) as (api, proxy):
        doomed = api.context.settings
        proxy.lose_answer(runs(lifecycle.CREATE), is_silent=True)
        port = free_port()
        with api_process(doomed, port) as process, ThreadPoolExecutor(1) as pool:
            sent = pool.submit(submit_to, f"http://127.0.0.1:{port}", clip, "order-1")
            wait_until(lambda: proxy.num_lost)
            process.kill()
            with pytest.raises(httpx.HTTPError):
                sent.result()
        answer = repeat(api, clip, "order-1")
        assert answer.status_code == 202, answer.text
        assert jobs_of(api) == [answer.json()["id"]]
        assert has_input(api, answer.json()["id"])


def test_a_repeated_request_finds_the_batch_whose_creation_was_never_answered(
    settings: ServiceSettings, clip: Path
) -> None:
    def send(api: Api) -> httpx.Response:
        files = [("file", ("clip.mp4", clip.read_bytes()))] * 2
        return api.http.post("/v1/batches", files=files, headers={"Idempotency-Key": "order-1"})

    with behind_proxy(settings) as (api, proxy):
        proxy.lose_answer(runs(batches.CREATE), times=3)
        assert (send(api).status_code, proxy.num_lost) == (503, 3)
        answer = send(api)
        assert answer.status_code == 202, answer.text
        (batch,) = api.http.get("/v1/batches").json()["data"]
        assert batch["id"] == answer.json()["id"]
        wait_until(lambda: len(jobs_of(api)) == 2)
        assert all(has_input(api, job_id) for job_id in jobs_of(api))


def test_files_of_a_batch_that_waits_are_not_swept(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        make_job(api.context)
        context, files = api.context, [("file", ("clip.mp4", clip.read_bytes()))] * 2
        batch = api.http.post("/v1/batches", files=files).json()
        later = datetime.now(UTC) + timedelta(days=1)
        assert sweep_litter(context.store, context.storage, upload_ttl=TTL, now=later) == 0
        api.http.delete(f"/v1/batches/{batch['id']}")
        assert not list(context.client.scan_iter("dv:input:*"))
        assert all(has_input(api, job_id) for job_id in jobs_of(api))


def test_an_input_whose_job_exists_is_not_rejected_later(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        ahead, context = make_job(api.context), api.context
        files = {"file": ("clip.mp4", clip.read_bytes())}
        batch = api.http.post("/v1/batches", files=files, data={"model": "bicubic"}).json()
        (item,) = BatchStore(context.client).undecided(batch["id"], limit=10)
        # Another process has made the job and died, and the model has gone since.
        made = ahead.spec.model_copy(
            update={"id": item.job_id, "input_key": input_key(item.job_id), "batch_id": batch["id"]}
        )
        context.store.create(made, max_waiting=10)
        context.client.delete("dv:models")
        context.fleet.offer([ModelInfo(name="lanczos", kind="interpolation", scale=4)])
        wait_until(lambda: not BatchStore(context.client).undecided(batch["id"], limit=10))
        assert api.http.get(f"/v1/batches/{batch['id']}").json()["counts"]["rejected"] == 0
        assert has_input(api, item.job_id)


def test_an_upload_is_not_removed_while_an_input_of_a_batch_waits_for_it(
    settings: ServiceSettings, clip: Path
) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        ahead, context = make_job(api.context), api.context
        upload_id = upload(api.http, clip.read_bytes())
        source = {"type": "upload", "upload_id": upload_id}
        batch = api.http.post("/v1/batches", json={"inputs": [{"source": source}]}).json()
        assert UploadStore(context.client).remove(upload_id) == "used"
        context.store.delete(ahead.id)
        wait_until(lambda: jobs_of(api))
        assert has_input(api, jobs_of(api)[0])
        api.http.delete(f"/v1/batches/{batch['id']}")
        assert UploadStore(context.client).remove(upload_id) == "removed"


def test_no_job_is_made_of_an_upload_that_goes_at_the_same_time(api: Api, clip: Path) -> None:
    upload_id = upload(api.http, clip.read_bytes())
    context = api.context
    found = UploadStore(context.client).get(upload_id)
    assert UploadStore(context.client).remove(upload_id) == "removed"
    caller = Caller("local", "", (Scope.WRITE,))
    assert found.found is not None
    with pytest.raises(ObjectNotFoundError):
        submit_source(
            context, caller, JobForm(), found.found, key=upload_key(upload_id), job_id=new_id("job")
        )


def test_a_job_that_cannot_be_enqueued_is_accepted_and_enqueued_later(
    settings: ServiceSettings, clip: Path
) -> None:
    with own_server(settings) as (queue_server, others):
        apart = settings.model_copy(update={"queue_redis_url": others.redis_url})
        with running_api(apart) as api:
            retried = make_job(api.context)
            fail(api.context, retried.id)
            queue_server.stop()
            answer = submit(api, clip)
            assert answer.status_code == 202
            again = api.http.post(f"/v1/jobs/{retried.id}/retry")
            assert again.status_code == 202
            queue_server.start()
            context = api.context
            suspects = reconcile_once(context.store, context.queue, set(), cancelled_ttl=TTL)
            reconcile_once(context.store, context.queue, suspects, cancelled_ttl=TTL)
            assert {(task.job_id, task.task) for task in context.queue.tasks()} >= {
                (answer.json()["id"], "plan"),
                (retried.id, "plan"),
            }


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_cancelling_and_retrying_whose_answer_is_lost_are_accepted(
    settings: ServiceSettings, verb: str
) -> None:
    with behind_proxy(settings) as (api, proxy):
        job = make_job(api.context)
        if verb == "retry":
            fail(api.context, job.id)
        proxy.lose_answer(runs(getattr(lifecycle, verb.upper())))
        answer = api.http.post(f"/v1/jobs/{job.id}/{verb}")
        assert (answer.status_code, proxy.num_lost) == (202, 1)
        assert answer.json()["status"] == {"cancel": "cancelled", "retry": "queued"}[verb]


def test_a_full_queue_leaves_no_input_behind(settings: ServiceSettings, clip: Path) -> None:
    with running_api(settings.model_copy(update={"max_waiting_jobs": 1})) as api:
        make_job(api.context)
        assert submit(api, clip).status_code == 503
        assert [stored.key for stored in api.context.storage.list("jobs/")] == [
            api.context.store.get(job_id).spec.input_key for job_id in jobs_of(api)
        ]
