"""Jobs of stills from plan to result, by a worker in this process: what the command line makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from jobs.options import PictureKind
from jobs.records import Job, JobState
from media.sizes import SizeRequest
from media.stills import read_picture
from pipelines.loaders import load_model
from tests.stills import SRGB, STILLS, deep_tiff, transparent_png, turned_jpeg
from tests.workers.tasks.farm import Farm
from workers.run.options import UpscaleOptions
from workers.run.still import upscale_still

MODEL = "dovetail-dit-nano"


def result(farm: Farm, job: Job, path: Path) -> Path:
    assert job.output is not None, job.error
    path.write_bytes(farm.storage.get_bytes(job.output.key))
    return path


@pytest.mark.parametrize(("kind", "make"), STILLS, ids=[kind for kind, _ in STILLS])
def test_a_still_gives_the_bytes_of_the_command_line(
    kind: PictureKind, make: Callable[[Path], Path], make_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    farm = make_farm(models=(MODEL,))
    source = make(tmp_path / "source")
    with farm.worker():
        job = farm.wait(farm.submit(source, picture=kind, model=MODEL))
    assert job.state is JobState.COMPLETED, job.error
    made = result(farm, job, tmp_path / f"made.{kind}")
    alone = tmp_path / f"alone.{kind}"
    model = load_model(MODEL, device="cpu")
    report = upscale_still(source, alone, model=model, options=UpscaleOptions())
    assert made.read_bytes() == alone.read_bytes()
    assert job.warnings == tuple(report.warnings)


@pytest.mark.parametrize(("kind", "make"), STILLS[1:3], ids=["png", "tiff"])
def test_a_still_in_a_bucket_is_read_without_a_file(
    kind: PictureKind,
    make: Callable[[Path], Path],
    make_farm: Callable[..., Farm],
    s3_url: str,
    tmp_path: Path,
) -> None:
    farm = make_farm(storage_url=s3_url)
    source = make(tmp_path / "source")
    with farm.worker():
        job = farm.wait(farm.submit(source, picture=kind, scale=2))
    made = result(farm, job, tmp_path / f"made.{kind}")
    alone = tmp_path / f"alone.{kind}"
    options = UpscaleOptions(size=SizeRequest(scale=Fraction(2)))
    upscale_still(source, alone, model=load_model("bicubic", device="cpu"), options=options)
    assert made.read_bytes() == alone.read_bytes()


def test_a_photo_stays_upright_with_its_profile_and_camera(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(turned_jpeg(tmp_path / "source"), picture="jpg", scale=2))
    with Image.open(result(farm, job, tmp_path / "a.jpg")) as made:
        assert (made.format, made.size) == ("JPEG", (60, 88))
        assert made.info["icc_profile"] == SRGB
        assert dict(made.getexif()) == {0x010F: "Camera"}
    assert job.output is not None
    assert (job.output.width, job.output.height, job.output.num_frames) == (60, 88, 1)
    assert job.output.duration_seconds == 0
    assert job.output.key.endswith(".jpg")
    assert job.plan is not None
    assert (job.plan.codec, job.plan.encoder, job.plan.crf) == ("jpg", None, None)
    assert (job.progress, job.processed_frames, job.total_frames) == (100, 1, 1)


def test_sixteen_bits_and_transparency_are_kept(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(deep_tiff(tmp_path / "source"), picture="tiff", scale=2))
    made = read_picture(result(farm, job, tmp_path / "a.tiff"))
    assert (made.size, made.bit_depth, made.icc_profile) == ((60, 88), 16, SRGB)
    assert made.alpha is not None
    assert made.alpha[0, 30, 44] == 1
    assert abs(float(made.alpha[0, 0, 0]) - 40 / 255) < 1e-3


def test_a_still_becomes_the_kind_that_is_asked_for(farm: Farm, tmp_path: Path) -> None:
    source = transparent_png(tmp_path / "source")
    with farm.worker():
        job = farm.wait(farm.submit(source, picture="png", container="jpg"))
    with Image.open(result(farm, job, tmp_path / "a.jpg")) as made:
        assert (made.format, made.mode) == ("JPEG", "RGB")
    assert job.warnings == ("JPEG has no transparency: what was transparent is shown on white",)


def test_a_still_becomes_a_video_where_one_is_asked_for(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        source = turned_jpeg(tmp_path / "source")
        job = farm.wait(farm.submit(source, picture="jpg", container="mp4"))
    assert result(farm, job, tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
    assert job.plan is not None
    assert job.plan.codec == "h264"


def test_the_preview_shows_the_picture_before_and_after_on_white(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(transparent_png(tmp_path / "source"), picture="png", scale=2))
    assert job.output is not None
    assert job.output.preview_key is not None
    path = tmp_path / "preview.jpg"
    path.write_bytes(farm.storage.get_bytes(job.output.preview_key))
    with Image.open(path) as preview:
        assert preview.size == (2 * 88, 60)
        corners = [preview.getpixel((x, 59)) for x in (0, 88)]
    for corner in corners:
        assert isinstance(corner, tuple)
        assert all(200 < level < 256 for level in corner)


def test_the_report_tells_of_the_picture(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(transparent_png(tmp_path / "source"), picture="png", scale=2))
    assert job.output is not None
    report = json.loads(farm.storage.get_bytes(job.output.report_key))
    assert (report["encoding"], report["streams"], report["warnings"]) == (None, [], [])
    assert (report["input"]["video"]["width"], report["input"]["video"]["height"]) == (44, 30)
    assert report["input"]["warnings"] == []
    assert report["output"]["width"] == 88
    assert report["num_segments"] == 1


def test_a_damaged_still_fails_with_what_is_wrong_with_it(farm: Farm, tmp_path: Path) -> None:
    source = transparent_png(tmp_path / "source")
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    with farm.worker():
        job = farm.wait(farm.submit(source, picture="png"))
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "no_frames"
    assert str(farm.settings.data_dir) not in job.error.message


def test_workers_of_one_kind_of_tasks_make_a_still_together(farm: Farm, tmp_path: Path) -> None:
    with farm.worker(only=("plan",)), farm.worker(only=("segment",)), farm.worker(only=("join",)):
        job = farm.wait(farm.submit(turned_jpeg(tmp_path / "source"), picture="jpg"))
    assert job.state is JobState.COMPLETED, job.error


def test_a_still_larger_than_the_key_allows_is_not_made(farm: Farm, tmp_path: Path) -> None:
    with farm.worker():
        source = turned_jpeg(tmp_path / "source")
        job = farm.wait(farm.submit(source, picture="jpg", limits={"max_output_pixels": 1000}))
    assert job.error is not None
    assert job.error.code == "quota_exceeded"
