"""`dovetail train` and `dovetail evaluate`, from pictures to a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from tests.training.conftest import textured_picture
from training.config import TrainingConfig
from training.evaluation import RECIPES, load_hr, make_lq
from training.metrics import METRICS, psnr_y


@pytest.fixture
def still(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    Image.fromarray(textured_picture(5, 100, 132)).save(folder / "still.png")
    return folder


def test_a_checkpoint_is_trained_found_and_scored(
    training_data: Path, tiny_config: TrainingConfig, still: Path, tmp_path: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_config.model_dump(mode="json")))
    run = tmp_path / "run"
    trained = CliRunner().invoke(
        app, ["train", str(config), "--data", str(training_data), "--output", str(run)]
    )
    assert trained.exit_code == 0, trained.output
    assert (run / "curves.png").stat().st_size > 10_000
    description = json.loads((run / "checkpoint" / "dovetail.json").read_text())
    assert description["training_steps"] == 8

    pictures = tmp_path / "pictures"
    arguments = ["evaluate", str(still), "--model", str(run / "checkpoint"), "--pictures", str(pictures)]
    scored = CliRunner().invoke(app, [*arguments, "--json"])
    assert scored.exit_code == 0, scored.output
    means = {(m["recipe"], m["method"]): m["values"] for m in json.loads(scored.stdout)["means"]}
    methods = {"bicubic", "lanczos", str(run / "checkpoint")}
    assert set(means) == {(recipe, method) for recipe in RECIPES for method in methods}
    assert all(set(values) == set(METRICS) for values in means.values())
    assert means["bicubic", "bicubic"]["psnr_y"] > means["real", "bicubic"]["psnr_y"] + 0.5
    assert {path.name for path in pictures.iterdir()} == {"still-bicubic.png", "still-real.png"}


def test_bad_configurations_and_folders_are_named(training_data: Path, still: Path, tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("stages: []\n")
    arguments = ["train", str(config), "--data", str(training_data), "--output", str(tmp_path / "run")]
    broken = CliRunner().invoke(app, arguments)
    assert broken.exit_code == 2
    assert "broken.yaml" in broken.stderr
    assert "model" in broken.stderr
    recipe = CliRunner().invoke(app, ["evaluate", str(still), "-m", "bicubic", "--recipes", "rela"])
    assert recipe.exit_code == 2
    assert "rela" in recipe.stderr
    empty = CliRunner().invoke(app, ["evaluate", str(tmp_path / "nowhere"), "-m", "bicubic"])
    assert empty.exit_code == 3
    assert "holds no clip or still" in empty.stderr


def test_recipes_are_fixed_and_the_real_one_is_harder(still: Path) -> None:
    hr = load_hr(still / "still.png", scale=4, max_frames=1)
    assert hr.shape == (1, 3, 96, 128)
    bicubic, real = (make_lq(hr, recipe, 4) for recipe in RECIPES)
    assert bicubic.shape == real.shape == (1, 3, 24, 32)
    assert torch.equal(bicubic, make_lq(hr, "bicubic", 4))
    levels = bicubic.numpy() * 255
    assert np.abs(levels - levels.round()).max() < 1e-3
    exact = torch.nn.functional.interpolate(hr, size=(24, 32), mode="bicubic", antialias=True).clamp(0, 1)
    assert psnr_y(bicubic, exact) > 45
    assert psnr_y(real, exact) < 38
