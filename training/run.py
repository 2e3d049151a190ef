"""A whole training run: configuration in, checkpoint folder and curves out."""

from __future__ import annotations

from pathlib import Path

from training.config import load_config
from training.curves import plot_curves
from training.trainer import Trainer

CHECKPOINT_NAME = "checkpoint"


def train(config_path: Path, *, data_dir: Path, run_dir: Path, device: str = "cpu") -> Path:
    """Trains, or goes on with a run that was interrupted, and writes the checkpoint.

    Args:
        config_path: A YAML file of `training.config.TrainingConfig`.
        data_dir: Folder with the picture and video folders the configuration names.
        run_dir: Log, resumable state, curves and the checkpoint.
        device: `cpu` or a CUDA device.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        TrainingConfigError: If the configuration is not valid.
        TrainingDataError: If there is nothing to train on.
    """
    config = load_config(config_path)
    trainer = Trainer(config, data_dir=data_dir, run_dir=run_dir, device=device)
    model = trainer.run()
    folder = run_dir / CHECKPOINT_NAME
    card: dict[str, object] = {"training_steps": trainer.step, **config.card}
    model.save(folder, card=card)
    plot_curves(run_dir / "log.jsonl", run_dir / "curves.png")
    return folder
