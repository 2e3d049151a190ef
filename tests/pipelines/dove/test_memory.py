"""The planner's estimates against what tensors really take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.dove.options import DoveOptions, VaeTiling
from pipelines.dove.pipeline import DovePipeline
from pipelines.memory_tracking import peak_memory
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkRequest
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano
from tests.thorough import sized

AMPLE = 1 << 33


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DovePipeline]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "cogvideox": DovePipeline.from_checkpoint(save_checkpoint(folder / "dove")),
        "space_to_depth": DovePipeline.from_checkpoint(save_nano(folder / "nano")),
        "embedded": DovePipeline.from_checkpoint("dovetail-dit-nano"),
    }


def peak_bytes(
    pipeline: DovePipeline,
    clip: torch.Tensor,
    size: tuple[int, int],
    plan: DiffusionPlan,
    vae_tiling: VaeTiling = "plan",
) -> int:
    """Most bytes alive while a chunk is restored and each batch is dropped once it was looked at."""
    options = DoveOptions(vae_tiling=vae_tiling)
    with peak_memory(torch.device("cpu")) as peak:
        num_frames = sum(batch.shape[0] for batch in pipeline.restore_chunk(clip, size, options, plan))
    assert num_frames == clip.shape[0]
    return peak.num_bytes


@pytest.mark.parametrize("kind", ["cogvideox", "space_to_depth", "embedded"])
@pytest.mark.parametrize(
    "shape", sized([(1, 32, 48), (5, 24, 40), (17, 48, 32), (9, 40, 64)], brief=[(1, 32, 48), (9, 24, 40)])
)
@pytest.mark.parametrize("tile", [None, 64])
def test_no_more_is_alive_than_was_estimated(
    kind: str, shape: tuple[int, int, int], tile: int | None, pipelines: dict[str, DovePipeline]
) -> None:
    pipeline, clip = pipelines[kind], make_clip(*shape)
    size = shape[1] * 4, shape[2] * 4
    plan = pipeline.plan(request(clip, size, tile=tile, overlap=16 if tile else None, chunk=0))
    peak = peak_bytes(pipeline, clip, size, plan)
    assert peak <= plan.estimated_bytes
    # What does not grow with the frame, and the tiny VAE's one layer where the estimate has three, set aside.
    # A single image takes its VAE a ninth of the batch that is counted on. The real widths are held closely
    # in tests/pipelines/codecs/test_cogvideox_memory.py.
    slack = 2.0 if kind != "cogvideox" else 3.0 if shape[0] > 1 else 12.0
    assert plan.estimated_bytes - 2**22 <= slack * peak


@pytest.mark.parametrize("vae_tiling", ["plan", "joint"])
def test_decoding_in_tiles_keeps_its_estimate_too(
    vae_tiling: VaeTiling, pipelines: dict[str, DovePipeline]
) -> None:
    pipeline, clip = pipelines["cogvideox"], make_clip(9, 64, 64)
    whole = pipeline.plan(request(clip, (256, 256), chunk=0))
    plan = whole.smaller("vae")
    assert plan is not None
    assert plan.vae_tile_height
    peak = peak_bytes(pipeline, clip, (256, 256), plan, vae_tiling)
    assert peak <= plan.estimated_bytes < whole.estimated_bytes
    assert plan.estimated_bytes <= 2.5 * peak


@pytest.mark.parametrize("inside", ["full", "window"])
def test_200_frames_in_units_pass_in_one_chunk_with_no_more_memory_each_than_40(
    inside: str, tmp_path: Path
) -> None:
    attention = {"pattern": "units", "unit": 4, "inside": inside}
    pipeline = DovePipeline.from_checkpoint(save_nano(tmp_path / "units", attention=attention))
    # Windows in units take whole frames in one piece; there a batch of the decoder outweighs the rest.
    assert pipeline.model_shape.is_streamed is (inside == "window")
    few, more, most = (peak_of_one_chunk(pipeline, num_frames) for num_frames in (40, 100, 200))
    assert most / 200 <= more / 100 <= few / 40


def peak_of_one_chunk(pipeline: DovePipeline, num_frames: int) -> int:
    clip, size = make_clip(num_frames, 8, 12), (32, 48)
    plan = pipeline.plan(request(clip, size, chunk=0))
    # The planner takes it as soon as the memory is there.
    barely = replace(request(clip, size, chunk=0), memory_bytes=plan.estimated_bytes)
    assert pipeline.plan(barely) == replace(plan, fit=replace(plan.fit, memory_bytes=plan.estimated_bytes))
    assert (plan.chunk_len, plan.rows * plan.cols) == (num_frames, 1)
    peak = peak_bytes(pipeline, clip, size, plan)
    assert peak <= plan.estimated_bytes
    return peak


def test_resampling_after_the_network_is_counted(pipelines: dict[str, DovePipeline]) -> None:
    pipeline, clip = pipelines["space_to_depth"], make_clip(3, 24, 24)
    plan = pipeline.plan(request(clip, (240, 240), chunk=0))
    assert peak_bytes(pipeline, clip, (240, 240), plan) <= plan.estimated_bytes


def test_finishing_holds_a_slice_whatever_the_number_of_frames(
    pipelines: dict[str, DovePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, stages = pipelines["cogvideox"], list[str]()
    monkeypatch.setattr("pipelines.planning.slices.SLICE_PIXELS", 2 * 64 * 64)
    for batch in pipeline.restore_chunk(make_clip(9, 16, 16), (64, 64), DoveOptions(), DiffusionPlan()):
        assert batch.shape[0] <= 2
        stages.append(pipeline.restorer.part)
    assert set(stages) == {"finish"}
    plan = DiffusionPlan(finish_frames=1)
    batches = list(pipeline.restore_chunk(make_clip(9, 16, 16), (64, 64), DoveOptions(), plan))
    assert [batch.shape[0] for batch in batches] == [1] * 9


def test_smaller_plan_of_whole_frames_needs_less(pipelines: dict[str, DovePipeline]) -> None:
    plan = pipelines["embedded"].plan(request(make_clip(16, 180, 320), (720, 1280), chunk=0))
    smaller = plan.smaller("transformer")
    assert smaller is None or smaller.estimated_bytes < plan.estimated_bytes


def test_whole_frames_of_720p_fit_a_small_machine(pipelines: dict[str, DovePipeline]) -> None:
    # 1.8 GB before frames went through the network without tensors of the latents' size.
    plan = pipelines["embedded"].plan(request(make_clip(16, 180, 320), (720, 1280)))
    assert plan.estimated_bytes < 400e6


def request(clip: torch.Tensor, size: tuple[int, int], **wishes: Any) -> ChunkRequest:
    return ChunkRequest(
        num_frames=clip.shape[0],
        height=clip.shape[-2],
        width=clip.shape[-1],
        out_height=size[0],
        out_width=size[1],
        memory_bytes=AMPLE,
        **wishes,
    )
