"""Training with a view: crops beside the samples that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipelines.dove.pipeline import DovePipeline
from training.batches import draw_batch
from training.config import TrainingConfig
from training.data import SourceLibrary, make_block
from training.model import OneStepModel
from training.trainer import Trainer


def with_view(config: TrainingConfig, *, probability: float = 1.0, **model: Any) -> TrainingConfig:
    raw = config.model_dump(mode="json")
    raw["model"] |= {"view": {"tokens": 4}} | model
    for stage in raw["stages"]:
        stage["view_probability"] = probability
    return TrainingConfig.model_validate(raw)


def weights(model: OneStepModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("clean_probability", [0.0, 1.0])
def test_crops_lie_in_their_samples_where_they_are_said_to(
    clean_probability: float, training_data: Path, tiny_config: TrainingConfig
) -> None:
    config = with_view(tiny_config)
    block = make_block(config, SourceLibrary(training_data, config.data), 0)
    stage = config.stages[1].model_copy(update={"clean_probability": clean_probability, "batch_size": 24})
    batch = draw_batch(block, stage, 4, np.random.default_rng(0))
    assert batch.whole is not None
    assert batch.whole.lq.shape == (24, 3, 2, 16, 16)
    # A bicubic LR knows nothing beyond its HR crop's border.
    inner = slice(2, -2) if clean_probability else slice(None)
    for crop, sample, (y, x) in zip(batch.lq, batch.whole.lq, batch.whole.origins.tolist(), strict=True):
        found = sample[..., y : y + 12, x : x + 12]
        assert torch.equal(found[..., inner, inner], crop[..., inner, inner])
    assert len(set(map(tuple, batch.whole.origins.tolist()))) > 5


def test_the_view_is_left_out_of_a_share_of_steps_and_the_crops_are_the_same(
    training_data: Path, tiny_config: TrainingConfig
) -> None:
    block = make_block(tiny_config, SourceLibrary(training_data, tiny_config.data), 0)
    half = tiny_config.stages[1].model_copy(update={"view_probability": 0.5})
    batches = [draw_batch(block, half, 4, np.random.default_rng(seed)) for seed in range(60)]
    assert 15 < sum(batch.whole is not None for batch in batches) < 45
    for seed, batch in enumerate(batches[:5]):
        without = draw_batch(block, tiny_config.stages[1], 4, np.random.default_rng(seed))
        assert torch.equal(batch.lq, without.lq)
        assert torch.equal(batch.hr, without.hr)


@pytest.mark.usefixtures("inline_pool")
def test_a_resumed_run_with_views_gives_the_weights_of_an_uninterrupted_one(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = with_view(tiny_config, probability=0.5)
    stages = tuple(stage.model_copy(update={"schedule": "constant"}) for stage in config.stages)
    config = config.model_copy(update={"stages": stages, "optimizer": "muon"})
    whole = Trainer(config, data_dir=training_data, run_dir=tmp_path / "whole")
    whole.run()
    shorter = (stages[0], stages[1].model_copy(update={"steps": 1}))
    Trainer(
        config.model_copy(update={"stages": shorter}), data_dir=training_data, run_dir=tmp_path / "part"
    ).run()
    resumed = Trainer(config, data_dir=training_data, run_dir=tmp_path / "part")
    resumed.prepare()
    assert resumed.step == 4
    resumed.run()
    assert torch.equal(weights(resumed.network), weights(whole.network))
    gates = [block.attn1.view.gate for block in resumed.network.transformer.transformer_blocks]
    assert all(gate.any() for gate in gates)


def test_a_view_is_added_to_a_checkpoint_without_one_and_starts_as_its_projections(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    base = OneStepModel(tiny_config.model)
    torch.nn.init.normal_(base.transformer.proj_out.weight, std=0.02)
    base.save(tmp_path / "base", card={}, dtype=torch.float32)
    trainer = Trainer(with_view(tiny_config), data_dir=training_data, run_dir=tmp_path / "run")
    trainer.prepare(start=tmp_path / "base")
    network = trainer.network
    for block, start in zip(
        network.transformer.transformer_blocks, base.transformer.transformer_blocks, strict=True
    ):
        assert torch.equal(block.attn1.view.to_k.weight, start.attn1.to_k.weight)
        assert torch.equal(block.attn1.view.to_v.bias, start.attn1.to_v.bias)
    block = make_block(tiny_config, SourceLibrary(training_data, tiny_config.data), 0)
    batch = draw_batch(block, trainer.config.stages[1], 4, np.random.default_rng(0))
    with torch.no_grad():
        expected = base.restore_latents(batch.lq)
        assert torch.equal(network.restore_latents(batch.lq, batch.whole), expected)
    for _ in range(2):  # the gates first, then what they let through
        trainer.train_step(batch)
    with torch.no_grad():
        one, other = network.restore_latents(batch.lq, batch.whole), network.restore_latents(batch.lq)
    assert not torch.equal(one, other)
    network.save(tmp_path / "tuned", card={})
    pipeline = DovePipeline.from_checkpoint(tmp_path / "tuned")
    assert pipeline.model_shape.view_tokens == 4
    assert pipeline.model_shape.is_streamed  # whole frames need no view
    trainer.prepare(start=tmp_path / "tuned")  # a view that is there is taken as it is
    gate = trainer.network.transformer.transformer_blocks[0].attn1.view.gate
    assert gate.any()


def test_a_stage_with_a_view_needs_a_model_with_one(tiny_config: TrainingConfig) -> None:
    with pytest.raises(ValidationError, match=r"view_probability is 1\.0, but the model has no view"):
        with_view(tiny_config, view=None)
