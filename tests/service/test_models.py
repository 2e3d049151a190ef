"""The catalogue: what workers offer, as customers see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.fleet import ModelInfo, WorkerInfo
from jobs.settings import ServiceSettings, WorkerSettings
from service.models.catalogue import known_models
from tests.service.conftest import Api, running_api


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
    api.context.fleet.report(WorkerInfo(id="w1", host="here", pid=1, models=("bicubic",)))
    api.context.fleet.count_segment("bicubic", output_pixels=3_000_000, num_frames=3, seconds=2.0, stages={})
    (first, second) = api.http.get("/v1/models").json()["data"]
    assert (first["megapixels_per_second"], first["available"]) == (1.5, True)
    assert (second["megapixels_per_second"], second["available"]) == (None, False)


def test_jobs_name_models_before_any_worker_has_lived(settings: ServiceSettings, clip: Path) -> None:
    named = settings.model_copy(update={"models": ("dovetail-dit-nano", "elsewhere=someone/else")})
    with running_api(named, models=[]) as api:
        first, second = api.http.get("/v1/models").json()["data"]
        assert (first["id"], first["kind"], first["is_default"]) == ("dovetail-dit-nano", "diffusion", True)
        assert (second["id"], second["kind"], second["available"]) == ("elsewhere", "unknown", False)
        job = api.http.post("/v1/jobs", files={"file": ("clip.mp4", clip.read_bytes())}).json()
        assert (job["status"], job["options"]["model"]) == ("queued", "dovetail-dit-nano")
        body = {"input": {"width": 64, "height": 48, "num_frames": 12}}
        estimate = api.http.post("/v1/estimate", json=body).json()
        assert (estimate["output"]["width"], estimate["memory_bytes"]) == (256, None)
        assert any("no worker has loaded" in text for text in estimate["warnings"])


def test_workers_add_to_the_models_of_the_settings(settings: ServiceSettings) -> None:
    named = settings.model_copy(update={"models": ("lanczos", "dovetail-dit-nano")})
    with running_api(named) as api:  # whose workers have told of bicubic, their default, and lanczos
        found = [(model["id"], model["is_default"]) for model in api.http.get("/v1/models").json()["data"]]
        assert found == [("lanczos", True), ("dovetail-dit-nano", False), ("bicubic", False)]
        assert next(m for m in known_models(api.context) if m.name == "lanczos").is_measured


def test_names_of_models_come_as_json_or_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('["lanczos", "bicubic"]', "lanczos, bicubic"):
        monkeypatch.setenv("DOVETAIL_MODELS", text)
        assert ServiceSettings().models == WorkerSettings().models == ("lanczos", "bicubic")
    monkeypatch.setenv("DOVETAIL_MODELS", " , ")
    with pytest.raises(ValidationError):
        ServiceSettings()


def test_unlisted_models_are_not_told(settings: ServiceSettings) -> None:
    hidden = ModelInfo(name="standin:", kind="standin", scale=4, is_listed=False)
    with running_api(settings, models=[hidden]) as api:
        assert api.http.get("/v1/models").json() == {"object": "list", "data": []}
