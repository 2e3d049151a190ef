"""The loop of the restorer: resuming, starting from weights, decaying, validating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from cli.main import app
from pipelines.devices import choose_dtype
from pipelines.propagation import PropagationNet, load_propagation
from pipelines.propagation.interpolation import enlarge
from training.curves import plot_curves
from training.data import SourceLibrary
from training.errors import TrainingConfigError, TrainingDataError
from training.restoration.config import RestorationConfig
from training.restoration.samples import draw_batch, make_block
from training.restoration.trainer import RestorationTrainer
from training.validation import load_validation_clips, mean_gains, validate


def weights(network: PropagationNet) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def shortened(config: RestorationConfig, steps: int) -> RestorationConfig:
    """The same run, stopped within its second stage."""
    last = config.stages[1].model_copy(update={"steps": steps - config.stages[0].steps})
    return config.model_copy(update={"stages": (config.stages[0], last)})


@pytest.mark.usefixtures("inline_pool")
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    whole = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "whole")
    whole.prepare()
    whole.run()
    part = RestorationTrainer(
        shortened(restoration_config, 3), data_dir=training_data, run_dir=tmp_path / "part"
    )
    part.prepare()
    part.run()
    assert part.step == 3
    resumed = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "part")
    resumed.prepare()
    assert resumed.step == 3
    resumed.run()
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert torch.equal(weights(resumed.ema), weights(whole.ema))


def test_training_reduces_the_loss(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    stage = restoration_config.stages[1].model_copy(update={"learning_rate": 4e-3, "scales": {4: 1.0}})
    restoration_config = restoration_config.model_copy(update={"stages": (stage,)})
    trainer = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path)
    block = make_block(restoration_config, SourceLibrary(training_data, restoration_config.data), 0)
    batch = draw_batch(block, stage, 3, np.random.default_rng(0))
    losses = [trainer.train_step(batch) for _ in range(40)]
    assert losses[-1]["pixel4"] < 0.9 * losses[0]["pixel4"]
    assert losses[-1]["level"] < losses[0]["level"]


def test_auto_is_what_inference_would_take(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    config = restoration_config.model_copy(update={"dtype": "auto"})
    trainer = RestorationTrainer(config, data_dir=training_data, run_dir=tmp_path)
    with trainer.autocast():
        is_half = torch.is_autocast_enabled("cpu")
    assert is_half is (choose_dtype("auto", torch.device("cpu")) == torch.bfloat16)


def test_bfloat16_trains_as_float32_does_up_to_rounding(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    stage = restoration_config.stages[1]
    block = make_block(restoration_config, SourceLibrary(training_data, restoration_config.data), 0)
    batch = draw_batch(block, stage, 3, np.random.default_rng(0))
    steps = {}
    for dtype in ("float32", "bfloat16"):
        config = restoration_config.model_copy(update={"dtype": dtype})
        trainer = RestorationTrainer(config, data_dir=training_data, run_dir=tmp_path / dtype)
        before = weights(trainer.network)
        first = trainer.train_step(batch)
        steps[dtype] = first["loss"], weights(trainer.network) - before
        assert weights(trainer.network).dtype == torch.float32
    (exact, wanted), (loss, found) = steps["float32"], steps["bfloat16"]
    assert loss != exact
    assert loss == pytest.approx(exact, rel=0.02)
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.9


@pytest.mark.usefixtures("inline_pool")
def test_clean_input_at_x1_that_leaves_nothing_to_do_is_logged_and_drawn(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    stage = restoration_config.stages[0].model_copy(
        update={"steps": 20, "batch_frames": 1, "scales": {1: 1.0}}
    )
    config = restoration_config.model_copy(
        update={"stages": (stage,), "log_every": 1, "save_every": 20, "validation": None}
    )
    trainer = RestorationTrainer(config, data_dir=training_data, run_dir=tmp_path)
    trainer.prepare()
    trainer.run()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(log) == 20
    assert any(record["baseline1"] == 0 for record in log)
    plot_curves(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.usefixtures("inline_pool")
def test_the_estimator_is_trained_alone_where_a_stage_says_so(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    stage = restoration_config.stages[0].model_copy(update={"trains": "estimator", "steps": 6})
    config = restoration_config.model_copy(update={"stages": (stage,), "log_every": 2, "validation": None})
    trainer = RestorationTrainer(config, data_dir=training_data, run_dir=tmp_path)
    before = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    trainer.run()
    changed = {
        name for name, weight in trainer.network.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert changed
    assert all(name.startswith("estimator.") for name in changed)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(record["loss"] == record["level"] for record in log)


def test_another_run_goes_on_from_committed_weights_with_a_warm_up(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    first = RestorationTrainer(
        shortened(restoration_config, 4), data_dir=training_data, run_dir=tmp_path / "first"
    )
    first.prepare()
    first.run()
    raw, description = load_propagation(tmp_path / "first" / "raw")
    assert description.training_steps == 4
    later = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "later")
    later.prepare(start=tmp_path / "first" / "raw")
    assert later.step == 4
    assert torch.equal(weights(later.network), weights(raw))
    stage = restoration_config.stages[1]
    assert later.learning_rate() == pytest.approx(stage.learning_rate / 2)
    later.run()
    assert later.step == restoration_config.total_steps


@pytest.mark.usefixtures("inline_pool")
def test_a_decay_starts_at_a_run_and_ends_at_zero(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    run = RestorationTrainer(
        shortened(restoration_config, 4), data_dir=training_data, run_dir=tmp_path / "run"
    )
    run.prepare()
    run.run()
    decay = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "decay")
    decay.prepare(start=tmp_path / "run", decay_steps=4)
    assert (decay.step, decay.last_step) == (4, 8)
    assert torch.equal(weights(decay.network), weights(run.network))
    decay.run()
    assert decay.step == 8
    log = [json.loads(line) for line in (tmp_path / "decay" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["learning_rate"] < log[0]["learning_rate"]
    assert log[-1]["learning_rate"] == pytest.approx(restoration_config.stages[1].learning_rate / 4, rel=0.5)


def test_a_start_that_is_nothing_is_named(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    trainer = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "run")
    with pytest.raises(TrainingConfigError, match="nowhere"):
        trainer.prepare(start=tmp_path / "nowhere")


def test_weights_of_another_network_are_refused(
    training_data: Path, restoration_config: RestorationConfig, tmp_path: Path
) -> None:
    first = RestorationTrainer(restoration_config, data_dir=training_data, run_dir=tmp_path / "first")
    first.save_state()
    wider = restoration_config.model_copy(
        update={"network": restoration_config.network.model_copy(update={"channels": 12})}
    )
    trainer = RestorationTrainer(wider, data_dir=training_data, run_dir=tmp_path / "wider")
    with pytest.raises(TrainingConfigError, match="channels=12"):
        trainer.prepare(start=tmp_path / "first" / "raw")


def test_validation_scores_what_is_held_out_with_both_recipes(
    training_data: Path, restoration_config: RestorationConfig
) -> None:
    clips = load_validation_clips(restoration_config.data, restoration_config.validation, training_data)
    assert [(clip.name, len(clip.hr)) for clip in clips] == [("2", 1), ("pan", 2)]
    network = PropagationNet(restoration_config.network).eval()
    gains = validate(lambda lq: (network(lq[None], scale=4).frames[0], ()), clips)
    assert {(gain.clip, gain.recipe) for gain in gains} == {
        (name, recipe) for name in ("2", "pan") for recipe in ("bicubic", "real")
    }
    for gain in gains:
        assert abs(gain.gain) < 2  # a new network is nearly interpolation
        assert gain.one_frame_gain == pytest.approx(gain.gain, abs=1e-4)
    assert set(mean_gains(gains)) == {"bicubic", "real"}


def test_validation_tells_the_temporal_consistency_of_clips_beside_bicubic_and_the_source(
    training_data: Path, restoration_config: RestorationConfig
) -> None:
    clips = load_validation_clips(restoration_config.data, restoration_config.validation, training_data)
    still, pan = clips
    assert pan.motion is not None

    def flickering(lq: torch.Tensor) -> tuple[torch.Tensor, tuple[float, ...]]:
        brightness = torch.tensor([0.0, 20 / 255])[: len(lq), None, None, None]
        return enlarge(lq[None], 4)[0] * 0.8 + brightness, ()

    gains = validate(flickering, clips)
    for gain in gains:
        if gain.clip == still.name:
            assert gain.warping_errors == {}
        else:
            assert gain.warping_errors["source"] == pan.motion.own_error
            assert gain.warping_errors["bicubic"] == pan.bicubic_warping_errors[gain.recipe]
            assert gain.warping_errors["model"] > gain.warping_errors["bicubic"] + 3
    for recipe, means in mean_gains(gains).items():
        (of_pan,) = (gain for gain in gains if (gain.clip, gain.recipe) == (pan.name, recipe))
        for name, error in of_pan.warping_errors.items():
            assert means[f"{name}_warping_error"] == error  # stills do not dilute the mean
    assert "model_warping_error" not in mean_gains(validate(flickering, [still]))["real"]


def test_a_held_out_name_that_does_not_exist_is_an_error(
    training_data: Path, restoration_config: RestorationConfig
) -> None:
    data = restoration_config.data.model_copy(update={"held_out": ("2", "panorama")})
    with pytest.raises(TrainingDataError, match="panorama"):
        load_validation_clips(data, restoration_config.validation, training_data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": [1, 9]}, "wants 9 frames, samples have 3"),
        ({"body_size": 17}, "crops 68 HR pixels, samples have 64"),
        ({"border": 8}, "nothing would be left"),
        ({"scales": {5: 1.0}}, r"trains \[5\]"),
        ({"learning_rat": 1.0}, "learning_rat"),
    ],
)
def test_impossible_stages_are_refused(
    raw_config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    raw_config["stages"][1] |= change
    with pytest.raises(ValidationError, match=message):
        RestorationConfig.model_validate(raw_config)


def test_the_command_trains_by_the_kind_of_the_file(
    training_data: Path, raw_config: dict[str, Any], tmp_path: Path
) -> None:
    config, run = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(raw_config))
    arguments = ["train", str(config), "--data", str(training_data), "--output", str(run)]
    trained = CliRunner().invoke(app, arguments)
    assert trained.exit_code == 0, trained.output
    _, description = load_propagation(run / "checkpoint")
    assert (description.name, description.training_steps) == ("tiny", 6)
    assert all(low <= 0 < high for low, high in description.activation_ranges.values())
    assert "conv_mid" in description.activation_ranges
    assert (run / "curves.png").stat().st_size > 10_000
    validation = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [record["step"] for record in validation] == [3, 6]
    names = {f"{name}_warping_error" for name in ("model", "bicubic", "source")}
    assert names <= set(validation[0]["means"]["real"])
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"pixel4", "baseline4", "level", "grad_norm", "learning_rate"} <= set(log[0])
