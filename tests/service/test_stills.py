"""Stills over HTTP: recognised by what they are, given back as pictures."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from jobs.options import PictureKind
from jobs.records import Stage
from jobs.settings import ServiceSettings
from service.sources.fetching import open_bucket
from tests.s3_server import BUCKET, make_s3_url, s3_server
from tests.service.conftest import Api, running_api, wait_until
from tests.service.made import complete
from tests.service.origin import Answer, running_origin
from tests.stills import STILLS, heif, transparent_png, turned_jpeg

__all__ = ["s3_server"]

TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif",
         "tiff": "image/tiff", "bmp": "image/bmp"}  # fmt: skip
RESULT = b"a picture, larger"


def submit(api: Api, path: Path, name: str = "holiday.photo", **options: Any) -> httpx.Response:
    files = {"file": (name, path.read_bytes(), "application/octet-stream")}
    return api.http.post("/v1/jobs", files=files, data={"request": json.dumps({"options": options})})


def accepted(api: Api, path: Path, name: str = "holiday.photo", **options: Any) -> dict[str, Any]:
    answer = submit(api, path, name, **options)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return turned_jpeg(tmp_path / "photo")


@pytest.mark.parametrize(("kind", "make"), STILLS, ids=[kind for kind, _ in STILLS])
def test_a_still_gives_a_still_of_its_kind_whatever_it_is_called(
    kind: PictureKind, make: Callable[[Path], Path], api: Api, tmp_path: Path
) -> None:
    job = accepted(api, make(tmp_path / "source"), "clip.mp4")
    assert job["input"]["picture"] == kind
    assert job["options"]["container"] == kind
    assert job["warnings"] == []
    source = api.http.get(f"/v1/jobs/{job['id']}/source")
    assert source.headers["content-type"] == TYPES[kind]
    complete(api.context, job["id"], RESULT)
    path = f"/v1/jobs/{job['id']}/content"
    answer = api.http.get(path)
    assert answer.content == RESULT
    assert answer.headers["content-type"] == TYPES[kind]
    assert f'filename="clip-upscaled.{kind}"' in answer.headers["content-disposition"]
    part = api.http.get(path, headers={"Range": "bytes=2-8"})
    assert (part.status_code, part.content) == (206, RESULT[2:9])


def test_a_photograph_of_a_phone_gives_a_jpeg(api: Api, tmp_path: Path) -> None:
    path = heif(tmp_path / "photo", tile=128)
    job = accepted(api, path, "IMG_0001.HEIC")
    assert (job["input"]["width"], job["input"]["height"], job["input"]["picture"]) == (240, 352, "jpg")
    assert (job["options"]["container"], job["warnings"]) == ("jpg", [])
    source = api.http.get(f"/v1/jobs/{job['id']}/source")
    assert source.headers["content-type"] == "image/heif"
    assert source.content == path.read_bytes()
    complete(api.context, job["id"], RESULT)
    answer = api.http.get(f"/v1/jobs/{job['id']}/content")
    assert 'filename="IMG_0001-upscaled.jpg"' in answer.headers["content-disposition"]
    # Its tiles are videos to FFmpeg, and a video would be one of them.
    refused = submit(api, path, container="mp4")
    assert refused.status_code == 422
    assert "becomes a picture" in refused.text


@pytest.mark.parametrize(("kind", "make"), [("png", "PNG"), ("avif", "AVIF")])
def test_an_animation_is_a_video(kind: str, make: str, api: Api, tmp_path: Path) -> None:
    first = Image.new("RGB", (32, 24), "red")
    first.save(tmp_path / "a", make, save_all=True, append_images=[Image.new("RGB", (32, 24), "blue")])
    job = accepted(api, tmp_path / "a", f"a.{kind}")
    assert (job["input"]["picture"], job["options"]["container"]) == (None, "mp4")


def test_a_video_gives_mp4_and_is_no_picture(api: Api, clip: Path) -> None:
    assert accepted(api, clip)["options"]["container"] == "mp4"
    refused = submit(api, clip, container="png")
    assert refused.status_code == 422
    problem = refused.json()
    assert problem["code"] == "invalid_request"
    assert "container png is for stills, and the source is a video (h264)" in problem["detail"]
    assert problem["errors"][0]["loc"] == ["options", "container"]


def test_a_still_becomes_another_kind_or_a_video_where_that_is_asked_for(api: Api, photo: Path) -> None:
    assert accepted(api, photo, container="webp")["options"]["container"] == "webp"
    job = accepted(api, photo, container="mkv")
    assert (job["options"]["container"], job["input"]["picture"]) == ("mkv", "jpg")


def test_options_of_videos_mean_nothing_to_a_still(api: Api, photo: Path) -> None:
    job = accepted(api, photo, codec="h265", crf=20, start_seconds=5, duration_seconds=1)
    assert job["options"]["container"] == "jpg"


def test_a_picture_is_not_played(api: Api, photo: Path) -> None:
    job = accepted(api, photo)
    paths = ["stream", "hls/playlist.m3u8", "hls/video.m3u8", "hls/audio.m3u8", "hls/audio.mp4"]
    for is_completed in (False, True):
        if is_completed:
            complete(api.context, job["id"], RESULT)
        for path in [*paths, "hls/segments/0.mp4"]:
            answer = api.http.get(f"/v1/jobs/{job['id']}/{path}")
            assert answer.status_code == 404, path
            assert "gives a picture (jpg), which is not played; get /v1/jobs/" in answer.json()["detail"]


def test_an_estimate_of_a_still_is_of_one_upright_picture(api: Api, photo: Path) -> None:
    upload = api.http.post(
        "/v1/uploads",
        content=photo.read_bytes(),
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(photo.stat().st_size),
            "Content-Type": "application/offset+octet-stream",
        },
    )
    assert upload.status_code == 201, upload.text
    source = {"type": "upload", "upload_id": upload.headers["location"].rpartition("/")[2]}
    found = api.http.post("/v1/estimate", json={"source": source, "options": {"width": 60}}).json()
    assert (found["frames"], found["output"]) == (1, {"width": 60, "height": 88})
    unseen = {
        "input": {"width": 44, "height": 30, "frame_rate": 25, "num_frames": 1},
        "options": {"container": "png", "scale": 2},
    }
    found = api.http.post("/v1/estimate", json=unseen).json()
    assert (found["frames"], found["output"]) == (1, {"width": 88, "height": 60})


def test_a_batch_of_stills_and_videos_gives_each_what_it_is(api: Api, photo: Path, clip: Path) -> None:
    files = [("file", ("a.jpg", photo.read_bytes())), ("file", ("a.mp4", clip.read_bytes()))]
    answer = api.http.post("/v1/batches", files=files, data={"codec": "h264", "scale": "2"})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    wait_until(lambda: len(_jobs_of(api, batch["id"])) == 2)
    jobs = _jobs_of(api, batch["id"])
    for job in jobs:
        complete(api.context, job["id"], RESULT)
    results = api.http.get(f"/v1/batches/{batch['id']}/results").json()["data"]
    assert [result["container"] for result in results] == ["jpg", "mp4"]
    archive = api.http.get(batch["links"]["zip"])
    with zipfile.ZipFile(io.BytesIO(archive.content)) as packed:
        assert packed.namelist() == ["a.jpg", "a.mp4"]


def _jobs_of(api: Api, batch_id: str) -> list[dict[str, Any]]:
    return list(api.http.get("/v1/jobs", params={"batch_id": batch_id, "order": "asc"}).json()["data"])


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return make_s3_url(s3_server, tmp_path.name, monkeypatch) + "/"


@pytest.fixture
def bucket_api(settings: ServiceSettings, bucket: str) -> Iterator[Api]:
    with running_api(settings.model_copy(update={"target_buckets": (BUCKET,)})) as api:
        yield api


def test_a_still_of_an_address_is_delivered_as_what_it_turned_out_to_be(
    bucket_api: Api, bucket: str, tmp_path: Path
) -> None:
    content = transparent_png(tmp_path / "a").read_bytes()
    api = bucket_api
    with running_origin(lambda _: Answer(200, content)) as origin:
        source = {"type": "url", "url": f"{origin.url}/picture"}
        answer = api.http.post("/v1/jobs", json={"source": source, "deliver_to": bucket})
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        assert answer.json()["options"]["container"] == "auto"
        wait_until(lambda: api.context.store.get(job_id).stage is not Stage.FETCHING)
    job = api.http.get(f"/v1/jobs/{job_id}").json()
    where = f"{bucket}{job_id}.png"
    assert (job["options"]["container"], job["delivery"]["url"]) == ("png", where)
    complete(api.context, job_id, RESULT)
    wait_until(lambda: api.http.get(f"/v1/jobs/{job_id}").json()["delivery"]["status"] == "delivered")
    stored = open_bucket(BUCKET).get(where.removeprefix(f"s3://{BUCKET}/"))
    assert bytes(stored.bytes()) == RESULT
    assert stored.attributes["Content-Type"] == "image/png"


def test_a_video_of_an_address_that_was_to_be_a_picture_fails(api: Api, clip: Path) -> None:
    with running_origin(lambda _: Answer(200, clip.read_bytes())) as origin:
        source = {"type": "url", "url": f"{origin.url}/clip.png"}
        answer = api.http.post("/v1/jobs", json={"source": source, "options": {"container": "png"}})
        job_id = answer.json()["id"]
        wait_until(lambda: api.context.store.get(job_id).stage is not Stage.FETCHING)
    error = api.context.store.get(job_id).error
    assert error is not None
    assert error.code == "invalid_request"
    assert "is for stills" in error.message
