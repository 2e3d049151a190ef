"""Results from S3: the same ranges and headers as from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from dovetail_client import Dovetail
from jobs.settings import ServiceSettings
from jobs.storage import Storage
from jobs.uploads import UploadStore
from tests.s3_server import s3_server, s3_url
from tests.service.conftest import Api, running_api
from tests.service.made import complete, make_job
from tests.service.test_replicas import clip_of
from tests.service.test_uploads import begin, send

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


def test_a_look_into_an_upload_fetches_what_it_reads_and_copies_nothing(
    api: Api, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, fetched, get_bytes = clip_of(clip, 48 << 20), [], Storage.get_bytes

    def counted(storage: Storage, key: str, **part: Any) -> bytes:
        found = get_bytes(storage, key, **part)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(Storage, "get_bytes", counted)
    location = begin(api, len(content))
    assert send(api, location, 0, content).status_code == 204
    assert UploadStore(api.context.client).get(location.rsplit("/", 1)[1]).found is not None
    assert 0 < sum(fetched) < len(content) // 4
    assert list(api.context.incoming_dir.iterdir()) == []


def test_object_that_was_removed_from_s3_is_gone(api: Api) -> None:
    job = make_job(api.context, source=CONTENT)
    api.context.storage.delete(job.spec.input_key)
    assert api.http.get(f"/v1/jobs/{job.id}/source").status_code == 410


def test_api_is_ready_with_s3(api: Api) -> None:
    answer = api.http.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"]["storage"] == "ok"


@pytest.fixture
def redirecting_api(settings: ServiceSettings, s3_url: str, s3_server: str) -> Iterator[Api]:
    """The API that sends to S3 for results; customers reach S3 under another name."""
    values = {
        "storage_url": s3_url,
        "redirect_downloads": True,
        "storage_public_endpoint": s3_server.replace("127.0.0.1", "localhost"),
    }
    with running_api(settings.model_copy(update=values)) as running:
        yield running


def test_results_come_straight_from_s3_where_that_is_wanted(redirecting_api: Api, tmp_path: Path) -> None:
    api, http = redirecting_api, redirecting_api.http
    job = make_job(api.context, source=b"source")
    complete(api.context, job.id, CONTENT)
    path = f"/v1/jobs/{job.id}/content"

    answer = http.get(f"{path}?download=1")
    assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
    address = urlsplit(answer.headers["location"])
    assert address.hostname == "localhost"
    assert parse_qs(address.query)["X-Amz-Expires"] == [str(6 * 3600)]
    found = httpx.get(answer.headers["location"], headers={"Range": "bytes=1000-2999"}, trust_env=False)
    assert (found.status_code, found.content) == (206, CONTENT[1000:3000])
    assert found.headers["content-type"] == "video/mp4"
    assert found.headers["content-disposition"].startswith('attachment; filename="holiday-upscaled.mp4"')

    # What S3 cannot do, or would do otherwise.
    head = http.head(path)
    etag = head.headers["etag"]
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert http.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert http.get(path, headers={"Range": "bytes=0-1,10-11"}).status_code == 206
    resumed = http.get(path, headers={"Range": "bytes=5-", "If-Range": etag})
    assert (resumed.status_code, resumed.content) == (206, CONTENT[5:])
    theirs = {"Range": "bytes=5-", "If-Range": found.headers["etag"]}
    assert http.get(path, headers=theirs).status_code == 307
    assert http.get(path, headers={"Range": f"bytes={len(CONTENT)}-"}).status_code == 416

    # Clients follow, and the page's player may.
    with Dovetail(api.url) as client:
        assert client.download(job.id, tmp_path / "result.mp4").read_bytes() == CONTENT
    policy = http.get("/").headers["content-security-policy"]
    assert f"media-src 'self' {address.scheme}://{address.netloc} blob:" in policy

    assert http.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert http.get(path).status_code == 404


def test_results_in_a_folder_have_no_address_of_their_own(settings: ServiceSettings) -> None:
    with pytest.raises(ValueError, match=r"redirect_downloads takes a storage in S3; storage_url is '/"):
        ServiceSettings(data_dir=settings.data_dir, redirect_downloads=True)
