"""A decided travels as JSON between the processes that make its segments."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from media import EncodeOptions, VideoReader, probe
from media.sizes import SizeRequest
from pipelines.loaders import load_model
from pipelines.model import Model
from tests.pipelines.tiny import save_nano
from tests.workers.made import FAST, make_video
from workers.run.decisions import DecidedRun, decide_run
from workers.run.options import UpscaleOptions
from workers.segments.description import JobMismatchError, describe_run, options_from_json, rebuild_run
from workers.values import to_json_value

OPTIONS = UpscaleOptions(
    size=SizeRequest(scale=Fraction(3, 2)), encode=FAST, start_seconds=Fraction(1, 3), chunk_overlap=2
)


def reader_of(clip: Path, options: UpscaleOptions) -> VideoReader:
    return VideoReader(probe(clip), start_seconds=options.start_seconds)


def described(clip: Path, model: Model, options: UpscaleOptions) -> tuple[DecidedRun, dict[str, Any]]:
    with reader_of(clip, options) as reader:
        decided = decide_run(reader.info, reader, model=model, options=options)
    text = json.dumps(describe_run(decided, options=options, model=model))
    return decided, json.loads(text)


def rebuilt(clip: Path, model: Model, values: dict[str, Any]) -> tuple[UpscaleOptions, DecidedRun]:
    with reader_of(clip, options_from_json(values["options"])) as reader:
        return rebuild_run(values, reader.info, reader, model=model)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(str(save_nano(tmp_path_factory.mktemp("nano"))), device="cpu", dtype="float32")


def test_a_job_is_rebuilt_as_it_was(clip: Path, nano: Model) -> None:
    decided, values = described(clip, nano, OPTIONS)
    assert rebuilt(clip, nano, values) == (OPTIONS, decided)


def test_a_job_keeps_the_chunks_and_tiles_of_the_process_that_planned_it(clip: Path, nano: Model) -> None:
    decided, values = described(clip, nano, OPTIONS)
    values["plan"] |= {"chunk_len": decided.plan.chunk_len - 1, "tile_batch": 7}
    _, other = rebuilt(clip, nano, values)
    assert (other.plan.chunk_len, other.plan.tile_batch) == (decided.plan.chunk_len - 1, 7)


@pytest.mark.parametrize(
    "options",
    [
        UpscaleOptions(),
        UpscaleOptions(
            size=SizeRequest(height=720),
            tile=128,
            overlap=32,
            chunk=9,
            start_seconds=Fraction(1, 3),
            duration_seconds=Fraction(1001, 30000),
            deinterlace=False,
            detect_cuts=False,
            encode=EncodeOptions(codec="av1", crf=30, preset="8", num_threads=2),
            seed=7,
            segment_seconds=Fraction(7, 2),
            use_compare_video=True,
        ),
    ],
)
def test_options_survive_json(options: UpscaleOptions) -> None:
    assert options_from_json(json.loads(json.dumps(to_json_value(options)))) == options


def test_a_worker_that_would_encode_otherwise_is_refused(clip: Path, nano: Model) -> None:
    _, values = described(clip, nano, OPTIONS)
    values["decided"]["encoder setting"]["gop_size"] = 48
    with pytest.raises(JobMismatchError, match="encoder setting gop_size was 48 and is 50") as caught:
        rebuilt(clip, nano, values)
    assert len(caught.value.differences) == 1


def test_a_worker_with_another_model_is_refused(clip: Path, nano: Model) -> None:
    _, values = described(clip, nano, OPTIONS)
    with pytest.raises(JobMismatchError, match="model's model was"):
        rebuilt(clip, load_model("bicubic"), values)


def test_another_input_is_refused(clip: Path, tmp_path: Path, nano: Model) -> None:
    _, values = described(clip, nano, OPTIONS)
    other = make_video(tmp_path / "other.mp4", 30, size=(48, 64))
    with pytest.raises(JobMismatchError, match="size width was 96 and is 72"):
        rebuilt(other, nano, values)


def test_a_description_of_another_version_is_refused(clip: Path, nano: Model) -> None:
    _, values = described(clip, nano, OPTIONS)
    with pytest.raises(JobMismatchError, match="version of the description was 1 and is 3"):
        rebuilt(clip, nano, values | {"version": 1})
