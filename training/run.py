"""A whole training run: configuration in, checkpoint folder and curves out."""

from __future__ import annotations

from pathlib import Path

from training.config import TrainingConfig, read_yaml, validate_config
from training.curves import plot_curves
from training.errors import TrainingConfigError
from training.restoration.config import RestorationConfig
from training.restoration.run import train_restoration
from training.trainer import Trainer

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
        start: Restorer only: another run's folder or a checkpoint to start from.
        decay_steps: Restorer only: let the learning rate fall to zero over so many steps, then end.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        TrainingConfigError: If the configuration is not valid, or an option does not belong to its kind.
        TrainingDataError: If there is nothing to train on.
        CheckpointError: If the checkpoint to start from is damaged.
    """
    content = read_yaml(config_path)
    folder = run_dir / CHECKPOINT_NAME
    if isinstance(content, dict) and content.get("kind") == "restoration":
        config = validate_config(RestorationConfig, content, config_path)
        train_restoration(
            config,
            folder,
            data_dir=data_dir,
            run_dir=run_dir,
            device=device,
            start=start,
            decay_steps=decay_steps,
        )
        return folder
    if start is not None or decay_steps is not None:
        raise TrainingConfigError("a start and a decay are for configurations of kind: restoration")
    trainer = Trainer(
        validate_config(TrainingConfig, content, config_path),
        data_dir=data_dir,
        run_dir=run_dir,
        device=device,
    )
    model = trainer.run()
    card: dict[str, object] = {"training_steps": trainer.step, **trainer.config.card}
    model.save(folder, card=card)
    plot_curves(run_dir / "log.jsonl", run_dir / "curves.png")
    return folder
