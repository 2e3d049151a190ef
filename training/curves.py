"""The log of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on the machines that train

import matplotlib.pyplot as plt


def plot_curves(log: Path, picture: Path) -> None:
    """Plots loss terms, the ratio to bicubic and the learning rate over the steps.

    Args:
        log: `log.jsonl` of a run. Steps that a resumed run logged again replace the first ones.
        picture: PNG to write.
    """
    by_step = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        by_step[record["step"]] = record
    records = [by_step[step] for step in sorted(by_step)]
    figure, axes = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    for name in ("loss", "pixel", "perceptual", "temporal", "latent"):
        points = [(r["step"], r[name]) for r in records if name in r]
        if points:
            axes[0].plot(*zip(*points, strict=True), label=name, linewidth=1)
    axes[0].set(yscale="log", ylabel="loss")
    axes[0].legend(ncols=5)
    for stage in ("latent", "pixel"):
        name = "loss" if stage == "latent" else "pixel"
        points = [(r["step"], r[name] / r["baseline"]) for r in records if r["stage"] == stage]
        if points:
            axes[1].plot(*zip(*points, strict=True), label=f"{stage} stage", linewidth=1)
    axes[1].axhline(1.0, color="gray", linewidth=0.5)
    axes[1].set(ylabel="loss / loss of interpolation")
    axes[1].legend()
    axes[2].plot([r["step"] for r in records], [r["learning_rate"] for r in records], linewidth=1)
    axes[2].set(ylabel="learning rate", xlabel="step")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
