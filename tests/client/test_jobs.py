from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from dovetail_client import (
    ConflictError,
    Dovetail,
    InvalidRequestError,
    JobStatus,
    NotFoundError,
    Priority,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from tests.client.fake_service import KEY, FakeService


def test_a_file_becomes_a_job_with_everything_that_was_asked(client: Any, video: Path) -> None:
    job = client.submit(
        video,
        scale=2,
        model="bicubic",
        crf=20,
        priority="high",
        labels={"show": "one"},
        metadata={"row": 7, "tags": ["a"]},
        webhook="https://example.org/hook",
    )
    assert job.status is JobStatus.QUEUED
    assert job.priority is Priority.HIGH
    assert (job.options["scale"], job.options["model"], job.options["crf"]) == (2, "bicubic", 20)
    assert (job.labels, job.metadata) == ({"show": "one"}, {"row": 7, "tags": ["a"]})
    assert (job.input.filename, job.input.size_bytes) == ("clip.mkv", video.stat().st_size)


def test_small_files_go_in_one_request_and_large_ones_in_chunks(
    client: Any, service: FakeService, video: Path, tmp_path: Path
) -> None:
    client.submit(video)
    assert service.requests == [("POST", "/v1/jobs")]
    large = tmp_path / "large.mov"
    large.write_bytes(video.read_bytes() * 3)
    told: list[tuple[int, int]] = []
    job = client.submit(large, on_progress=lambda *moment: told.append(moment))
    assert service.num_requests("PATCH", "/v1/uploads/") == 2
    assert job.input.filename == "large.mov"
    assert service.jobs[job.id]["data"].read_bytes() == large.read_bytes()
    size = large.stat().st_size
    assert told == [(0, size), (8 * 2**20, size), (size, size)]


def test_every_kind_of_source_is_taken(client: Any, service: FakeService, video: Path) -> None:
    data = video.read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with video.open("rb") as file:
        sources = [str(video), file, io.BytesIO(data), Pipe(data * 3), client.upload(video)]
        jobs = [client.submit(source, filename="name.mp4") for source in sources]
    sent = [service.jobs[job.id]["data"].read_bytes() for job in jobs]
    assert sent == [data, data, data, data * 3, data]
    assert {job.input.filename for job in jobs} == {"name.mp4"}
    by_id = client.submit(client.upload(video).id)
    assert service.jobs[by_id.id]["data"].read_bytes() == data
    by_url = client.submit("https://example.org/a/film.mp4")
    assert service.jobs[by_url.id]["data"].read_text() == "https://example.org/a/film.mp4"


def test_an_open_file_is_sent_from_its_place_and_stays_open(
    client: Any, service: FakeService, video: Path
) -> None:
    with video.open("rb") as file:
        file.seek(1000)
        job = client.submit(file)
        assert not file.closed
    assert service.jobs[job.id]["data"].read_bytes() == video.read_bytes()[1000:]


def test_lists_are_paged_to_their_end_and_not_further(client: Any, service: FakeService) -> None:
    made = [client.submit(f"https://example.org/{n}", labels={"odd": str(n % 2)}).id for n in range(130)]
    assert [job.id for job in client.list(order="asc")] == sorted(made)
    assert service.num_requests("GET", "/v1/jobs") == 2
    assert [job.id for job in client.list(limit=3)] == sorted(made)[:-4:-1]
    assert len(list(client.list(labels={"odd": "1"}))) == 65
    assert list(client.list(status=["failed", JobStatus.CANCELLED])) == []


def test_a_list_asks_for_a_page_only_when_one_comes_to_it(client: Any, service: FakeService) -> None:
    for n in range(101):
        client.submit(f"https://example.org/{n}")
    jobs = client.list()
    next(jobs)
    assert service.num_requests("GET", "/v1/jobs") == 1
    jobs.close()


def test_lists_go_on_behind_pages_without_jobs(client: Any, video: Path) -> None:
    ids = [client.submit(video, labels={"n": str(number)}).id for number in range(3)]
    # The service looks at as many jobs as are asked for, so the first pages are empty.
    assert [job.id for job in client.list(labels={"n": "0"}, limit=1)] == ids[:1]


def test_jobs_are_cancelled_retried_and_deleted(client: Any, video: Path) -> None:
    job = client.submit(video)
    assert client.cancel(job).status is JobStatus.CANCELLED
    with pytest.raises(ConflictError, match="is final") as caught:
        client.cancel(job.id)
    assert (caught.value.status, caught.value.code) == (409, "wrong_state")
    assert client.retry(job).status is JobStatus.QUEUED
    client.delete(job)
    with pytest.raises(NotFoundError, match="there is no job"):
        client.get(job)


def test_a_refusal_says_what_was_wrong_and_whom_to_ask(client: Any, video: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"options\.crf") as caught:
        client.submit(video, crf=99)
    error = caught.value
    assert (error.status, error.code, error.title) == (422, "invalid_request", "It did not work")
    assert error.request_id == "req_1"


def test_options_with_typing_errors_never_leave_the_machine(client: Any, service: FakeService) -> None:
    with pytest.raises(TypeError, match="no option scal; there are model, scale"):
        client.submit("https://example.org/a", scal=2)
    with pytest.raises(ValueError, match="is no id"):
        client.get("../me")
    with pytest.raises(TypeError, match="an estimate takes"):
        client.estimate("clip.mp4", scale=2)
    assert service.requests == []


def test_models_estimates_and_the_account_are_values(client: Any) -> None:
    (model,) = client.models()
    assert (model.id, model.scale, model.is_default) == ("bicubic", 2, True)
    estimate = client.estimate({"width": 100, "height": 50, "num_frames": 8}, scale=3)
    assert estimate.output is not None
    assert (estimate.frames, estimate.output.width, estimate.output.height) == (8, 300, 150)
    assert client.me().owner == "me"


def test_words_of_a_newer_service_do_not_break_an_older_client(client: Any, service: FakeService) -> None:
    job = client.submit("https://example.org/a")
    service.app.is_checked = False
    service.change(job.id, "status", status="pondering", stage="dreaming", mood="good")
    service.position[job.id] = 1
    found = client.get(job)
    assert (found.status, found.stage) == (JobStatus.UNKNOWN, "unknown")
    assert found.model_extra["mood"] == "good"


def test_batches_are_made_waited_for_and_downloaded(
    client: Any, service: FakeService, video: Path, tmp_path: Path, time: Any
) -> None:
    twin = tmp_path / "other" / "clip.mov"
    twin.parent.mkdir()
    twin.write_bytes(b"twin")
    own = {"source": {"type": "url", "url": "https://example.org/film.mp4"}, "options": {"scale": 3}}
    batch = client.create_batch([video, twin, own], model="bicubic", labels={"a": "b"})
    assert batch.counts.total == 3
    options = [job.options for job in client.list(order="asc")]
    assert [(found["model"], found["scale"]) for found in options] == [
        ("bicubic", None), ("bicubic", None), (None, 3),
    ]  # fmt: skip
    updates: list[float] = []
    done = client.wait_batch(batch, on_update=lambda news: updates.append(news.counts.completed))
    assert (done.status, done.counts.completed) == ("completed", 3)
    assert updates[-1] == 3
    assert set(time.slept) == {3.0}
    paths = client.download_batch(batch, tmp_path / "results")
    results = client.batch_results(batch)
    names = [f"clip-{results[0].job_id}.mp4", f"clip-{results[1].job_id}.mp4", "film.mp4"]
    assert [path.name for path in paths] == names
    assert [path.read_bytes() for path in paths[:2]] == [video.read_bytes(), b"twin"]
    assert [found.id for found in client.list_batches()] == [batch.id]
    client.delete_batch(batch)
    with pytest.raises(NotFoundError):
        client.get_batch(batch)


def test_a_batch_can_be_cancelled(client: Any) -> None:
    batch = client.create_batch(["https://example.org/a", "https://example.org/b"])
    assert client.cancel_batch(batch).counts.cancelled == 2


def test_address_and_key_come_from_the_environment(
    url: str, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_URL", url)
    monkeypatch.setenv("DOVETAIL_API_KEY", KEY)
    with Dovetail() as client:
        assert client.me().owner == "me"
    with Dovetail(api_key="dv_other") as client, pytest.raises(UnauthorizedError, match="no such key"):
        client.me()


@pytest.mark.parametrize("wrong", ["localhost:8000", "ftp://host", "http://", "http://host?x=1"])
def test_what_is_no_address_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(ValueError, match="it looks like http"):
        Dovetail(wrong)


def test_a_key_with_a_line_break_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="line break") as caught:
        Dovetail(url, api_key="dv_secret\n")
    assert "secret" not in str(caught.value)


def test_a_page_of_something_else_is_recognized(client: Any, service: FakeService) -> None:
    job = client.submit("https://example.org/a")
    service.has_events = service.app.is_checked = False
    with pytest.raises(UnexpectedAnswerError, match="expected a stream of events, received text/html"):
        next(client.events(job))
