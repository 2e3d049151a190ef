"""The Python client against the API: what the small service of its own tests has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dovetail_client import (
    AsyncDovetail,
    ConflictError,
    ConnectionFailedError,
    Dovetail,
    ForbiddenError,
    TransferError,
    UnauthorizedError,
)
from jobs.api_keys import Scope
from jobs.embedded_redis import free_port
from jobs.settings import ServiceSettings
from tests.client.conftest import BlockingFace
from tests.client.faults import Fault, FaultyProxy, faulty_proxy
from tests.s3_server import s3_server, s3_url
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import complete, make_job
from tests.service.origin import Answer, running_origin

__all__ = ["s3_server", "s3_url"]

PART = 8 << 20


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Any:
    """Makes either of the two clients."""

    async def no_sleep(_: float) -> None:
        return

    def make(url: str, header: dict[str, str] | None = None) -> Any:
        api_key = header and header["Authorization"].removeprefix("Bearer ")
        if request.param == "sync":
            client = Dovetail(url, api_key=api_key, sleep=lambda _: None)
            request.addfinalizer(client.close)
            return client
        made = BlockingFace(AsyncDovetail(url, api_key=api_key, sleep=no_sleep))
        request.addfinalizer(made.shut)
        return made

    return make


@pytest.fixture
def large_clip(clip: Path, tmp_path: Path) -> Path:
    """A video of three parts, the rest of which is an empty box."""
    padding = 2 * PART
    path = tmp_path / "large.mp4"
    path.write_bytes(clip.read_bytes() + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding))
    return path


@pytest.fixture
def storage(s3_server: str) -> Iterator[FaultyProxy]:
    """The customers' way to the storage."""
    port = urlsplit(s3_server).port
    assert port is not None
    with faulty_proxy(port) as proxy:
        yield proxy


def with_storage(settings: ServiceSettings, s3_url: str, port: int) -> ServiceSettings:
    update = {"storage_url": s3_url, "storage_public_endpoint": f"http://127.0.0.1:{port}"}
    return settings.model_copy(update=update)


@pytest.fixture
def s3_api(settings: ServiceSettings, s3_url: str, storage: FaultyProxy) -> Iterator[Api]:
    with running_api(with_storage(settings, s3_url, storage.port)) as api:
        yield api


def stored(api: Api, upload_id: str) -> bytes:
    return api.context.storage.get_bytes(f"uploads/{upload_id}")


def test_a_large_file_goes_straight_to_the_storage(s3_api: Api, face: Any, large_clip: Path) -> None:
    told: list[int] = []
    upload = face(s3_api.url).upload(large_clip, on_progress=lambda done, _: told.append(done))
    assert upload.status == "completed"
    assert told == [0, PART, 2 * PART, large_clip.stat().st_size]
    assert stored(s3_api, upload.id) == large_clip.read_bytes()


@pytest.mark.parametrize("kind", ["cut_request", "cut_answer"])
def test_a_part_that_breaks_is_sent_again(
    s3_api: Api, storage: FaultyProxy, face: Any, large_clip: Path, kind: Any
) -> None:
    storage.faults = [Fault(kind, "PUT", after_bytes=100)]
    upload = face(s3_api.url).upload(large_clip)
    assert storage.faults == []
    assert stored(s3_api, upload.id) == large_clip.read_bytes()


def test_an_upload_goes_on_with_the_parts_that_are_missing(s3_api: Api, face: Any, large_clip: Path) -> None:
    saved: list[str] = []

    class StoppedError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done:
            raise StoppedError

    client = face(s3_api.url)
    with pytest.raises(StoppedError):
        client.upload(large_clip, on_created=saved.append, on_progress=stop)
    told: list[int] = []
    upload = client.upload(large_clip, resume=saved[0], on_progress=lambda done, _: told.append(done))
    assert told == [PART, 2 * PART, large_clip.stat().st_size]
    assert stored(s3_api, upload.id) == large_clip.read_bytes()
    assert client.upload(large_clip, resume=upload).id == upload.id


def test_a_storage_that_stays_away_is_an_error_of_the_connection(
    s3_api: Api, storage: FaultyProxy, face: Any, large_clip: Path
) -> None:
    storage.faults = [Fault("cut_request", "PUT", after_bytes=100) for _ in range(20)]
    with pytest.raises(ConnectionFailedError) as caught:
        face(s3_api.url).upload(large_clip)
    assert "Signature" not in str(caught.value)
    assert len(storage.happened) == 6


def test_a_storage_that_customers_cannot_reach_gets_the_bytes_from_the_service(
    settings: ServiceSettings, s3_url: str, face: Any, large_clip: Path
) -> None:
    with running_api(with_storage(settings, s3_url, free_port())) as api:
        saved: list[str] = []
        upload = face(api.url).upload(large_clip, on_created=saved.append)
        assert saved == [f"/v1/uploads/{upload.id}"]
        assert stored(api, upload.id) == large_clip.read_bytes()


def test_a_file_that_shrinks_is_told(s3_api: Api, face: Any, large_clip: Path) -> None:
    def shrink(done: int, _: int) -> None:
        if done == PART:
            with large_clip.open("r+b") as file:
                file.truncate(PART + 5)

    with pytest.raises(TransferError, match="has become shorter than"):
        face(s3_api.url).upload(large_clip, on_progress=shrink)


def test_the_key_is_not_told_to_the_storage(
    settings: ServiceSettings, s3_url: str, face: Any, large_clip: Path
) -> None:
    with (
        running_origin(lambda _: Answer(403)) as origin,
        running_api(with_storage(settings, s3_url, origin.port), uses_keys=True) as api,
    ):
        _, header = api.make_key()
        with pytest.raises(ForbiddenError):
            face(api.url, header).submit(large_clip)
    assert [asked.method for asked in origin.asked] == ["PUT"] * 6
    assert all("Authorization" not in asked.headers for asked in origin.asked)
    assert all("Content-Md5" in {name.title() for name in asked.headers} for asked in origin.asked)


def test_a_result_is_delivered_when_asked_for(api: Api, face: Any) -> None:
    job_id = make_job(api.context).id
    complete(api.context, job_id, b"result")
    client = face(api.url)
    assert client.get(job_id).delivery is None
    with pytest.raises(ConflictError, match="give deliver_to"):
        client.deliver(job_id)
    with running_origin(lambda _: Answer()) as target:
        for count, url in enumerate((f"{target.url}/a?secret", None), 1):
            assert client.deliver(job_id, url).delivery.url == f"{target.url}/a"
            wait_until(lambda: client.get(job_id).delivery.status == "delivered")
            assert [asked.body for asked in target.asked] == [b"result"] * count


def test_keys_are_made_listed_and_revoked(api_with_keys: Api, face: Any) -> None:
    _, header = api_with_keys.make_key(Scope.ADMIN)
    admin = face(api_with_keys.url, header)
    made = admin.keys.create("archive", scopes=["jobs:read"], limits={"max_unfinished_jobs": 3})
    assert (made.name, made.scopes, made.limits["max_unfinished_jobs"]) == ("archive", ("jobs:read",), 3)
    assert made.secret not in repr(made)
    assert [key.name for key in admin.keys.list()] == ["test", "archive"]
    reader = face(api_with_keys.url, {"Authorization": made.secret})
    with pytest.raises(ForbiddenError):
        reader.keys.list()
    admin.keys.revoke(made)
    assert [key.name for key in admin.keys.list()] == ["test"]
    with pytest.raises(UnauthorizedError):
        face(api_with_keys.url, {"Authorization": "dv_unknown"}).keys.create("x")
