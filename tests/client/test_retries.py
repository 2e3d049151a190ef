from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from dovetail_client import (
    APIError,
    AsyncDovetail,
    ConnectionFailedError,
    Dovetail,
    QueueFullError,
    RateLimitedError,
    UnavailableError,
)
from dovetail_client._retries import CAP_SECONDS, backoff_seconds
from dovetail_client.errors import NotReadyError, error_class
from tests.client.conftest import Time
from tests.client.fake_service import KEY, FakeService
from tests.client.faults import Fault, FaultyProxy, refusal


def test_a_submission_whose_answer_is_lost_is_repeated_and_makes_one_job(
    client: Any, service: FakeService, network: FaultyProxy, video: Path
) -> None:
    network.faults = [Fault("cut_answer", "POST", "/v1/jobs")]
    job = client.submit(video, scale=2)
    assert service.requests == [("POST", "/v1/jobs")] * 2
    assert list(service.jobs) == [job.id]


def test_two_submissions_have_different_keys_and_one_may_bring_its_own(
    client: Any, service: FakeService, video: Path
) -> None:
    assert client.submit(video).id != client.submit(video).id
    source = "https://example.org/a"
    first = client.submit(source, idempotency_key="mine")
    assert client.submit(source, idempotency_key="mine").id == first.id
    with pytest.raises(APIError, match="another request"):
        client.submit(source, idempotency_key="mine", scale=3)


def test_retry_after_is_honoured(client: Any, network: FaultyProxy, time: Time) -> None:
    network.faults = [
        refusal("GET", "/v1/me", 429, code="rate_limited", retry_after="7"),
        refusal("GET", "/v1/me", 503, retry_after="11"),
    ]
    assert client.me().owner == "me"
    assert [7 <= time.slept[0] < 8, 11 <= time.slept[1] <= 12.1, len(time.slept)] == [True, True, 2]


def test_a_date_is_understood_as_retry_after(client: Any, network: FaultyProxy, time: Time) -> None:
    network.faults = [refusal("GET", "/v1/me", 503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")]
    assert client.me().owner == "me"
    assert time.slept == [0]


def test_without_retry_after_pauses_grow(client: Any, network: FaultyProxy, time: Time) -> None:
    network.faults = [refusal("GET", "/v1/me", status) for status in (502, 503, 504, 502)]
    assert client.me().owner == "me"
    for seconds, longest in zip(time.slept, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= seconds <= longest


def test_pauses_have_a_limit() -> None:
    assert CAP_SECONDS / 2 <= backoff_seconds(5000) <= CAP_SECONDS


def test_patience_ends(client: Any, network: FaultyProxy, time: Time) -> None:
    network.faults = [refusal("GET", "/v1/me", 503, code="queue_full", retry_after="1") for _ in range(9)]
    with pytest.raises(QueueFullError, match="come back later") as caught:
        client.me()
    assert caught.value.retry_after_seconds == 1
    assert len(network.happened) == 6
    assert len(time.slept) == 5


def test_a_service_that_asks_for_an_hour_is_not_waited_for(
    client: Any, network: FaultyProxy, time: Time
) -> None:
    network.faults = [refusal("GET", "/v1/me", 429, code="quota_exceeded", retry_after="3600")]
    with pytest.raises(RateLimitedError) as caught:
        client.me()
    assert caught.value.retry_after_seconds == 3600
    assert time.slept == []


def test_what_could_happen_twice_is_not_repeated(
    client: Any, service: FakeService, network: FaultyProxy, time: Time
) -> None:
    job = client.submit("https://example.org/a")
    network.faults = [refusal("POST", f"/v1/jobs/{job.id}/cancel", 503)]
    with pytest.raises(UnavailableError):
        client.cancel(job)
    network.faults = [Fault("cut_answer", "POST", f"/v1/jobs/{job.id}/cancel")]
    with pytest.raises(ConnectionFailedError, match="lost the connection to"):
        client.cancel(job)
    assert time.slept == []
    assert service.num_requests("POST", f"/v1/jobs/{job.id}/cancel") == 1


def test_a_request_that_was_turned_away_unread_is_repeated(
    client: Any, network: FaultyProxy, time: Time
) -> None:
    job = client.submit("https://example.org/a")
    network.faults = [refusal("POST", f"/v1/jobs/{job.id}/cancel", 429, retry_after="2")]
    assert client.cancel(job).status == "cancelled"
    assert len(time.slept) == 1


def test_a_deletion_whose_answer_is_lost_has_happened(
    client: Any, service: FakeService, network: FaultyProxy
) -> None:
    job = client.submit("https://example.org/a")
    network.faults = [Fault("cut_answer", "DELETE")]
    client.delete(job)
    assert service.jobs == {}
    with pytest.raises(APIError, match="there is no job"):
        client.delete(job)


def test_an_attempt_that_is_still_at_work_is_waited_for(
    client: Any, network: FaultyProxy, time: Time
) -> None:
    network.faults = [refusal("POST", "/v1/jobs", 409, code="idempotency_in_progress", retry_after="1")]
    assert client.submit("https://example.org/a").status == "queued"
    assert len(time.slept) == 1


def test_a_service_that_is_not_there_is_named(time: Time) -> None:
    with (
        Dovetail("http://127.0.0.1:1", api_key=KEY, sleep=time.sleep, max_retries=2) as client,
        pytest.raises(ConnectionFailedError, match=r"cannot reach http://127\.0\.0\.1:1/v1/me") as caught,
    ):
        client.me()
    assert caught.value.is_unsent
    assert len(time.slept) == 2


def test_errors_have_classes_of_their_own_by_code_before_status() -> None:
    assert error_class(409, "not_ready") is NotReadyError
    assert error_class(503, "something_new") is UnavailableError
    assert error_class(418, "teapot") is APIError


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    def public(kind: type) -> dict[str, Any]:
        return {
            name: inspect.signature(method).parameters.keys()
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(Dovetail) == public(AsyncDovetail)
    for name in public(Dovetail):
        documented, brief = (inspect.getdoc(getattr(kind, name)) or "" for kind in (Dovetail, AsyncDovetail))
        assert brief
        assert documented.startswith(brief)
