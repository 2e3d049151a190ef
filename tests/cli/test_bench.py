from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.pipelines.tiny import make_vae, save_checkpoint, save_nano

Dovetail = Callable[..., Result]
SMALL = ("--frames", "9", "--size", "32x32", "--device", "cpu", "--repeat", "1")


def test_both_paths_are_measured_stage_by_stage(tmp_path: Path, dovetail: Dovetail) -> None:
    checkpoint = save_nano(tmp_path / "nano")
    result = dovetail("bench", "-m", checkpoint, "--dtype", "float32", *SMALL, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["num_frames"], values["size"], values["out_size"]) == (9, [32, 32], [128, 128])
    stages = {"read", "model", "transformer", "decode", "write", "join"}
    # Whole frames of this checkpoint are encoded together with the transformer's first layer.
    for path, expected in (("ours", stages), ("plain", stages | {"encode"})):
        assert values[path]["frames_per_second"] > 0
        assert set(values[path]["stage_seconds"]) == expected
    ratio = values["ours"]["frames_per_second"] / values["plain"]["frames_per_second"]
    assert values["speedup"] == ratio


def test_a_size_that_the_plain_path_cannot_do_is_said_before_any_work(
    tmp_path: Path, dovetail: Dovetail, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = make_vae(sample_height=120)  # tiles of 60 pixels are 7 1/2 latents
    checkpoint = save_checkpoint(tmp_path / "dove", vae=vae)
    worked: list[object] = []
    monkeypatch.setattr("workers.bench.upscale_file", lambda *_, **__: worked.append(1))
    arguments = ("--frames", "2", "--size", "64x48", "--device", "cpu", "--dtype", "float32")
    result = dovetail("bench", "-m", checkpoint, *arguments)
    assert result.exit_code == 2
    assert "23 latents of 192 pixels" in result.stderr
    assert worked == []


def test_the_table_is_for_people(clip: Path, dovetail: Dovetail) -> None:
    result = dovetail("bench", clip, "-m", "bicubic", "--duration", "0.2", "--no-plain", "--repeat", "1")
    assert result.exit_code == 0, result.stderr
    assert "64x48 to 256x192" in result.stdout
    assert "frames per second" in result.stdout


def test_a_size_that_is_none_is_refused(dovetail: Dovetail) -> None:
    assert dovetail("bench", "--size", "large").exit_code == 2
