"""The GPU kit's own arithmetic; its questions run at toy sizes with `--device cpu --tiny`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import runpy
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import cuda_tests, items, sizes, tables, training
from benchmarks.gpu.cuda_tests import read_junit
from benchmarks.gpu.kit import ROOT, Kit
from benchmarks.gpu.models import Clip, load_random, measure
from benchmarks.gpu.pack import pack
from benchmarks.gpu.training import SlicedPool, SlicedTrainer, SliceEndedError
from pipelines.dove.pipeline import DovePipeline
from pipelines.propagation import load_propagation
from tests.training.conftest import InlinePool, numbered_blocks
from training.restoration.config import RestorationConfig
from training.restoration.trainer import RestorationTrainer


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(output=tmp_path / "out", previous=None, device=torch.device("cpu"), is_tiny=True)


def test_answers_are_found_again_but_not_taken_for_those_of_another_kind(kit: Kit, tmp_path: Path) -> None:
    kit.save("sizes", {"rows": {"a": 1}})
    found = kit.load("sizes")
    assert found["rows"] == {"a": 1}
    assert {"command", "commit", "date", "machine", "is_tiny"} <= found.keys()
    later = dataclasses.replace(kit, output=tmp_path / "new", previous=kit.output)
    assert later.load("sizes") == found
    assert dataclasses.replace(later, is_tiny=False).load("sizes") == {}
    assert dataclasses.replace(later, device=torch.device("cuda")).load("sizes") == {}


def test_a_random_model_is_measured_from_host_to_host(kit: Kit) -> None:
    model, clip = load_random(kit), Clip(32, 32, 1)
    plan = model.plan(num_frames=1, size=clip.source, out_size=(32, 32), tile=0)
    values, frames = measure(model, clip, plan, has_warm_up=False)
    assert frames.shape == (1, 3, 32, 32)
    assert values["is_finite"]
    assert 0 < values["peak_bytes"] <= values["estimated_bytes"]
    assert values["part_seconds"].keys() == {"encode", "transformer", "decode", "rest"}


def test_every_switch_and_kernel_has_an_item() -> None:
    names = [item.name for item in items.all_items()]
    assert names[0] == items.BASELINE
    assert len(set(names)) == len(names)
    assert {"use_compile", "use_offload", "attention flash", "attention cudnn"} <= set(names)


def test_what_an_item_switches_is_not_so_in_the_baseline() -> None:
    switches = inspect.signature(DovePipeline.from_checkpoint).parameters
    values = [pair for item in items.all_items() for pair in item.loading.items()]
    assert [name for name, value in values if value == switches[name].default] == []
    assert ("use_cudnn_benchmark", False) in values


def test_paths_whose_bits_are_compared_leave_kernels_to_cudnns_guess() -> None:
    loading = {path.name: path.loading for path in sizes.paths(is_tiled=False)}
    assert [loading[name]["use_cudnn_benchmark"] for name in (sizes.PLAIN, sizes.EXACT)] == [False, False]


def test_all_tests_that_need_a_gpu_are_run() -> None:
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.needs_cuda" in path.read_text()]
    folders = [ROOT / folder for folder in cuda_tests.FOLDERS]
    assert all(folder.exists() for folder in folders)
    missing = [path for path in marked if not {path, *path.parents} & set(folders)]
    assert [path for path in missing if path != Path(__file__)] == []


def test_no_question_but_training_needs_what_training_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lent card comes with few packages."""
    for name in ("benchmarks.gpu.training", "av", "matplotlib", "torchmetrics"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("benchmarks.gpu.training")
    runpy.run_module("benchmarks.gpu.__main__", run_name="kit")


def test_tables_say_what_is_not_measured(tmp_path: Path) -> None:
    assert tables.speed_table(tmp_path).count(tables.NOT_MEASURED) == 24
    assert tables.NOT_MEASURED in tables.item_table(tmp_path)
    assert tables.NOT_MEASURED in tables.source(tmp_path)


def test_tables_show_what_is(tmp_path: Path) -> None:
    machine = {"device": "cuda", "card": "Card", "driver": "1", "torch": "2", "cudnn": 9}
    rows = {
        "720p untiled exact": {"frames_per_second": 2.5, "peak_bytes": 2**30, "estimated_bytes": 2**31},
        "2160p untiled fast": {"error": "out of memory"},
    }
    content = {"machine": machine, "is_tiny": False, "commit": "abc", "command": "python", "rows": rows}
    (tmp_path / "sizes.json").write_text(json.dumps(content))
    assert "| 720p | untiled | not measured | 2.50 |" in tables.speed_table(tmp_path)
    assert "| cannot |" in tables.speed_table(tmp_path)
    assert "1.0 / 2.0" in tables.memory_table(tmp_path)
    assert "Card" in tables.source(tmp_path)
    (tmp_path / "sizes.json").write_text(json.dumps(content | {"is_tiny": True}))
    assert "2.50" not in tables.speed_table(tmp_path)


def test_outcomes_and_measured_properties_are_read_from_junit(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="t" name="a" time="1.5"><properties>'
        '<property name="factor" value="3.0"/></properties></testcase>'
        '<testcase classname="t" name="b" time="0"><failure>wrong</failure></testcase>'
        '<testcase classname="t" name="c" time="0"><skipped message="one GPU"/></testcase>'
        "</testsuite></testsuites>"
    )
    values = read_junit(path)
    assert values["outcomes"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert values["tests"][0]["measured"] == {"factor": "3.0"}
    assert values["tests"][1]["message"] == "wrong"


def test_a_pack_is_as_small_as_it_must_be(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    small, large = (
        pack(tmp_path / "data", tmp_path / f"{size}.tar", max_bytes=size) for size in (90_000, 900_000)
    )
    assert small <= 90_000 < large <= 900_000
    with tarfile.open(tmp_path / "90000.tar") as archive:
        assert archive.getnames() == ["images/noise.jpg"]
    with pytest.raises(ValueError, match="do not fit"):
        pack(tmp_path / "data", tmp_path / "none.tar", max_bytes=25_000)


def inline_pool(trainer: SlicedTrainer, first_block: int) -> InlinePool:
    folder = trainer.run_dir / "pool"
    folder.mkdir()
    return InlinePool(trainer._block_maker(), folder, first_block=first_block)


def test_a_slice_does_not_wait_for_a_block_beyond_its_end(tmp_path: Path) -> None:
    pool = SlicedPool(numbered_blocks, tmp_path, first_block=0, deadline=time.monotonic())
    try:
        with pytest.raises(SliceEndedError):
            pool.get(0)
    finally:
        pool.close()


def test_training_goes_on_in_slices_and_ends_in_a_checkpoint(
    kit: Kit, training_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice that is over in the middle, one on another machine that ends the decay, and one more."""
    monkeypatch.setattr(SlicedTrainer, "_open_pool", inline_pool)
    packed = tmp_path / "pack.tar"
    pack(training_data, packed, max_bytes=3_000_000)
    step = SlicedTrainer.train_step

    def until_the_third(self: SlicedTrainer, batch: Any) -> dict[str, float]:
        if self.step == self.last_step - 3:
            raise SliceEndedError
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SlicedTrainer, "train_step", until_the_third)
        assert not training.answer(kit, pack=packed)
    first = kit.load("training")
    later = dataclasses.replace(kit, output=tmp_path / "new", previous=kit.output)
    assert training.answer(later, pack=packed)
    found = later.load("training")
    assert [part["end_step"] for part in found["slices"]] == [first["step"], first["last_step"]]
    assert found["step"] == found["last_step"] == first["step"] + 3
    _, description = load_propagation(later.output / "checkpoint")
    assert description.training_steps == found["step"]
    assert description.activation_ranges
    assert load_propagation(later.output / "raw")[1].training_steps == found["step"]
    assert training.answer(later, pack=tmp_path / "none.tar")


def test_a_decay_begins_where_the_last_slice_ended(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    def made(name: str) -> RestorationTrainer:
        return RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / name)

    first, decaying, going_on = made("first"), made("decaying"), made("going on")
    first.step = 5
    first.save_state()
    training.prepare(decaying, tmp_path / "first/state.pt", 30)
    assert decaying.decay == (5, 35)
    decaying.step = 11
    decaying.save_state()
    training.prepare(going_on, tmp_path / "decaying/state.pt", 90)
    assert (going_on.step, going_on.decay) == (11, (5, 35))
