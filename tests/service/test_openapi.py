"""The API's description, as those read it who generate clients of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from jobs.options import JobOptions
from jobs.settings import ServiceSettings
from service.app import create_app
from service.jobs.submissions import JobForm, JobSettings
from tests.service.conftest import Api

# Names of methods in generated clients: they never change.
OPERATIONS = [
    "create_job", "list_jobs", "get_job", "delete_job", "cancel_job", "retry_job", "follow_job",
    "describe_protocol", "create_upload", "describe_protocol_of_upload", "look_at_offset", "send_bytes",
    "delete_upload", "override_method", "get_upload", "get_part_addresses", "complete_upload",
    "create_batch", "list_batches", "get_batch",
    "delete_batch", "cancel_batch", "list_batch_results", "download_batch_results", "get_content",
    "get_source", "get_report", "get_stream", "get_hls_playlist", "get_hls_video", "get_hls_audio",
    "get_segment", "get_audio", "get_preview", "deliver_job", "estimate_job", "list_models",
    "list_job_deliveries",
    "list_batch_deliveries", "get_delivery", "redeliver_webhook", "get_webhook_secret",
    "rotate_webhook_secret", "list_keys", "create_key", "get_key", "change_key", "revoke_key", "get_health",
    "get_readiness", "get_metrics", "get_me", "start_session", "end_session",
]  # fmt: skip


@pytest.fixture(scope="module")
def document() -> Any:
    return create_app(ServiceSettings(), uses_keys=True).openapi()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_document_is_valid_and_its_operations_keep_their_names(document: Any) -> None:
    validate(document)
    names = Counter(operation["operationId"] for _, operation in operations(document))
    assert names == Counter(OPERATIONS)


def form_of(document: Any, path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]


def test_forms_have_every_option_and_setting(document: Any) -> None:
    options = set(JobOptions.model_fields)
    job, batch = form_of(document, "/v1/jobs"), form_of(document, "/v1/batches")
    assert set(job["properties"]) == {"file", "request"} | options | set(JobForm.model_fields) - {"options"}
    assert set(batch["properties"]) == {"file", "request"} | options | set(JobSettings.model_fields) - {
        "options"
    }
    assert job["properties"]["codec"]["enum"] == ["auto", "h264", "h265", "av1", "vp9"]
    assert job["properties"]["crf"]["maximum"] == 63
    assert "null" not in str(job["properties"]["crf"].get("anyOf", ""))


def test_a_form_with_a_field_for_each_option_is_taken(api: Api) -> None:
    """Every field of the description is known, so that the video is what is wrong."""
    fields = dict.fromkeys(form_of(api.http.get("/openapi.json").json(), "/v1/jobs")["properties"], "")
    del fields["file"], fields["request"]
    given = {"priority": "low", "labels": "{}", "metadata": "{}", "webhook": '{"url": "http://localhost/"}'}
    fields |= given | {"codec": "av1", "crf": "30", "container": "mkv", "encoder": "software"}
    fields |= dict.fromkeys(("keep_matrix", "detect_cuts", "keep_gaps", "force"), "true")
    answer = api.http.post("/v1/jobs", data=fields, files={"file": ("a.mp4", b"no video")})
    assert answer.status_code == 415, answer.text


def test_operations_say_which_scope_they_need(document: Any) -> None:
    needed = {name: operation["security"] for name, operation in operations(document)}
    assert (
        needed["get /v1/jobs/{job_id}"] == needed["get /v1/jobs/{job_id}/content"] == [{"key": ["jobs:read"]}]
    )
    assert needed["post /v1/jobs"] == [{"key": ["jobs:write"]}]
    assert needed["post /v1/batches/{batch_id}/cancel"] == [{"key": ["jobs:read", "jobs:write"]}]
    assert needed["post /v1/keys"] == [{"key": ["admin"]}]
    assert needed["get /metrics"] == [{"key": ["metrics:read"]}]
    assert needed["get /v1/me"] == [{"key": []}]
    assert needed["get /healthz"] == []
    local = create_app(ServiceSettings(), uses_keys=False).openapi()
    assert local["paths"]["/v1/jobs"]["post"]["security"] == [{"key": ["jobs:write"]}, {}]


def test_events_that_are_posted_are_described_with_their_payload_and_headers(document: Any) -> None:
    webhooks = document["webhooks"]
    assert set(webhooks) == {
        *("job.started", "job.completed", "job.failed", "job.cancelled", "job.delivered", "job.undelivered"),
        "batch.completed",
    }
    for event, subject in (("job.completed", "Job"), ("batch.completed", "Batch")):
        operation = webhooks[event]["post"]
        headers = {parameter["name"]: parameter["in"] for parameter in operation["parameters"]}
        assert headers == dict.fromkeys(("webhook-id", "webhook-timestamp", "webhook-signature"), "header")
        body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][body]
        assert schema["properties"]["data"]["$ref"].endswith(f"/{subject}Schema")


def test_headers_of_answers_are_described(document: Any) -> None:
    answers = {name: operation["responses"] for name, operation in operations(document)}
    assert {"Location", "Retry-After"} <= answers["post /v1/jobs"]["202"]["headers"].keys()
    assert {"ETag", "Retry-After"} <= answers["get /v1/jobs/{job_id}"]["304"]["headers"].keys()
    assert "Location" in answers["post /v1/uploads"]["201"]["headers"]
    limits = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}
    public = {name for name, operation in operations(document) if operation["security"] == []}
    for name, found in answers.items():
        assert all("X-Request-Id" in answer["headers"] for answer in found.values()), name
        assert "429" not in found or "Retry-After" in found["429"]["headers"], name
        for status, answer in found.items():
            is_counted = name not in public and status != "401"
            assert (limits <= answer["headers"].keys()) is is_counted, (name, status)
