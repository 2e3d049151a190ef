"""Both clients against `dovetail serve`, over a network that breaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.installation import Installation
from dovetail_client import (
    APIError,
    AsyncDovetail,
    Dovetail,
    IdempotencyConflictError,
    InvalidRequestError,
    JobCancelledError,
    NotAVideoError,
    NotFoundError,
)
from tests.client.conftest import BlockingFace
from tests.client.faults import Fault, FaultyProxy, faulty_proxy

pytestmark = pytest.mark.slow

BICUBIC: dict[str, Any] = {"model": "bicubic", "scale": 2, "preset": "ultrafast"}
PADDING_BYTES = 12 * 2**20


@pytest.fixture(scope="module")
def large_clip(clip: Path) -> Path:
    """The same with an empty box at its end, too large for one request."""
    path = clip.with_name("large.mp4")
    box = (PADDING_BYTES + 8).to_bytes(4, "big") + b"free" + bytes(PADDING_BYTES)
    path.write_bytes(clip.read_bytes() + box)
    return path


@pytest.fixture(scope="module")
def network(installation: Installation) -> Iterator[FaultyProxy]:
    """The way to the installation."""
    port = urlsplit(installation.url).port
    assert port is not None
    with faulty_proxy(port) as proxy:
        yield proxy


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, network: FaultyProxy) -> Iterator[Any]:
    """Each of the two clients."""
    url = f"http://127.0.0.1:{network.port}"
    if request.param == "sync":
        with Dovetail(url) as blocking:
            yield blocking
    else:
        face = BlockingFace(AsyncDovetail(url))
        yield face
        face.shut()


def test_a_job_survives_every_break_on_its_way(
    client: Any, network: FaultyProxy, large_clip: Path, tmp_path: Path
) -> None:
    num_before = len(list(client.list()))
    network.faults = [
        Fault("cut_request", "PATCH", after_bytes=3_000_000),
        Fault("change_request", "PATCH", after_bytes=1_000_000),
        Fault("cut_answer", "PATCH"),
        Fault("cut_answer", "POST", "/v1/jobs"),
    ]
    job = client.submit(large_clip, labels={"test": "breaks"}, **BICUBIC)
    assert network.faults == []
    assert len(list(client.list())) == num_before + 1
    assert job.input.size_bytes == large_clip.stat().st_size
    network.faults = [Fault("cut_answer", "GET", f"/v1/jobs/{job.id}/events")]
    done = client.wait(job, timeout=240)
    assert done.output is not None
    assert done.processed_frames == done.total_frames == done.output.num_frames
    content = f"/v1/jobs/{job.id}/content"
    network.faults = [Fault("cut_answer", "GET", content, after_bytes=done.output.size_bytes // 2)]
    path = client.download(job, tmp_path)
    assert network.faults == []
    assert hashlib.sha256(path.read_bytes()).hexdigest() == done.output.sha256
    assert [event.type for event in client.events(job)][-1] == "completed"
    client.delete(job)
    with pytest.raises(NotFoundError):
        client.get(job)


def test_an_upload_goes_on_by_its_url(client: Any, large_clip: Path) -> None:
    saved: list[str] = []

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise StoppedError

    with pytest.raises(StoppedError):
        client.upload(large_clip, on_created=saved.append, on_progress=stop)
    upload = client.upload(large_clip, resume=saved[0])
    assert (upload.status, upload.offset) == ("completed", large_clip.stat().st_size)
    client.delete_upload(upload)
    with pytest.raises(NotFoundError):
        client.upload(large_clip, resume=upload)


def test_refusals_have_their_classes(client: Any, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(NotAVideoError):
        client.submit(text)
    with pytest.raises(InvalidRequestError, match="crf 60 is outside 0-51"):
        client.submit(clip, crf=60)
    with pytest.raises(APIError) as caught:
        client.submit("http://127.0.0.1/clip.mp4")
    assert caught.value.code == "source_refused"


def test_a_key_of_ones_own_makes_one_job(client: Any, clip: Path, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    first = client.submit(clip, idempotency_key=key, **BICUBIC)
    assert client.submit(clip, idempotency_key=key, **BICUBIC).id == first.id
    with pytest.raises(IdempotencyConflictError):
        client.submit(clip, idempotency_key=key, model="lanczos")


def test_a_job_is_cancelled_and_retried(client: Any, clip: Path) -> None:
    job = client.submit(clip, model="bicubic", scale=8)
    client.cancel(job)
    with pytest.raises(JobCancelledError):
        client.wait(job, timeout=120)
    client.retry(job)
    assert client.wait(job, timeout=240, use_events=False).status == "completed"


def test_models_estimates_and_the_account_are_understood(client: Any) -> None:
    assert "bicubic" in {model.id for model in client.models()}
    facts = {"width": 640, "height": 360, "frame_rate": 25, "duration_seconds": 10}
    estimate = client.estimate(facts, model="bicubic", scale=2)
    assert estimate.frames == 250
    assert estimate.output is not None
    assert (estimate.output.width, estimate.output.height) == (1280, 720)
    assert client.me().owner == "local"
