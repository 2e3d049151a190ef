"""Whole frames through a space-to-depth checkpoint in one piece, against its separate steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.dove.attention import axis_windows
from pipelines.dove.one_step import rotary_embedding
from pipelines.dove.options import DoveOptions, Upsample
from pipelines.dove.pipeline import DovePipeline
from pipelines.memory_tracking import peak_memory
from pipelines.planning.diffusion_plan import DiffusionPlan
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano

UNITS = {"pattern": "units", "unit": 2, "inside": {"pattern": "window", "window": [2, 3]}}


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> DovePipeline:
    return DovePipeline.from_checkpoint(save_nano(tmp_path_factory.mktemp("checkpoint") / "nano"))


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> DovePipeline:
    folder = save_nano(tmp_path_factory.mktemp("checkpoint") / "units", attention=UNITS)
    return DovePipeline.from_checkpoint(folder)


@pytest.fixture(scope="module")
def embedded() -> DovePipeline:
    return DovePipeline.from_checkpoint("dovetail-dit-nano")


def restore(pipeline: DovePipeline, clip: torch.Tensor, **options: Any) -> torch.Tensor:
    size = clip.shape[-2] * 4, clip.shape[-1] * 4
    return torch.cat(
        list(pipeline.restore_chunk(clip, size, DoveOptions(color_match="none", **options), DiffusionPlan()))
    )


def restore_in_steps(pipeline: DovePipeline, clip: torch.Tensor, **options: Any) -> torch.Tensor:
    streamed, pipeline.restorer.streamed = pipeline.restorer.streamed, None
    assert streamed is not None
    try:
        return restore(pipeline, clip, **options)
    finally:
        pipeline.restorer.streamed = streamed


@pytest.mark.parametrize("upsample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 12, 20), (5, 18, 40), (4, 32, 9)])
def test_frames_are_those_of_the_separate_steps(
    shape: tuple[int, int, int], upsample: Upsample, nano: DovePipeline
) -> None:
    clip = make_clip(*shape)
    expected = restore_in_steps(nano, clip, upsample=upsample)
    torch.testing.assert_close(restore(nano, clip, upsample=upsample), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(3, 40, 44), (4, 72, 80)])
def test_so_are_those_of_the_embedded_checkpoint(shape: tuple[int, int, int], embedded: DovePipeline) -> None:
    clip = make_clip(*shape)
    torch.testing.assert_close(restore(embedded, clip), restore_in_steps(embedded, clip), atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 12, 20), (9, 18, 40)])
def test_so_are_those_of_units_of_frames(shape: tuple[int, int, int], units: DovePipeline) -> None:
    clip = make_clip(*shape)
    torch.testing.assert_close(restore(units, clip), restore_in_steps(units, clip), atol=2e-6, rtol=0)


def test_units_add_to_the_transformers_memory_what_one_unit_takes(
    nano: DovePipeline, units: DovePipeline
) -> None:
    """Tokens go from one buffer to another; beside these and the rotary tables a clip of any length takes
    the same."""
    working = dict[str, list[int]]()
    for name, pipeline in (("windows", nano), ("units", units)):
        streamed: Any = pipeline.restorer.streamed
        assert streamed is not None
        transformer = streamed.transformer
        for num_frames in (10, 50, 100):
            tokens = torch.randn(num_frames, 4, 6, 32)
            rotary = rotary_embedding((num_frames, 4, 6), transformer.config, "cpu")
            with torch.no_grad(), peak_memory(torch.device("cpu")) as peak:
                transformer.run_blocks(tokens, rotary)
            num_angles = num_frames * 4 * 6 * 16 // 2
            working.setdefault(name, []).append(peak.num_bytes - 4 * tokens.numel() - 8 * num_angles)
    assert len(set(working["units"])) == 1
    few, more, most = working["windows"]
    assert few < more < most > 10 * working["units"][0]


# Inductor's own imports use what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_tiles_noise_and_compiled_blocks_take_the_separate_steps(
    nano: DovePipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert nano.model_shape.is_streamed
    monkeypatch.setattr(nano.restorer.streamed, "restore_tokens", None)
    clip = make_clip(2, 16, 32)
    tiled = DiffusionPlan(tile_height=32, tile_width=32, overlap_height=16, overlap_width=16)
    assert len(list(nano.restore_chunk(clip, (64, 128), DoveOptions(), tiled)))
    assert len(restore(nano, clip, noise_step=10)) == 2
    other = DovePipeline.from_checkpoint(save_nano(tmp_path / "nano"))
    other.compile_blocks()
    assert other.restorer.streamed is None
    assert not other.model_shape.is_streamed


def test_checkpoints_with_another_autoencoder_or_pattern_do_too(tmp_path: Path) -> None:
    assert DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove")).restorer.streamed is None
    full = save_nano(tmp_path / "full", attention="full")
    assert DovePipeline.from_checkpoint(full).restorer.streamed is None


@pytest.mark.parametrize("num_tokens", [1, 7, 8, 9, 16, 21, 45, 80])
@pytest.mark.parametrize("shifted", [False, True])
def test_runs_cover_all_windows_in_order_with_one_distance(num_tokens: int, shifted: bool) -> None:
    windows = axis_windows(num_tokens, 8, shifted=shifted)
    indices = range(len(windows.starts))
    runs = windows.runs()
    assert [index for run, _ in runs for index in indices[run]] == list(indices)
    for run, step in runs:
        starts = windows.starts[run]
        assert list(starts) == [starts[0] + step * number for number in range(len(starts))]
        assert len(set(windows.owned[run])) == 1
