"""The training loop on material of a few seconds."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipelines.dove.description import EMBEDDED_FOLDER
from pipelines.errors import CheckpointError
from pipelines.propagation.checkpoint import load_propagation
from tests.training.conftest import numbered_blocks
from training.batches import CropBatch, draw_batch
from training.config import ModelConfig, TrainingConfig, ValidationConfig, load_config
from training.data import SamplePool, SourceLibrary, make_block, one_step_maker
from training.errors import TrainingConfigError, TrainingDataError
from training.model import OneStepModel
from training.muon import orthogonalise
from training.trainer import Trainer, scheduled_rate

REPOSITORY = Path(__file__).parents[2]


def weights(model: OneStepModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_blocks_are_a_pure_function_of_seed_and_index(
    training_data: Path, tiny_config: TrainingConfig
) -> None:
    library = SourceLibrary(training_data, tiny_config.data)
    first, again, next_block = (make_block(tiny_config, library, i) for i in (2, 2, 3))
    assert first.hr.shape == (4, 3, 3, 64, 64)
    assert first.lq.shape == (4, 3, 3, 16, 16)
    assert np.array_equal(first.hr, again.hr)
    assert np.array_equal(first.lq, again.lq)
    assert not np.array_equal(first.lq, next_block.lq)


def test_batches_pair_hr_with_its_own_lq(training_data: Path, tiny_config: TrainingConfig) -> None:
    block = make_block(tiny_config, SourceLibrary(training_data, tiny_config.data), 0)
    stage = tiny_config.stages[1].model_copy(update={"clean_probability": 1.0, "batch_size": 6})
    batch = draw_batch(block, stage, 4, np.random.default_rng(0))
    hr, lq = batch.hr, batch.lq
    assert batch.whole is None
    assert hr.shape == (6, 3, 2, 48, 48)
    assert lq.shape == (6, 3, 2, 12, 12)
    small = torch.nn.functional.avg_pool3d(hr, (1, 4, 4))
    inner = (..., slice(2, -2), slice(2, -2))
    assert float((small - lq)[inner].abs().mean()) < 0.1


@pytest.mark.usefixtures("inline_pool")
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    whole = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path / "whole")
    whole.run()
    assert whole.step == whole.last_step == 8

    # The first part ends in the middle of the second stage, as a killed run would, with its last saved state.
    stages = (
        tiny_config.stages[0],
        tiny_config.stages[1].model_copy(update={"steps": 1, "schedule": "constant"}),
    )
    constant = tiny_config.model_copy(
        update={"stages": (stages[0], tiny_config.stages[1].model_copy(update={"schedule": "constant"}))}
    )
    reference = Trainer(constant, data_dir=training_data, run_dir=tmp_path / "reference")
    reference.run()
    part = Trainer(
        tiny_config.model_copy(update={"stages": stages}),
        data_dir=training_data,
        run_dir=tmp_path / "resumed",
    )
    part.run()
    assert part.step == 4
    resumed = Trainer(constant, data_dir=training_data, run_dir=tmp_path / "resumed")
    resumed.prepare()
    resumed.run()
    assert torch.equal(weights(resumed.network), weights(reference.network))
    assert torch.equal(weights(resumed.ema), weights(reference.ema))
    assert not torch.equal(weights(resumed.network), weights(whole.network))


def test_training_reduces_the_loss(training_data: Path, tiny_config: TrainingConfig, tmp_path: Path) -> None:
    stage = tiny_config.stages[1].model_copy(
        update={"learning_rate": 3e-3, "schedule": "constant", "steps": 30}
    )
    tiny_config = tiny_config.model_copy(update={"stages": (stage,)})
    trainer = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path)
    block = make_block(tiny_config, SourceLibrary(training_data, tiny_config.data), 0)
    batch = draw_batch(block, stage, 4, np.random.default_rng(0))
    losses = [trainer.train_step(batch)["pixel"] for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]


def test_a_teacher_is_learnt_from(training_data: Path, tiny_config: TrainingConfig, tmp_path: Path) -> None:
    """What asks for its frames alone comes nearer to them than what asks for the originals."""
    stage = tiny_config.stages[1].model_copy(
        update={"learning_rate": 3e-3, "schedule": "constant", "steps": 40, "pixel_loss": "psnr"}
    )
    plain = {"perceptual_weight": 0.0, "temporal_weight": 0.0, "frequency_weight": 0.0}
    lq = torch.rand(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distances = []
    for teacher_weight in (1.0, 0.0):
        taught = stage.model_copy(update=plain | {"teacher_weight": teacher_weight})
        config = tiny_config.model_copy(update={"stages": (taught,), "teacher": "dovetail-nano-2"})
        trainer = Trainer(config, data_dir=training_data, run_dir=tmp_path / str(teacher_weight))
        teacher, _ = load_propagation(EMBEDDED_FOLDER / "dovetail-nano-2")
        wanted = teacher.float()((lq * 0.5 + 0.5).transpose(1, 2), scale=4).frames.transpose(1, 2) * 2 - 1
        batch = CropBatch(torch.rand(1, 3, 1, 64, 64) * 2 - 1, lq)
        for _ in range(40):
            losses = trainer.train_step(batch)
        assert {"pixel", "baseline", "latent"} <= set(losses)
        restored, _ = trainer.network(lq)
        distances.append((restored - wanted).square().mean().item())
    assert distances[0] < 0.5 * distances[1]


def test_a_teacher_that_is_none_is_named(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = tiny_config.model_copy(update={"teacher": "dovetail-dit-nano"})
    with pytest.raises(TrainingConfigError, match=r"'dovetail-dit-nano' is neither .* propagation\.json"):
        Trainer(config, data_dir=training_data, run_dir=tmp_path)


def test_a_stage_that_is_taught_needs_a_teacher(tiny_config: TrainingConfig) -> None:
    content = tiny_config.model_dump(mode="json")
    content["stages"][1]["teacher_weight"] = 0.5
    with pytest.raises(ValidationError, match=r"teacher_weight is 0\.5, but there is no teacher"):
        TrainingConfig.model_validate(content)


@pytest.mark.usefixtures("inline_pool")
def test_the_log_holds_every_term(training_data: Path, tiny_config: TrainingConfig, tmp_path: Path) -> None:
    Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path).run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [2, 5, 7] or [r["step"] for r in records] == [2, 4, 6, 8]
    assert {"pixel", "perceptual", "temporal", "latent", "baseline", "grad_norm"} <= set(records[-1])


def test_several_producers_make_each_its_share(tmp_path: Path) -> None:
    pool = SamplePool(numbered_blocks, tmp_path, first_block=5, num_processes=2)
    try:
        assert [int(pool.get(index)["index"]) for index in range(5, 12)] == list(range(5, 12))
        assert len(list(tmp_path.iterdir())) <= 1 + 2 * 3
    finally:
        pool.close()


def test_a_dead_producer_is_an_error_not_a_hang(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    maker = functools.partial(one_step_maker, tiny_config, tmp_path / "nowhere")
    pool = SamplePool(maker, tmp_path / "pool", first_block=0)
    try:
        with pytest.raises(TrainingDataError, match="has died"):
            pool.get(0)
    finally:
        pool.close()


def test_empty_data_folder_is_named(tmp_path: Path, tiny_config: TrainingConfig) -> None:
    with pytest.raises(TrainingDataError, match="images"):
        SourceLibrary(tmp_path, tiny_config.data)


def test_learning_rate_warms_up_and_decays(tiny_config: TrainingConfig) -> None:
    stage = tiny_config.stages[0].model_copy(
        update={"steps": 100, "warmup_steps": 10, "learning_rate": 1.0, "min_learning_rate_ratio": 0.1}
    )
    rates = [scheduled_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_a_block_is_degraded_as_its_stage_says(training_data: Path, tiny_config: TrainingConfig) -> None:
    only_bicubic = tiny_config.stages[1].model_copy(update={"degradations": {"none": 1.0}})
    config = tiny_config.model_copy(update={"stages": (tiny_config.stages[0], only_bicubic)})
    library = SourceLibrary(training_data, config.data)
    first, second = (make_block(config, library, index) for index in (0, 1))
    errors = []
    for block in (first, second):
        small = torch.nn.functional.interpolate(
            torch.from_numpy(block.hr).flatten(0, 1).float(),
            scale_factor=0.25,
            mode="bicubic",
            antialias=True,
        )
        errors.append(float((small.clamp(0, 255) - torch.from_numpy(block.lq).flatten(0, 1)).abs().max()))
    assert errors[0] > 5
    assert errors[1] <= 1.0 + 1e-3  # both sides are rounded


def test_a_stage_with_an_unknown_degradation_is_refused(tiny_config: TrainingConfig) -> None:
    raw = tiny_config.model_dump()
    raw["stages"][0]["degradations"] = {"mlid": 1.0}
    with pytest.raises(ValidationError, match=r"mlid.*defined are.*mild"):
        TrainingConfig.model_validate(raw)


def test_shipped_configuration_is_valid_and_unknown_fields_are_refused(tmp_path: Path) -> None:
    text = (REPOSITORY / "configs" / "dit-nano.yaml").read_text()
    load_config(REPOSITORY / "configs" / "dit-nano.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text(text + "\nlerning_rate: 3\n")
    with pytest.raises(TrainingConfigError, match="lerning_rate"):
        load_config(broken)
    with pytest.raises(TrainingConfigError, match="cannot read"):
        load_config(tmp_path / "missing.yaml")


def test_a_run_takes_the_parts_it_is_told_of_a_checkpoint(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = OneStepModel(tiny_config.model.model_copy(update={"name": "other"}))
    with torch.no_grad():
        other.vae.conv_out.weight.normal_()
        other.transformer.proj_out.weight.normal_()
    other.save(tmp_path / "other", card={"training_steps": 7}, dtype=torch.float32)
    config = tiny_config.model_copy(update={"start_parts": ("vae",)})
    trainer = Trainer(config, data_dir=training_data, run_dir=tmp_path / "run")
    trainer.prepare(start=tmp_path / "other")
    assert torch.equal(trainer.network.vae.conv_out.weight, other.vae.conv_out.weight)
    assert torch.equal(trainer.ema.vae.conv_out.weight, other.vae.conv_out.weight)
    assert not trainer.network.transformer.proj_out.weight.any()
    assert trainer.step == 0  # it is another checkpoint that is begun


@pytest.mark.usefixtures("inline_pool")
def test_a_run_goes_on_from_the_raw_weights_of_its_own_checkpoint_and_decays(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    first = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path / "first")
    first.run()
    decay = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path / "decay")
    decay.prepare(start=tmp_path / "first" / "raw", decay_steps=3)
    assert (decay.step, decay.last_step) == (8, 11)
    torch.testing.assert_close(weights(decay.network), weights(first.network), atol=1e-3, rtol=1e-3)
    decay.run()
    assert decay.step == 11
    assert not torch.equal(weights(decay.network), weights(first.network))


def test_full_attention_is_fine_tuned_into_a_pattern_with_weights_of_its_own(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    def with_attention(attention: object) -> TrainingConfig:
        model = tiny_config.model.model_dump() | {"attention": attention}
        return tiny_config.model_copy(update={"model": ModelConfig.model_validate(model)})

    base = OneStepModel(with_attention("full").model)
    base.save(tmp_path / "base", card={}, dtype=torch.float32)
    linear = {"pattern": "linear", "blocks": [1, 2, 2]}
    tuned = Trainer(with_attention(linear), data_dir=training_data, run_dir=tmp_path / "run")
    tuned.prepare(start=tmp_path / "base")
    mixing = [name for name, _ in tuned.network.named_parameters() if ".pattern." in name]
    assert mixing
    projection = base.transformer.transformer_blocks[0].attn1.to_q.weight
    assert torch.equal(tuned.network.transformer.transformer_blocks[0].attn1.to_q.weight, projection)
    pair = CropBatch(torch.rand(2, 3, 2, 48, 48), torch.rand(2, 3, 2, 12, 12))
    before = weights(tuned.network)
    tuned.train_step(pair)
    assert not torch.equal(weights(tuned.network), before)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_checkpoint_of_other_sizes_is_refused(
    part: str, training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    sizes = {"transformer": {"num_layers": 3}, "vae": {"channels": 12}}[part]
    changed = tiny_config.model.model_copy(update={part: getattr(tiny_config.model, part) | sizes})
    OneStepModel(changed).save(tmp_path / "other", card={})
    trainer = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path / "run")
    with pytest.raises(TrainingConfigError, match="does not fit"):
        trainer.prepare(start=tmp_path / "other")


def test_a_start_without_weights_is_a_damaged_checkpoint(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    OneStepModel(tiny_config.model).save(tmp_path / "other", card={})
    (tmp_path / "other" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"no tensors")
    trainer = Trainer(tiny_config, data_dir=training_data, run_dir=tmp_path / "run")
    with pytest.raises(CheckpointError, match="vae"):
        trainer.prepare(start=tmp_path / "other")


@pytest.mark.usefixtures("inline_pool")
def test_validation_also_says_what_the_transformer_is_worth(
    training_data: Path, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    data = tiny_config.data.model_copy(update={"held_out": ("2", "pan")})
    validation = ValidationConfig(every=4, num_frames=2, size=(48, 64))
    config = tiny_config.model_copy(update={"data": data, "validation": validation, "optimizer": "muon"})
    Trainer(config, data_dir=training_data, run_dir=tmp_path).run()
    records = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [4, 8]
    with_it, without = records[-1]["means"], records[-1]["without_transformer"]
    assert set(with_it) == set(without) == {"bicubic", "real"}
    assert with_it["bicubic"]["gain"] != without["bicubic"]["gain"]
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3
