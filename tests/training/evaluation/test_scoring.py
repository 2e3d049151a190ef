"""Scores, summaries and tables: the worst clip is named, stills have no warping error."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from training.evaluation import Score, Upscale, evaluate_clip, format_report, report_json, summarize
from training.metrics import METRICS


def score(
    clip: str, method: str, psnr: float, *, recipe: str = "phone", warping: float | None = 1.0
) -> Score:
    values = {name: psnr if name == "psnr_y" else psnr / 100 for name in METRICS}
    return Score(
        clip=clip,
        recipe=recipe,
        method=method,
        num_frames=1 if warping is None else 5,
        values=values,
        warping_error=warping,
        source_warping_error=None if warping is None else 1.25,
        cpu_seconds=0.2,
        wall_seconds=0.1,
    )


@pytest.fixture
def scores() -> list[Score]:
    return [
        score("a.mkv", "bicubic", 30, warping=1.0),
        score("a.mkv", "net", 32, warping=2.0),
        score("b.mkv", "bicubic", 40, warping=2.0),
        score("b.mkv", "net", 39.5, warping=1.5),
        score("c.png", "bicubic", 20, warping=None),
        score("c.png", "net", 20.3, warping=None),
        score("a.mkv", "bicubic", 31, recipe="tape"),
        score("a.mkv", "net", 31.1, recipe="tape"),
    ]


def test_a_summary_names_the_worst_clip_and_leaves_stills_out_of_warping_errors(scores: list[Score]) -> None:
    of = {(s.recipe, s.method): s for s in summarize(scores)}
    assert list(of) == [("phone", "bicubic"), ("phone", "net"), ("tape", "bicubic"), ("tape", "net")]
    net = of["phone", "net"]
    assert net.gain == pytest.approx((2 - 0.5 + 0.3) / 3)
    assert (net.worst_clip, net.worst_gain) == ("b.mkv", pytest.approx(-0.5))
    assert (net.warping_error, net.source_warping_error) == (pytest.approx(1.75), 1.25)
    assert (net.cpu_seconds, net.wall_seconds) == (pytest.approx(0.2), pytest.approx(0.1))
    assert of["phone", "bicubic"].worst_gain == 0


def test_tables_are_markdown_and_show_what_is_below_the_reference(scores: list[Score]) -> None:
    report = format_report(scores)
    tables = [part.splitlines() for part in report.split("\n\n") if part.startswith("|")]
    assert len(tables) == 1 + 2 * 3
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    net = next(line for line in tables[0] if line.startswith("| phone | net |"))
    assert "| +0.60 | **-0.50** (b.mkv) | 1.75 (1.25) | 0.200 | 0.100 |" in net
    gains, warping = tables[1], tables[3]
    assert gains[0] == "| PSNR-Y (dB) over bicubic | net |"
    assert gains[2:] == ["| a.mkv | +2.00 |", "| b.mkv | **-0.50** |", "| c.png | +0.30 |"]
    assert warping[0] == "| warping error (levels) | the source itself | bicubic | net |"
    assert warping[2:] == ["| a.mkv | 1.25 | 1.00 | 2.00 |", "| b.mkv | 1.25 | 2.00 | 1.50 |"]


def test_stills_alone_make_a_table_without_warping_errors(scores: list[Score]) -> None:
    stills = [s for s in scores if s.warping_error is None]
    assert "warping error (levels) |" not in format_report(stills)
    report = json.loads(json.dumps(report_json(stills)))
    for row in report["clips"] + report["means"]:
        assert (row["warping_error"], row["source_warping_error"]) == (None, None)


def test_a_clip_is_scored_by_every_method_with_seconds_for_each_frame(training_data: Path) -> None:
    def still(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return interpolate(lq, size=(height, width), mode="bicubic")

    def flickering(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        time.sleep(0.2)
        brightness = torch.tensor([0.0, 0.04] * 2)[:, None, None, None]
        return (still(lq, height, width) + brightness).clamp(0, 1)

    methods: dict[str, Upscale] = {"still": still, "flickering": flickering}
    clip = training_data / "video" / "pan.mkv"
    scores = list(evaluate_clip(clip, methods, scale=4, max_frames=4, recipes=("bicubic", "phone")))
    assert [(s.recipe, s.method) for s in scores] == [
        (recipe, method) for recipe in ("bicubic", "phone") for method in methods
    ]
    assert all(s.num_frames == 4 and s.clip == "pan.mkv" for s in scores)
    steady, unsteady = scores[:2]
    assert steady.warping_error is not None
    assert unsteady.warping_error is not None
    assert unsteady.warping_error > steady.warping_error + 0.5
    assert unsteady.source_warping_error == steady.source_warping_error
    assert unsteady.wall_seconds >= 0.05
    assert unsteady.cpu_seconds < unsteady.wall_seconds
