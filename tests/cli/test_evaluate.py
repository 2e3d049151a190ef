"""`dovetail evaluate`: which models and recipes are compared, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.compared_models import mapping, one_frame
from cli.main import app
from pipelines.errors import OutOfMemoryError
from tests.training.conftest import textured_picture
from training.evaluation import ALL_RECIPES


@pytest.fixture
def stills(tmp_path: Path) -> str:
    folder = tmp_path / "clips"
    folder.mkdir()
    Image.fromarray(textured_picture(5, 64, 96)).save(folder / "still.png")
    return str(folder)


def test_several_models_are_scored_with_every_recipe_and_with_single_frames(stills: str) -> None:
    models = ["-m", "standin:", "-m", "standin:sleep=0.05"]
    result = CliRunner().invoke(
        app, ["evaluate", stills, *models, "--recipes", "all", "--one-frame", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert "scored still.png" in result.stderr
    report = json.loads(result.stdout)
    methods = ["bicubic", "lanczos"]
    for name in ("standin:", "standin:sleep=0.05"):
        methods += [name, f"{name}, one frame"]
    means = report["means"]
    assert [(m["recipe"], m["method"]) for m in means] == [(r, m) for r in ALL_RECIPES for m in methods]
    assert all(m["worst_clip"] == "still.png" and m["warping_error"] is None for m in means)
    slow = next(m for m in means if m["method"] == "standin:sleep=0.05")
    assert slow["wall_seconds"] >= 0.05
    assert [model["name"] for model in report["models"]] == ["standin:", "standin:sleep=0.05"]
    assert report["scale"] == 4


def test_recipes_may_be_chosen_and_are_the_first_two_by_default(stills: str) -> None:
    for arguments, expected in (([], ["bicubic", "real"]), (["--recipes", "tape"], ["tape"])):
        result = CliRunner().invoke(app, ["evaluate", stills, "-m", "lanczos", *arguments])
        assert result.exit_code == 0, result.output
        assert [line[4:] for line in result.stdout.splitlines() if line.startswith("### ")] == expected
        assert "one frame" not in result.stdout


def test_an_unknown_recipe_is_answered_with_those_there_are(stills: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", stills, "--recipes", "rela"])
    assert result.exit_code == 2
    assert "'rela'; there are bicubic, real, phone, tape, animation, all" in result.stderr


def test_models_of_several_factors_are_not_compared(stills: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", stills, "-m", "standin:", "-m", "standin:scale=2"])
    assert result.exit_code == 2
    assert "standin: x4, standin:scale=2 x2" in result.stderr


def test_interpolation_takes_the_factor_of_the_model_beside_it(stills: str) -> None:
    models = ["-m", "bicubic", "-m", "standin:scale=2"]
    result = CliRunner().invoke(app, ["evaluate", stills, *models, "--recipes", "bicubic", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scale"] == 2


def test_several_processes_find_what_one_does(stills: str) -> None:
    Image.fromarray(textured_picture(6, 64, 96)).save(Path(stills) / "another.png")
    found = []
    for processes in ("1", "2"):
        arguments = ["-m", "standin:", "--recipes", "bicubic", "--processes", processes, "--json"]
        result = CliRunner().invoke(app, ["evaluate", stills, *arguments])
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines() == ["scored another.png", "scored still.png"]
        found.append([(s["clip"], s["method"], s["values"]) for s in json.loads(result.stdout)["clips"]])
    assert found[0] == found[1]


def test_an_error_of_one_of_several_processes_is_told_as_that_of_one(stills: str) -> None:
    Image.fromarray(textured_picture(6, 64, 96)).save(Path(stills) / "another.png")
    models = ["-m", "standin:", "-m", "standin:scale=2"]
    results = [
        CliRunner().invoke(app, ["evaluate", stills, *models, "--processes", processes])
        for processes in ("1", "2")
    ]
    assert [result.exit_code for result in results] == [2, 2]
    assert results[0].stderr == results[1].stderr


def test_a_process_that_is_killed_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(OutOfMemoryError, match=r"one of 2 processes .* give fewer"), mapping(2) as apply:
        list(apply(os._exit, [9]))


def test_processes_end_with_a_command_that_is_killed() -> None:
    program = """
import time
from cli.compared_models import mapping
with mapping(2) as apply:
    list(apply(time.sleep, [0.5, 0.5]))
    print("begun", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "begun\n"
        processes = psutil.Process(command.pid).children()
        assert len(processes) >= 2
        command.kill()
    _, left = psutil.wait_procs(processes, timeout=30)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)


def test_one_frame_hides_the_neighbours() -> None:
    def mean_of_clip(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return lq.mean(dim=0, keepdim=True).expand(len(lq), 3, height, width)

    clip = torch.arange(3.0)[:, None, None, None].expand(3, 3, 1, 1)
    assert torch.equal(one_frame(mean_of_clip)(clip, 1, 1), clip)
    assert not torch.equal(mean_of_clip(clip, 1, 1), clip)
