"""A restorer that carries states through chunks, in a worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jobs.records import JobState
from pipelines.loaders import load_model
from tests.pipelines.propagation.test_model import save
from tests.workers.made import make_video, video_packets
from tests.workers.tasks.farm import Farm
from workers.run.upscaler import upscale_file
from workers.tasks.inputs import upscale_options


def test_a_worker_makes_the_file_of_the_command_and_reports_what_was_found(
    make_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    checkpoint = str(save(tmp_path / "tiny"))
    farm = make_farm(models=("bicubic", checkpoint))
    clip = make_video(tmp_path / "clip.mp4", 70)
    with farm.worker():
        offered = {model.name: model for model in farm.fleet.models()}[checkpoint]
        job = farm.wait(farm.submit(clip, model=checkpoint))
    assert (offered.kind, offered.scale, offered.shape["kind"]) == ("propagation", 4, "clips")
    assert job.state is JobState.COMPLETED, job.error
    assert job.output is not None
    assert (job.num_segments or 0) > 1
    options = upscale_options(job.spec.options, segment_seconds=farm.settings.segment_seconds)
    model = load_model(checkpoint, device="cpu")
    alone = upscale_file(clip, tmp_path / "alone.mp4", model=model, options=options)
    assert video_packets(farm.output(job, tmp_path)) == video_packets(tmp_path / "alone.mp4")
    report = json.loads(farm.storage.get_bytes(job.output.report_key))
    assert report["findings"].keys() == alone.findings.keys() == {"noise", "blur", "compression"}
