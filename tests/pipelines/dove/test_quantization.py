"""Linears in 8 bits: what they change, what they weigh, and where they cannot be."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload_with_hook

from pipelines.dove.model import load_dove
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.quantization import check_quantization
from pipelines.dove.runtime import weight_bytes
from pipelines.errors import BackendUnavailableError, InvalidOptionError
from pipelines.planning.diffusion_plan import DiffusionPlan
from tests.pipelines.tiny import make_clip, save_checkpoint, save_nano

CUDA = torch.device("cuda")
# Root mean square of what int8 changes: 0.0010 was measured, a quarter of an 8-bit step; single pixels 0.009.
MAX_RMS = 0.003


@pytest.fixture(autouse=True)
def torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """From where `scripts/install.sh` puts it; diffusers, which would import it too, has been imported."""
    monkeypatch.syspath_prepend(Path(sys.prefix) / "torchao")


@pytest.fixture(scope="module", params=[save_checkpoint, save_nano])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param(tmp_path_factory.mktemp("checkpoint") / "checkpoint")


def frames_of(pipeline: DovePipeline) -> torch.Tensor:
    return pipeline(make_clip(2, 8, 12), height=32, width=48, plan=DiffusionPlan()).frames


@pytest.mark.parametrize("use_lossless_savings", [True, False])
def test_int8_weights_are_smaller_and_change_little(folder: Path, use_lossless_savings: bool) -> None:
    plain, quantized = (
        DovePipeline.from_checkpoint(folder, quantize=quantize, use_lossless_savings=use_lossless_savings)
        for quantize in ("none", "int8")
    )
    difference = frames_of(quantized) - frames_of(plain)
    assert 0 < float(difference.square().mean().sqrt()) < MAX_RMS
    linears = [
        linear
        for block in plain.transformer.transformer_blocks
        for part in (block.attn1, block.ff)
        for linear in part.modules()
        if isinstance(linear, torch.nn.Linear)
    ]
    weights = sum(linear.weight.nbytes for linear in linears)
    # One byte in place of four, and a scale and a zero for each output channel.
    scales = 5 * sum(linear.out_features for linear in linears)
    assert weight_bytes(plain.transformer) - weight_bytes(quantized.transformer) == weights * 3 // 4 - scales
    # What callers and the planner read off the modules is as before.
    assert quantized.transformer.dtype == torch.float32
    assert quantized.model_shape == plain.model_shape
    with pytest.raises(InvalidOptionError, match="quantize='none'"):
        quantized.save_pretrained("nowhere")


def test_quantised_parts_are_moved_by_offloading(folder: Path) -> None:
    pipeline = DovePipeline.from_checkpoint(folder, quantize="int8")
    expected = frames_of(pipeline)
    _, first = cpu_offload_with_hook(pipeline.transformer, "cpu")
    _, second = cpu_offload_with_hook(pipeline.vae, "cpu", prev_module_hook=first)
    pipeline._all_hooks = [first, second]
    assert torch.equal(frames_of(pipeline), expected)
    size = weight_bytes(pipeline.transformer)
    moved = pipeline.transformer.transformer_blocks.to("meta")
    assert {weight.device.type for weight in moved.parameters()} == {"meta"}
    assert weight_bytes(pipeline.transformer) == size


def test_quantisation_is_part_of_what_a_model_is(folder: Path) -> None:
    identities = [
        load_dove("tiny", location=folder, device=torch.device("cpu"), dtype=torch.float32, quantize=value)
        for value in ("none", "int8")
    ]
    assert identities[0].identity()["model"] + "+int8" == identities[1].identity()["model"]


def test_what_cannot_be_quantised_here_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Any = "int3"
    with pytest.raises(InvalidOptionError, match="'int3' does not exist; choose one of auto, none"):
        DovePipeline.from_checkpoint(folder, quantize=wrong)
    with pytest.raises(BackendUnavailableError, match=r"8\.9 or more .* is on cpu"):
        DovePipeline.from_checkpoint(folder, quantize="fp8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendUnavailableError, match=r"torchao package .*\[quantization\]"):
        DovePipeline.from_checkpoint(folder, quantize="int8")


@pytest.mark.parametrize(("capability", "is_enough"), [((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_fp8_asks_for_a_gpu_that_multiplies_it(
    capability: tuple[int, int], is_enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    if is_enough:
        check_quantization("fp8", CUDA, torch.bfloat16)
        with pytest.raises(BackendUnavailableError, match="computes bfloat16"):
            check_quantization("fp8", CUDA, torch.float32)
    else:
        with pytest.raises(BackendUnavailableError, match="compute capability"):
            check_quantization("fp8", CUDA, torch.bfloat16)
