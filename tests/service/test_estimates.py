"""Estimates: what a job would take, before it is submitted, and without torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.api_keys import KeyLimits
from jobs.fleet import ModelInfo, WorkerInfo
from jobs.settings import ServiceSettings
from jobs.specs import Priority
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion
from pipelines.planning.shapes import DiffusionShape
from tests.service.conftest import Api, running_api
from tests.service.made import begin, make_job

SHAPE = DiffusionShape("cogvideox", vae_channels=128, hidden_size=3072, patch_size_t=2)
GIB = 1 << 30
FRAME = {"width": 64, "height": 48, "num_frames": 1, "frame_rate": 25}


def model(memory_bytes: int) -> ModelInfo:
    """As a worker with so much memory describes DOVE."""
    return ModelInfo(
        name="dove",
        kind="diffusion",
        scale=4,
        is_default=True,
        shape=dataclasses.asdict(SHAPE),
        memory_bytes=memory_bytes,
    )


def ask(api: Api, *, options: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """An estimate of a video of 320x180 with 10 s, unless told otherwise."""
    found = {"width": 320, "height": 180, "frame_rate": 25, "duration_seconds": 10, **values}
    response = api.http.post("/v1/estimate", json={"input": found, "options": options or {}})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def measure(api: Api, *, megapixels_per_second: float, workers: int, name: str = "bicubic") -> None:
    """Says that workers are alive and how fast they are."""
    for number in range(workers):
        api.context.fleet.report(WorkerInfo(id=f"w{number}", host="here", pid=number))
    pixels = round(megapixels_per_second * 1e6)
    api.context.fleet.count_segment(name, output_pixels=pixels, num_frames=1, seconds=1, stages={})


def test_estimate_tells_frames_and_size_of_the_result(api: Api) -> None:
    answer = ask(api, options={"scale": 2, "duration_seconds": 4})
    assert answer["frames"] == 100
    assert answer["output"] == {"width": 640, "height": 360}
    assert answer["megapixels"] == 23.04
    assert answer["fits"] is True
    assert answer["seconds"] is None  # nothing was measured yet
    assert answer["queue_seconds"] == 0
    assert (answer["tiles"]["rows"], answer["tiles"]["tile_width"]) == (1, 640)
    assert ask(api, duration_seconds=None, num_frames=7)["frames"] == 7


def test_time_is_what_workers_measured_shared_by_the_segments_they_can_take(api: Api) -> None:
    measure(api, megapixels_per_second=10, workers=4)
    one_segment = ask(api, options={"scale": 2}, duration_seconds=10)
    assert one_segment["megapixels"] == 57.6
    assert one_segment["seconds"] == 5.8  # one segment cannot be shared
    assert ask(api, options={"scale": 2}, duration_seconds=20)["seconds"] == 5.8
    assert ask(api, options={"scale": 2}, duration_seconds=80)["seconds"] == 11.5


def test_draining_workers_do_not_count(api: Api) -> None:
    measure(api, megapixels_per_second=10, workers=1)
    api.context.fleet.report(WorkerInfo(id="w0", host="here", pid=0, is_draining=True))
    answer = ask(api)
    assert answer["seconds"] is None
    assert any("no worker" in warning for warning in answer["warnings"])


def test_queue_counts_the_work_that_goes_before(api: Api) -> None:
    measure(api, megapixels_per_second=1, workers=2)
    # 12 frames of 256x192 each, 0.59 megapixels.
    make_job(api.context, priority=Priority.NORMAL)
    make_job(api.context, priority=Priority.LOW)
    running = make_job(api.context, priority=Priority.HIGH)
    begin(api.context, running.id)
    body = {"input": {"width": 64, "height": 48, "num_frames": 1}}

    def wait(priority: str) -> float:
        response = api.http.post("/v1/estimate", json={**body, "priority": priority})
        return float(response.json()["queue_seconds"])

    assert [wait("high"), wait("normal"), wait("low")] == [0.3, 0.6, 0.9]


def test_queue_of_unknown_speed_is_unknown(api: Api) -> None:
    make_job(api.context)
    assert ask(api)["queue_seconds"] is None


def test_estimate_agrees_with_the_planner(settings: ServiceSettings) -> None:
    with running_api(settings, models=[model(8 * GIB)]) as api:
        answer = ask(api, width=640, height=360)
    request = ChunkRequest(
        num_frames=250, height=360, width=640, out_height=1440, out_width=2560, memory_bytes=8 * GIB
    )
    plan = plan_diffusion(SHAPE, request)
    assert plan.rows * plan.cols > 1
    tiles = answer["tiles"]
    assert (tiles["rows"], tiles["cols"]) == (plan.rows, plan.cols)
    assert tiles["chunk_frames"] == plan.chunk_len
    assert tiles["tile_height"] <= 1440
    assert tiles["rows"] * tiles["tile_height"] >= 1440
    assert tiles["cols"] * tiles["tile_width"] >= 2560
    assert answer["memory_bytes"] == plan.estimated_bytes <= 8 * GIB
    assert answer["fits"] is True


def test_job_that_no_plan_fits_is_told_with_what_it_needs(settings: ServiceSettings) -> None:
    with running_api(settings, models=[model(GIB // 64)]) as api:
        answer = ask(api)
    assert answer["fits"] is False
    assert answer["memory_bytes"] > GIB // 64
    assert "smallest tiles" in answer["warnings"][0]


def test_result_above_the_keys_limit_does_not_fit(api_with_keys: Api) -> None:
    _, headers = api_with_keys.make_key(limits=KeyLimits(max_output_pixels=1_000_000))
    body = {"input": {"width": 640, "height": 360, "num_frames": 100}}
    answer = api_with_keys.http.post("/v1/estimate", json=body, headers=headers).json()
    assert answer["fits"] is False
    assert any("your key" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": {"width": 64, "height": 48}},
        {"input": FRAME, "source": {"type": "upload", "upload_id": "x"}},
        {"input": {**FRAME, "width": 0}},
        {"input": {**FRAME, "width": 4096}, "options": {"scale": 8}},
        {"input": FRAME, "options": {"model": "nothing"}},
        {"input": FRAME, "options": {"start_seconds": 1}},
        {"input": FRAME, "nonsense": 1},
    ],
)  # fmt: skip
def test_impossible_question_is_refused(api: Api, body: dict[str, Any]) -> None:
    response = api.http.post("/v1/estimate", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "invalid_request"


def test_extreme_measures_are_answered(api: Api) -> None:
    measure(api, megapixels_per_second=1, workers=1)
    slow = ask(api, width=16384, height=16384, frame_rate=1e-9, options={"scale": 1})
    assert slow["frames"] == 1
    long = ask(api, width=1, height=1, frame_rate=1000, num_frames=10**9, duration_seconds=None)
    assert long["frames"] == 10**9


def test_unknown_upload_is_not_found(api: Api) -> None:
    source = {"type": "upload", "upload_id": "upl_01k9zq3v5n8w2c7m4t6y1x0abc"}
    assert api.http.post("/v1/estimate", json={"source": source}).status_code == 404


def test_finished_upload_is_estimated_by_what_was_found_in_it(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    tus = {"Tus-Resumable": "1.0.0"}
    created = api.http.post("/v1/uploads", headers={**tus, "Upload-Length": str(len(content))})
    location = created.headers["location"]
    patch = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    api.http.patch(location, content=content, headers=patch)
    source = {"type": "upload", "upload_id": location.rpartition("/")[2]}
    answer = api.http.post("/v1/estimate", json={"source": source, "options": {"scale": 3}}).json()
    assert answer["output"] == {"width": 192, "height": 144}
    assert answer["frames"] == 12


def test_api_loads_neither_torch_nor_av() -> None:
    heavy = ("torch", "av", "diffusers", "transformers", "numpy")
    code = f"import sys, service.app; print([name for name in {heavy!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
