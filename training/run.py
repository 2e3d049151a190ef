"""A whole training run: configuration in, checkpoint folder and curves out."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.propagation import save_propagation
from training.config import TrainingConfig
from training.curves import plot_curves
from training.restoration.config import RestorationConfig
from training.restoration.trainer import RestorationTrainer
from training.trainer import Trainer
from training.yaml_files import read_yaml, validate_config

CHECKPOINT_NAME = "checkpoint"


def train(
    config_path: Path,
    *,
    data_dir: Path,
    run_dir: Path,
    device: str = "cpu",
    start: Path | None = None,
    decay_steps: int | None = None,
) -> Path:
    """Trains, or goes on with a run that was interrupted, and writes the checkpoint.

    Args:
        config_path: A YAML file of `training.config.TrainingConfig`, or with `kind: restoration` one of
            `training.restoration.config.RestorationConfig`.
        data_dir: Folder with the picture and video folders the configuration names.
        run_dir: Log, resumable state, curves and the checkpoint.
        device: `cpu` or a CUDA device.
        start: Another run's folder or a checkpoint to start from.
        decay_steps: Let the learning rate fall to zero over so many steps, then end.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        TrainingConfigError: If the configuration is not valid, or what it starts from does not fit.
        TrainingDataError: If there is nothing to train on.
        CheckpointError: If the checkpoint to start from is damaged.
    """
    content = read_yaml(config_path)
    folder = run_dir / CHECKPOINT_NAME
    if isinstance(content, dict) and content.get("kind") == "restoration":
        config = validate_config(RestorationConfig, content, config_path)
        restorer = RestorationTrainer(config, data_dir=data_dir, run_dir=run_dir, device=device)
        restorer.prepare(start=start, decay_steps=decay_steps)
        restorer.run()
        save_checkpoint(restorer, folder)
        return folder
    trainer = Trainer(
        validate_config(TrainingConfig, content, config_path),
        data_dir=data_dir,
        run_dir=run_dir,
        device=device,
    )
    trainer.prepare(start=start, decay_steps=decay_steps)
    trainer.run().save(folder, card=trainer.card())
    plot_curves(run_dir)
    return folder


def save_checkpoint(restorer: RestorationTrainer, folder: Path) -> None:
    """Writes the averaged weights in half precision, with the ranges that 8 bits need."""
    ranges = {"activation_ranges": restorer.measure_ranges()}
    description = restorer.description().model_copy(update=ranges)
    save_propagation(restorer.ema, folder, description, dtype=torch.float16)
