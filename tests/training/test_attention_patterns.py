"""Every attention pattern from a training configuration into a checkpoint, and back into a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.dove.description import transformer_digest
from pipelines.dove.one_step import one_step
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.errors import CheckpointError
from pipelines.memory_tracking import peak_memory
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.plan import ChunkRequest
from tests.pipelines.tiny import make_clip
from training.config import ModelConfig, TrainingConfig
from training.model import OneStepModel

LINEAR = {"pattern": "linear", "blocks": [1, 2, 2], "use_lepe": True}
PATTERNS: dict[str, Any] = {
    "full": "full",
    "window": {"pattern": "window", "window": [2, 3]},
    "window+global": {"pattern": "window+global", "window": [2, 3], "pool": 2},
    "sparse": {"pattern": "sparse", "window": [1, 2, 3], "num_similar": 2},
    "routed": {
        "pattern": "routed",
        "heads": [["window", "global"], ["frame", "window"]],
        "window": [3, 3, 3],
        "tile": [1, 2, 2],
    },
    "linear": LINEAR,
    "hybrid": ["full", LINEAR],
    "units": {"pattern": "units", "unit": 2, "inside": "full"},
    "units of windows": {
        "pattern": "units",
        "unit": 2,
        "inside": {"pattern": "window", "window": [2, 3]},
    },
    "units of sparse": {"pattern": "units", "unit": 2, "inside": {"pattern": "sparse", "window": [1, 2, 3]}},
}


def trained(config: TrainingConfig, attention: Any) -> OneStepModel:
    """A model of the configuration with this attention, as if it had been trained."""
    torch.manual_seed(5)
    settings = {"attention": attention, "local_enhancement": attention == "full"}
    model = OneStepModel(ModelConfig.model_validate(config.model.model_dump() | settings))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model.eval()


@pytest.mark.parametrize("name", PATTERNS)
def test_checkpoint_restores_what_the_trained_model_does(
    name: str, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    model = trained(tiny_config, PATTERNS[name])
    model.save(tmp_path, card={}, dtype=torch.float32)
    latents = torch.randn(1, 4, 192, 6, 10)
    for use_lossless_savings in (False, True):
        pipeline = DovePipeline.from_checkpoint(tmp_path, use_lossless_savings=use_lossless_savings)
        settings = AttentionSettings.model_validate(PATTERNS[name])
        assert pipeline.description.attention == settings.bound_to(transformer_digest(tmp_path))
        with torch.no_grad():
            restored, expected = (
                one_step(transformer, pipeline.scheduler, latents, model.prompt_embeds, timestep=19)
                for transformer in (pipeline.transformer, model.transformer)
            )
        # Weights lie elsewhere in memory, and kernels differ with their alignment.
        torch.testing.assert_close(restored, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_more_memory_is_taken_than_was_planned(
    name: str, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    trained(tiny_config, PATTERNS[name]).save(tmp_path, card={})
    pipeline, clip = DovePipeline.from_checkpoint(tmp_path), make_clip(6, 40, 48)
    wishes = ChunkRequest(
        num_frames=6, height=40, width=48, out_height=160, out_width=192, memory_bytes=1 << 33, chunk=0
    )
    plan = pipeline.plan(wishes)
    with peak_memory(torch.device("cpu")) as peak:
        for _ in pipeline.restore_chunk(clip, (160, 192), DoveOptions(), plan):
            pass
    assert peak.num_bytes <= plan.estimated_bytes


def test_others_may_read_a_checkpoint(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    trained(tiny_config, "full").save(tmp_path, card={})
    (tmp_path / "beside").touch()
    modes = {file.stat().st_mode for file in tmp_path.rglob("*") if file.is_file()}
    assert modes == {(tmp_path / "beside").stat().st_mode}


def test_a_checkpoint_without_its_patterns_weights_is_refused(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    trained(tiny_config, "full").save(tmp_path, card={})
    path = tmp_path / "dovetail.json"
    path.write_text('{"attention": {"pattern": "linear", "blocks": [1, 2, 2]}}')
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights .*attn1.pattern.gate.bias"):
        DovePipeline.from_checkpoint(tmp_path)


def test_routes_are_refused_with_other_weights(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    trained(tiny_config, PATTERNS["routed"]).save(tmp_path, card={})
    trained(tiny_config, "full").save(tmp_path / "other", card={})
    weights = "transformer/diffusion_pytorch_model.safetensors"
    (tmp_path / weights).write_bytes((tmp_path / "other" / weights).read_bytes())
    assert DovePipeline.from_checkpoint(tmp_path / "other")
    (tmp_path / weights).write_bytes(damaged((tmp_path / weights).read_bytes()))
    with pytest.raises(CheckpointError, match="make the table again"):
        DovePipeline.from_checkpoint(tmp_path)


def damaged(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_window_beside_a_patterns_name_is_its_window(tiny_config: TrainingConfig) -> None:
    assert tiny_config.model.attention == AttentionSettings.model_validate(
        {"pattern": "window", "window": [2, 2]}
    )
