"""The seam metric, and what it says of fused and of cut tiles."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.spans import TileGrid, equal_spans
from pipelines.seams import seam_ratio, tile_tones, tone_drift
from pipelines.tiling import TileFusion
from tests.pipelines.tiny import make_clip, save_checkpoint

GRID = TileGrid(tuple(equal_spans(96, 48, 16)), tuple(equal_spans(160, 48, 16)))
# Middles of the overlaps, where a cut switches tiles.
ROWS = [(a.stop + b.start) // 2 for a, b in pairwise(GRID.rows)]
COLS = [(a.stop + b.start) // 2 for a, b in pairwise(GRID.cols)]


def restore_with_tone_of_the_tile(frame: torch.Tensor, blend: Any) -> torch.Tensor:
    """A stand-in that, like a network with norms and attention, gives each tile a tone of its own."""
    fusion = TileFusion(GRID, blend)
    for index, (row, col) in enumerate(GRID.tiles):
        tile = frame[..., row.slice, col.slice]
        fusion.add(index, tile + 0.05 * torch.sin(torch.tensor(7.0 * index)) + 0.01 * tile)
    return fusion.result()


def test_cut_tiles_show_seams_and_fused_tiles_do_not() -> None:
    frame = make_clip(1, 96, 160).float() / 255
    detail = 0.02 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    ratios = [
        seam_ratio(restore_with_tone_of_the_tile(frame, blend) + detail, frame, rows=ROWS, cols=COLS)
        for blend in ("fade", "cut")
    ]
    assert ratios[0] < 1.3
    assert ratios[1] > 2


def test_edge_of_the_picture_on_a_border_is_no_seam() -> None:
    source = torch.zeros(1, 3, 32, 32)
    source[..., 16:] = 1
    output = source + 0.01 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    assert seam_ratio(output, source, cols=[16]) < 2
    assert seam_ratio(output, torch.zeros_like(source), cols=[16]) > 100


@pytest.mark.parametrize("borders", [{}, {"rows": [0]}, {"cols": [32]}])
def test_impossible_borders_are_refused(borders: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="borders"):
        seam_ratio(torch.zeros(3, 32, 32), torch.zeros(3, 32, 32), **borders)


def ratio_of_pipeline(pipeline: DovePipeline, clip: torch.Tensor, scale: int, **options: Any) -> float:
    height, width = clip.shape[2] * scale, clip.shape[3] * scale
    plan = DiffusionPlan(tile_height=64, tile_width=64, overlap_height=32, overlap_width=32)
    grid = plan.tile_grid(height + -height % 16, width + -width % 16, multiple=16)
    cols = [(a.stop + b.start) // 2 for a, b in pairwise(grid.cols)]
    frames = pipeline(
        clip, height=height, width=width, plan=plan, options=DoveOptions(color_match="none", **options)
    ).frames
    source = F.interpolate(clip.float() / 255, size=(height, width), mode="bilinear", align_corners=False)
    return seam_ratio(frames, source, cols=[col for col in cols if col < width], period=16)


def test_pipeline_fuses_tiles_without_seams(tmp_path: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove"))
    clip = make_clip(1, 16, 48)
    cut = ratio_of_pipeline(pipeline, clip, 4, tile_fusion="cut")
    for fusion in ("latent", "pixel"):
        assert ratio_of_pipeline(pipeline, clip, 4, tile_fusion=fusion) < min(cut, 1.2)


@pytest.mark.needs_shared
def test_real_clips_show_no_seams_either(tmp_path: Path, shared_dir: Path) -> None:
    av = pytest.importorskip("av")
    clips = sorted((shared_dir / "clips" / "natural").rglob("*.mp4"))[:2]
    if not clips:
        pytest.skip("no clips")
    pipeline = DovePipeline.from_checkpoint(save_checkpoint(tmp_path / "dove"))
    for path in clips:
        with av.open(str(path)) as container:
            frame = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))
        crop = frame[:32, :96].permute(2, 0, 1)[None].contiguous()
        cut = ratio_of_pipeline(pipeline, crop, 2, tile_fusion="cut")
        fused = ratio_of_pipeline(pipeline, crop, 2, tile_fusion="latent")
        assert fused < 1.6
        assert fused < cut


def test_drift_is_the_difference_of_tones_in_code_values() -> None:
    grid = TileGrid(tuple(equal_spans(64, 32, 0)), tuple(equal_spans(96, 32, 0)))
    frame, source = torch.rand(2, 3, 64, 96)
    frame = source + torch.linspace(-0.01, 0.01, 6).view(2, 3).repeat_interleave(32, 0).repeat_interleave(
        32, 1
    )
    is_flat = torch.ones(64, 96, dtype=torch.bool)
    assert tone_drift(tile_tones(frame, source, grid, is_flat)) == pytest.approx(0.02 * 255, rel=1e-3)
    is_flat[:, :64] = False  # leaves the third and the sixth tile
    tones = tile_tones(frame, source, grid, is_flat)
    assert tones.shape == (2, 3)
    assert tone_drift(tones) == pytest.approx(0.012 * 255, rel=1e-3)
    with pytest.raises(ValueError, match="none of 6 tiles"):
        tile_tones(frame, source, grid, torch.zeros(64, 96, dtype=torch.bool))
