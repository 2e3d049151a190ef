"""The log of a restorer's run as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display on the machines that train

import matplotlib.pyplot as plt


def plot_restoration_curves(run_dir: Path, picture: Path) -> None:
    """Plots the loss by factor, the gains on the validation clips and the learning rate over the steps.

    Args:
        run_dir: Folder of a run, with `log.jsonl` and, once it has validated, `validation.jsonl`.
        picture: PNG to write.
    """
    log, validation = (read_records(run_dir / name) for name in ("log.jsonl", "validation.jsonl"))
    figure, axes = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    for scale in (4, 3, 2, 1):
        name = f"pixel{scale}"
        points = [(r["step"], r[name] / r[f"baseline{scale}"]) for r in log if name in r]
        if points:
            axes[0].plot(*zip(*points, strict=True), label=f"x{scale}", linewidth=1)
    axes[0].set(ylabel="L1 / L1 of bicubic")
    for recipe, color in (("bicubic", "C0"), ("real", "C1")):
        for key, label, style in (("gain", "all frames", "-"), ("one_frame_gain", "one frame", ":")):
            points = [(r["step"], r["means"][recipe][key]) for r in validation]
            if points:
                axes[1].plot(*zip(*points, strict=True), style, color=color, label=f"{recipe}, {label}")
    axes[1].set(ylabel="PSNR-Y over bicubic (dB)")
    for axis in axes[:2]:
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    axes[2].plot([r["step"] for r in log], [r["learning_rate"] for r in log], linewidth=1)
    axes[2].set(ylabel="learning rate", xlabel="step")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Lines of a log in the order of their steps; of steps logged twice (after a resume) the later ones."""
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_step = {record["step"]: record for record in records}
    return [by_step[step] for step in sorted(by_step)]
