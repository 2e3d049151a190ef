"""The log of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display on the machines that train

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

CURVES_NAME = "curves.png"


def plot_curves(run_dir: Path) -> None:
    """Plots the loss, the gains on the validation clips and the learning rate over the steps: `curves.png`.

    Args:
        run_dir: Folder of a run, with `log.jsonl` and, once it has validated, `validation.jsonl`.
    """
    log, validation = (read_records(run_dir / name) for name in ("log.jsonl", "validation.jsonl"))
    figure, axes = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    _plot_losses(axes[0], log)
    _plot_gains(axes[1], validation)
    axes[2].plot([r["step"] for r in log], [r["learning_rate"] for r in log], linewidth=1)
    axes[2].set(ylabel="learning rate", xlabel="step")
    figure.savefig(run_dir / CURVES_NAME, dpi=110)
    plt.close(figure)


def _plot_losses(axes: Axes, log: list[dict[str, Any]]) -> None:
    """Pixel losses (by factor, where there are several) and losses on latents, by that of interpolation."""
    names = sorted({name for record in log for name in record if name.startswith("pixel")})
    for name in names:
        scale = name.removeprefix("pixel")
        label = f"pixels, x{scale}" if scale else "pixels"
        known = [r for r in log if name in r and r[f"baseline{scale}"]]  # 0 where nothing was to be done
        points = [(r["step"], r[name] / r[f"baseline{scale}"]) for r in known]
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1)
    latent = [(r["step"], r["loss"] / r["baseline"]) for r in log if "baseline" in r and "pixel" not in r]
    if latent:
        axes.plot(*zip(*latent, strict=True), label="latents", linewidth=1)
    axes.axhline(1.0, color="gray", linewidth=0.5)
    axes.set(ylabel="loss / loss of interpolation")
    if names or latent:
        axes.legend()


def _plot_gains(axes: Axes, validation: list[dict[str, Any]]) -> None:
    curves = [
        ("means", "gain", "all frames", "-"),
        ("means", "one_frame_gain", "one frame", ":"),
        ("without_transformer", "gain", "without transformer", "--"),
    ]
    for recipe, color in (("bicubic", "C0"), ("real", "C1")):
        for means, key, label, style in curves:
            points = [(r["step"], r[means][recipe][key]) for r in validation if means in r]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, label=f"{recipe}, {label}")
    axes.set(ylabel="PSNR-Y over bicubic (dB)")
    if validation:
        axes.legend()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Lines of a log in the order of their steps; of steps logged twice (after a resume) the later ones."""
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_step = {record["step"]: record for record in records}
    return [by_step[step] for step in sorted(by_step)]
