"""A per-frame network from one weights file, in a worker and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from jobs.records import JobState
from media.sizes import SizeRequest
from pipelines.loaders import load_model
from tests.pipelines.per_frame.networks import save_network
from tests.workers.made import FAST, decode, make_video, video_packets
from tests.workers.tasks.farm import Farm
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file
from workers.tasks.inputs import upscale_options


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_network("span", tmp_path_factory.mktemp("network") / "2x_span.safetensors"))


def test_a_worker_offers_a_network_and_upscales_with_it(
    network: str, make_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    farm = make_farm(models=("bicubic", network))
    clip = make_video(tmp_path / "clip.mp4", 40)
    with farm.worker():
        offered = {model.name: model for model in farm.fleet.models()}[network]
        job = farm.wait(farm.submit(clip, model=network))
    assert (offered.kind, offered.scale, offered.licence) == ("per_frame", 2, "unknown")
    assert offered.shape is not None
    assert offered.shape["bytes_per_pixel"] > 0
    assert job.state is JobState.COMPLETED, job.error
    assert job.num_segments > 1
    alone = tmp_path / "alone.mp4"
    options = upscale_options(job.spec.options, segment_seconds=farm.settings.segment_seconds)
    upscale_file(clip, alone, model=load_model(network, device="cpu"), options=options)
    assert video_packets(farm.output(job, tmp_path)) == video_packets(alone)


@pytest.mark.parametrize("tile", [None, 64])
def test_any_size_is_reached_and_the_report_names_the_network(
    network: str, tile: int | None, tmp_path: Path
) -> None:
    clip = make_video(tmp_path / "clip.mp4", 10)
    model = load_model(network, device="cpu", dtype="float32")
    options = UpscaleOptions(size=SizeRequest(scale=Fraction(3, 2)), encode=FAST, tile=tile)
    report = upscale_file(clip, tmp_path / "out.mp4", model=model, options=options)
    assert decode(tmp_path / "out.mp4").size == (96, 72)
    assert report.model["licence"] == "unknown"
    assert report.model["model"] == model.card.fingerprint
    assert report.warnings == []


def test_tiles_of_a_network_that_sees_the_whole_frame_are_a_warning(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", 3)
    path = save_network("rcan", tmp_path / "2x_rcan.pth")
    model = load_model(str(path), device="cpu", dtype="float32")
    for tile, expected in ((0, []), (64, list(model.card.notes))):
        options = UpscaleOptions(size=SizeRequest(scale=Fraction(2)), encode=FAST, tile=tile)
        report = upscale_file(clip, tmp_path / f"out{tile}.mp4", model=model, options=options)
        assert report.warnings == expected
