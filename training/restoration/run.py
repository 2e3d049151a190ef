"""A whole run of the restorer: configuration in, checkpoint folder and curves out."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.propagation import save_propagation
from training.restoration.config import RestorationConfig
from training.restoration.trainer import RestorationTrainer


def train_restoration(
    config: RestorationConfig,
    folder: Path,
    *,
    data_dir: Path,
    run_dir: Path,
    device: str,
    start: Path | None,
    decay_steps: int | None,
) -> None:
    """Trains, or goes on with a run that was interrupted, and writes the averaged network to `folder`."""
    trainer = RestorationTrainer(config, data_dir=data_dir, run_dir=run_dir, device=device)
    trainer.prepare(start=start, decay_steps=decay_steps)
    network = trainer.run()
    save_propagation(network, folder, trainer.description(), dtype=torch.float16)
