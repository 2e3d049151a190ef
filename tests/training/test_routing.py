"""Routes of heads: measured, ranked, written and read back."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from pipelines.dove.attention.calibration import (
    agreement,
    divergences,
    routes_below_threshold,
    routes_within_budget,
)
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.patterns import RoutedAttention
from tests.pipelines.dove.test_linear_attention import HEADS, make_tokens
from tests.pipelines.tiny import make_clip, save_nano
from training.routing import Calibration
from training.routing_map import plot_routes


def test_divergence_is_that_of_the_two_distributions() -> None:
    """KL(p^S || p) written out, with S from the definition of a route; all queries are looked at."""
    grid, count = (3, 4, 5), 2
    tokens = make_tokens(grid, count)
    window, tile = (3, 3, 1), (1, 1, 1)
    got = divergences(tokens, window=window, tile=tile, num_queries=999, generator=torch.Generator())
    query, key = tokens.video[0], torch.cat([tokens.text[1], tokens.video[1]], dim=2)
    p = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    t, y, x = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    same_frame = t[:, None] == t
    # Boxes of three are moved into the grid at its ends.
    near = [(other - place[:, None].clamp(1, n - 2)).abs() <= 1 for place, other, n in ((t, t, 3), (y, y, 4))]
    for route, allowed in enumerate((near[0] & near[1] & (x[:, None] == x), same_frame)):
        kept = torch.cat([torch.ones(60, count, dtype=torch.bool), allowed], dim=1)
        local = p * kept / (p * kept).sum(dim=-1, keepdim=True)
        expected = (local * (local / p).log()).nan_to_num().sum(dim=-1).mean(dim=(0, 2))
        assert expected.shape == (HEADS,)
        torch.testing.assert_close(got[route].double(), expected, atol=1e-5, rtol=0)


def test_heads_that_lose_least_are_local_until_the_budget_is_met() -> None:
    window = [[0.1, 3.0, 0.2], [9.0, 0.5, 9.0]]
    frame = [[0.3, 1.0, 0.1], [9.0, 0.4, 8.0]]
    divergence = torch.stack([torch.tensor(window), torch.tensor(frame)], dim=1)
    # 6 heads: two by frame (1 - 0.5 each) and one by window (1 - 0.2) save 1.8 of 6
    table = routes_within_budget(divergence, (0.2, 0.5), 0.71)
    assert table == (("window", "global", "frame"), ("global", "frame", "global"))
    assert routes_within_budget(divergence, (0.2, 0.5), 1.0) == (("global",) * 3,) * 2
    assert not any("global" in layer for layer in routes_within_budget(divergence, (0.2, 0.5), 0.01))
    # A window as large as the grid is no saving.
    assert routes_within_budget(divergence, (1.0, 0.5), 0.01) == (("frame",) * 3,) * 2


def test_heads_that_lose_less_than_the_threshold_take_the_cheapest_such_route() -> None:
    window = [[0.6, 3.0, 0.7], [9.0, 0.69, 9.0]]
    frame = [[0.1, 0.2, 0.7], [9.0, 0.4, 8.0]]
    divergence = torch.stack([torch.tensor(window), torch.tensor(frame)], dim=1)
    table = routes_below_threshold(divergence, (0.2, 0.5), 0.7)
    assert table == (("window", "frame", "global"), ("global", "window", "global"))
    assert routes_below_threshold(divergence, (0.5, 0.2), 0.7)[0] == ("frame", "frame", "global")
    assert routes_below_threshold(divergence, (0.2, 0.5), 0.0) == (("global",) * 3,) * 2
    # A window as large as the grid is no saving.
    assert routes_below_threshold(divergence, (1.0, 0.5), 9.5) == (("frame",) * 3,) * 2


def test_agreement_is_the_share_of_equal_heads() -> None:
    assert agreement([["global", "frame"]], [["window", "frame"]]) == 0.5


def write_video(path: Path, seed: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 56, 48, "bgr0"
        for image in make_clip(4, 48, 56, seed=seed).permute(0, 2, 3, 1).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("limit", [["--budget", "0.75"], ["--threshold", "0.7"]])
def test_command_writes_a_table_that_the_checkpoint_runs_with(limit: list[str], tmp_path: Path) -> None:
    folder = save_nano(tmp_path / "nano", attention="full", licence="mine", extra=3)
    (tmp_path / "clips").mkdir()
    for seed in range(2):
        write_video(tmp_path / "clips" / f"{seed}.mkv", seed)
    arguments = ["calibrate", str(folder), str(tmp_path / "clips"), *limit, "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "of full attention's pairs are left; two halves of the clips agree on" in result.output
    assert np.asarray(Image.open(folder / "routes.png")).std() > 10
    written = json.loads((folder / "dovetail.json").read_text())
    assert (written["licence"], written["extra"]) == ("mine", 3)
    pipeline = DovePipeline.from_checkpoint(folder)
    (settings,) = pipeline.description.attention.root
    assert isinstance(settings, RoutedAttention)
    assert {len(row) for row in settings.heads} == {2}
    assert any(route != "global" for row in settings.heads for route in row)
    assert pipeline(make_clip(2, 16, 24), height=64, width=96).frames.isfinite().all()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code != 0
    assert "full attention in all layers" in again.output


def test_one_clip_is_too_few(tmp_path: Path) -> None:
    folder = save_nano(tmp_path / "nano", attention="full")
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "0.mkv", 0)
    arguments = ["calibrate", str(folder), str(tmp_path / "clips"), "--budget", "0.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert "two clips at least" in result.output


@pytest.mark.parametrize(
    ("limits", "given"), [([], "neither"), (["--budget", "0.5", "--threshold", "1"], "both")]
)
def test_exactly_one_limit_is_given(limits: list[str], given: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path), str(tmp_path), *limits])
    assert result.exit_code == 2
    assert f"give either --budget or --threshold; {given} of them" in result.output


def test_a_heads_route_is_marked_in_the_map_of_that_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = list[Figure]()
    monkeypatch.setattr("matplotlib.pyplot.close", figures.append)
    divergence = torch.tensor([[[0.1, 2.0, 3.0], [0.5, 0.2, 3.0]], [[4.0, 0.3, 5.0], [1.0, 0.9, 0.4]]])
    heads = routes_below_threshold(divergence, (0.2, 0.5), 0.7)
    plot_routes(tmp_path, Calibration(heads, divergence, 0.5, (3, 5, 5), (1, 8, 8), 1.0))
    marks = {}
    for axes in figures[0].axes[:2]:
        (image,), (dots,) = axes.images, axes.collections
        marks[axes.get_title().split(":")[0]] = dots.get_offsets().tolist()
        assert (image.norm.vmin, image.norm.vmax) == (0, 5)
    # x is the head, y the layer
    assert marks == {"window": [[0, 0], [1, 1]], "frame": [[1, 0], [2, 1]]}


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(1)
