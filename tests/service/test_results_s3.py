"""Results from S3: the same ranges and headers as from a folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.settings import ServiceSettings
from tests.s3_server import s3_server, s3_url
from tests.service.conftest import Api, running_api
from tests.service.made import make_job

__all__ = ["s3_server", "s3_url"]

CONTENT = bytes(range(256)) * 20_000


@pytest.fixture
def api(settings: ServiceSettings, s3_url: str) -> Iterator[Api]:
    """The API with its storage in S3."""
    with running_api(settings.model_copy(update={"storage_url": s3_url})) as running:
        yield running


def test_file_in_s3_comes_whole_and_in_ranges(api: Api) -> None:
    path = f"/v1/jobs/{make_job(api.context, source=CONTENT).id}/source"
    whole = api.http.get(path)
    assert whole.content == CONTENT
    assert whole.headers["accept-ranges"] == "bytes"
    part = api.http.get(path, headers={"Range": "bytes=1000000-2999999"})
    assert (part.status_code, part.content) == (206, CONTENT[1_000_000:3_000_000])
    several = api.http.get(path, headers={"Range": "bytes=0-1,10-11"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert api.http.head(path).headers["content-length"] == str(len(CONTENT))
    assert api.http.get(path, headers={"Range": f"bytes={len(CONTENT)}-"}).status_code == 416


def test_object_that_was_removed_from_s3_is_gone(api: Api) -> None:
    job = make_job(api.context, source=CONTENT)
    api.context.storage.delete(job.spec.input_key)
    assert api.http.get(f"/v1/jobs/{job.id}/source").status_code == 410


def test_api_is_ready_with_s3(api: Api) -> None:
    answer = api.http.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"]["storage"] == "ok"
