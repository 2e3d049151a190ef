"""`dovetail train`: checkpoints from pictures and videos."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import reported_errors


def train(
    config: Annotated[
        Path, typer.Argument(help="Training configuration (YAML), for example configs/dit-nano.yaml.")
    ],
    data: Annotated[Path, typer.Option(help="Folder with the picture and video folders to train on.")],
    output: Annotated[Path, typer.Option(help="Folder for log, state, curves and checkpoint.")] = Path(
        "runs/nano"
    ),
    device: Annotated[str, typer.Option(help="cpu, or a CUDA device such as cuda:0.")] = "cpu",
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of a run or of a checkpoint to start from."),
    ] = None,
    decay: Annotated[
        int | None,
        typer.Option(min=1, help="Let the learning rate fall to zero over so many steps, then end."),
    ] = None,
) -> None:
    """Train a small checkpoint: one-step (latent, then pixel stage), or a restorer (`kind: restoration`).

    Run it again with the same folder to go on after an interruption.
    """
    with reported_errors():
        from pipelines.freed_memory import keep_freed_memory
        from training.run import train as run_training

        keep_freed_memory()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        folder = run_training(
            config, data_dir=data, run_dir=output, device=device, start=start, decay_steps=decay
        )
    typer.echo(f"checkpoint: {folder}\ncurves: {output / 'curves.png'}")
