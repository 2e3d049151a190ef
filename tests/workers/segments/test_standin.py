"""The stand-in model of load tests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from cli.models import list_models
from pipelines.clips import restore_clip
from pipelines.errors import InvalidOptionError
from pipelines.loaders import load_model
from tests.workers.made import FAST, decode
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file


def test_its_name_says_how_long_it_takes_and_how_large_frames_become() -> None:
    model = load_model("standin:sleep=0.5,scale=3")
    assert (model.card.scale, model.device.type) == (3, "cpu")
    assert model.identity()["model"] == "standin:sleep=0.5,scale=3"
    assert load_model("standin:").card.scale == 4


def test_it_sleeps_for_each_frame_and_uses_no_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    restore_clip(load_model("standin:sleep=0.25"), torch.zeros(5, 3, 4, 4), (8, 8))
    assert slept == [0.25] * 5


def test_it_repeats_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = torch.rand(3, 3, 4, 5)
    made = restore_clip(load_model("standin:scale=2"), clip, (8, 10))
    assert torch.equal(made, clip.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def test_it_upscales_a_file_like_any_model(clip: Path, tmp_path: Path) -> None:
    model = load_model("standin:sleep=0,scale=2")
    upscale_file(clip, tmp_path / "out.mp4", model=model, options=UpscaleOptions(encode=FAST))
    assert decode(tmp_path / "out.mp4").size == (128, 96)


@pytest.mark.parametrize(
    "name", ["sleep=-1", "sleep=61", "sleep=nan", "sleep", "scale=1.5", "scale=0", "cpu=1"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidOptionError):
        load_model(f"standin:{name}")


def test_it_is_not_offered_to_users() -> None:
    assert not any("standin" in str(model["name"]) for model in list_models())
