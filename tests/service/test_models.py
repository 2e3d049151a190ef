"""The catalogue: what workers offer, as customers see it."""

from __future__ import annotations

from jobs.fleet import ModelInfo, WorkerInfo
from jobs.settings import ServiceSettings
from tests.service.conftest import Api, running_api
from tests.service.made import make_job


def test_models_come_default_first_with_what_is_known_of_them(api: Api) -> None:
    (first, second) = api.http.get("/v1/models").json()["data"]
    assert first == {
        "id": "bicubic",
        "object": "model",
        "kind": "interpolation",
        "scale": 4,
        "licence": "",
        "is_default": True,
        "megapixels_per_second": None,
        "available": False,
    }
    assert second["id"] == "lanczos"


def test_speed_and_workers_show_once_there_are_any(api: Api) -> None:
    api.context.fleet.report(WorkerInfo(id="w1", host="here", pid=1))
    job = make_job(api.context)
    api.context.fleet.count_segment(
        job, "bicubic", output_pixels=3_000_000, num_frames=3, seconds=2.0, stages={}
    )
    (first, second) = api.http.get("/v1/models").json()["data"]
    assert (first["megapixels_per_second"], first["available"]) == (1.5, True)
    assert (second["megapixels_per_second"], second["available"]) == (None, True)


def test_unlisted_models_are_not_told(settings: ServiceSettings) -> None:
    hidden = ModelInfo(name="standin:", kind="standin", scale=4, is_listed=False)
    with running_api(settings, models=[hidden]) as api:
        assert api.http.get("/v1/models").json() == {"object": "list", "data": []}
