from __future__ import annotations

from typing import Any

import pytest

from dovetail_client import (
    JobCancelledError,
    JobEvent,
    JobFailedError,
    JobStatus,
    NotFoundError,
    WaitTimeoutError,
)
from dovetail_client._events import EventDecoder
from tests.client.conftest import Time
from tests.client.fake_service import FakeService
from tests.client.faults import Fault, FaultyProxy, refusal

URL = "https://example.org/a"
TYPES = ["status", "status", "progress", "segment", "status", "completed"]


def test_events_come_in_order_until_the_final_one(client: Any) -> None:
    job = client.submit(URL)
    events = list(client.events(job))
    assert [event.type for event in events] == TYPES
    assert [event.job.processed_frames for event in events] == [0, 0, 10, 20, 30, 30]
    rest = list(client.events(job, last_event_id=events[2].id))
    assert rest == events[3:]


def test_events_that_a_broken_connection_swallowed_are_caught_up(
    client: Any, service: FakeService, network: FaultyProxy, time: Time
) -> None:
    job = client.submit(URL)
    path = f"/v1/jobs/{job.id}/events"
    network.faults = [Fault("cut_answer", "GET", path, after_bytes=3000)]
    assert [event.type for event in client.events(job)] == TYPES
    assert network.faults == []
    assert service.num_requests("GET", path) == 2
    assert len(time.slept) == 1
    lasts = [headers.get("last-event-id") for headers in service.headers]
    assert lasts[-1] is None or lasts[-1].endswith("-0")


def test_a_stream_that_breaks_within_an_event_goes_on_after_the_last_whole_one(
    client: Any, service: FakeService, network: FaultyProxy
) -> None:
    job = client.submit(URL)
    service.is_held = True
    events = client.events(job)
    seen = [next(events) for _ in range(3)]
    # The connection that is open now ends; what comes next must come after the third event.
    network.faults = [refusal("GET", f"/v1/jobs/{job.id}/events", 503, retry_after="1")]
    service.jobs.pop(job.id)  # ends the stream
    service.jobs[job.id] = {"data": None, "key": None}
    service.is_held = False
    seen += list(events)
    assert [event.type for event in seen] == TYPES


def test_leaving_events_early_ends_the_connection(client: Any, service: FakeService) -> None:
    service.is_held = True
    job = client.submit(URL)
    events = client.events(job)
    assert next(events).type == "status"
    events.close()
    assert client.get(job).id == job.id


def test_waiting_listens_and_tells_every_change(client: Any, service: FakeService, time: Time) -> None:
    job = client.submit(URL)
    told: list[tuple[str, int]] = []
    done = client.wait(job, on_update=lambda news: told.append((news.status, news.processed_frames)))
    assert done.status is JobStatus.COMPLETED
    assert done.output is not None
    assert told[0] == ("queued", 0)
    assert told[-1] == ("completed", 30)
    assert ("in_progress", 20) in told
    assert service.num_requests("GET", f"/v1/jobs/{job.id}/events") == 1
    assert sum(time.slept) == 0


@pytest.mark.parametrize("how", ["no stream", "an error", "a broken line", "not wanted"])
def test_waiting_asks_where_it_cannot_listen(
    client: Any, service: FakeService, network: FaultyProxy, time: Time, how: str
) -> None:
    job = client.submit(URL)
    path = f"/v1/jobs/{job.id}/events"
    if how == "no stream":
        service.has_events = service.app.is_checked = False
    elif how == "an error":
        network.faults = [refusal("GET", path, 404, code="not_found")]
    elif how == "a broken line":
        network.faults = [Fault("cut_answer", "GET", path) for _ in range(6)]
    done = client.wait(job, use_events=how != "not wanted")
    assert done.status is JobStatus.COMPLETED
    assert time.slept[-1] == 3.0  # what Retry-After says


def test_an_unchanged_job_is_asked_for_without_a_body(client: Any, service: FakeService, time: Time) -> None:
    service.is_held = True
    job = client.submit(URL)
    told: list[Any] = []
    with pytest.raises(WaitTimeoutError, match="is still in_progress after 20 s; it goes on") as caught:
        client.wait(job, timeout=20, on_update=told.append)
    assert caught.value.last.processed_frames == 10
    assert time.slept == [3, 3, 3, 3, 3, 3, 2]
    assert len(told) == 3
    assert "if-none-match" in service.headers[-1]


def test_a_failed_job_says_why(client: Any) -> None:
    job = client.submit(URL, metadata={"fail": "no_video"})
    with pytest.raises(JobFailedError, match="failed: it is broken") as caught:
        client.wait(job)
    assert caught.value.code == "no_video"
    assert caught.value.job.status is JobStatus.FAILED


def test_a_job_that_another_one_cancels_ends_the_wait(client: Any) -> None:
    job = client.submit(URL)
    client.cancel(job)
    with pytest.raises(JobCancelledError, match="was cancelled"):
        client.wait(job)


def test_a_job_that_failed_before_and_runs_again_is_waited_for(client: Any, service: FakeService) -> None:
    job = client.submit(URL, metadata={"fail": "worker_crashed"})
    moments = service.moments[job.id]
    second = [(event, dict(state)) for event, state in moments[1:-1]]
    done = {**moments[0][1], "status": "completed"}
    service.moments[job.id] = [*moments, *second, ("completed", done)]
    service.position[job.id] = len(moments)
    assert client.wait(job).status is JobStatus.COMPLETED
    assert service.num_requests("GET", f"/v1/jobs/{job.id}/events") == 2


def test_waiting_for_nothing_is_an_error(client: Any) -> None:
    with pytest.raises(NotFoundError):
        client.wait("job_01k00000000000000000000000")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_are_decoded_from_pieces_of_any_size(end: bytes) -> None:
    lines = [
        b": ping",
        b"",
        b"id: 1-0",
        b"event: status",
        b"data: {",
        b"data:}",
        b"",
        b"data: {}",
        b"",
        b"id: 9",
    ]
    stream = end.join(lines) + end
    expected = [JobEvent(id="1-0", type="status"), JobEvent(id="1-0", type="message")]
    for size in (1, 2, 7, 1000):
        decoder = EventDecoder()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [event for piece in pieces for event in decoder.feed(piece)] == expected
