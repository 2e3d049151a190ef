"""Scores as Markdown tables, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from training.evaluation.scoring import Score, summarize
from training.metrics import METRICS

_TITLES = {
    "psnr_y": "PSNR-Y (dB)",
    "ssim": "SSIM",
    "haarpsi": "HaarPSI",
    "gmsd": "GMSD (smaller is better)",
}


def format_report(scores: list[Score], reference: str = "bicubic") -> str:
    """Markdown: a row for each recipe and method, then for each recipe its figures by clip.

    Args:
        scores: Every method on every clip with every recipe.
        reference: Method that gains are over.
    """
    parts = [format_summary(scores, reference), "## By clip"]
    for recipe in dict.fromkeys(s.recipe for s in scores):
        of_recipe = [s for s in scores if s.recipe == recipe]
        parts += [
            f"### {recipe}",
            format_gains(of_recipe, "psnr_y", reference, decimals=2),
            format_gains(of_recipe, "haarpsi", reference, decimals=4),
        ]
        if moving := [s for s in of_recipe if s.warping_error is not None]:
            sources = [
                replace(s, method="the source itself", warping_error=s.source_warping_error) for s in moving
            ]
            parts.append(
                _format_clips(
                    [*sources, *moving], "warping error (levels)", lambda s: f"{s.warping_error:.2f}"
                )
            )
    return "\n\n".join(parts)


def format_summary(scores: list[Score], reference: str = "bicubic") -> str:
    """A row for each recipe and method: means over clips, the worst clip, warping error and time."""
    titles = [_TITLES[name] for name in METRICS]
    gain = f"PSNR-Y over {reference}"
    headers = ["degradation", "method", *titles, gain, "worst clip", "warping error (the source's)"]
    rows = [
        [
            s.recipe,
            s.method,
            *(f"{value:.2f}" if name == "psnr_y" else f"{value:.4f}" for name, value in s.values.items()),
            f"{s.gain:+.2f}",
            "" if s.method == reference else f"{_marked(s.worst_gain, 2)} ({s.worst_clip})",
            "" if s.warping_error is None else f"{s.warping_error:.2f} ({s.source_warping_error:.2f})",
            f"{s.cpu_seconds:.3f}",
            f"{s.wall_seconds:.3f}",
        ]
        for s in summarize(scores, reference)
    ]
    note = (
        f"Means over clips; bold: below {reference}. Warping error: change along the source's motion, 8-bit "
        "levels, without stills; near the source's own is good, below it soft."
    )
    return _table([*headers, "CPU s/frame", "wall s/frame"], rows) + "\n\n" + note


def format_gains(scores: list[Score], metric: str, reference: str, *, decimals: int) -> str:
    """A metric over that of the reference, a row for each clip: losses are bold."""
    base = {s.clip: s.values[metric] for s in scores if s.method == reference}
    others = [s for s in scores if s.method != reference]
    title = f"{_TITLES[metric]} over {reference}"
    return _format_clips(others, title, lambda s: _marked(s.values[metric] - base[s.clip], decimals))


def report_json(scores: list[Score], reference: str = "bicubic") -> dict[str, Any]:
    """Everything: `clips` as `Score`, `means` as `Summary`, warping errors null for stills."""
    return {
        "reference": reference,
        "clips": [asdict(score) for score in scores],
        "means": [asdict(summary) for summary in summarize(scores, reference)],
    }


def _format_clips(scores: list[Score], title: str, cell: Callable[[Score], str]) -> str:
    """A row for each clip, a column for each method."""
    methods = list(dict.fromkeys(s.method for s in scores))
    cells = {(s.clip, s.method): cell(s) for s in scores}
    clips = dict.fromkeys(s.clip for s in scores)
    return _table([title, *methods], [[clip, *(cells[clip, method] for method in methods)] for clip in clips])


def _marked(gain: float, decimals: int) -> str:
    text = f"{gain:+.{decimals}f}"
    return f"**{text}**" if text.startswith("-") and float(text) < 0 else text


def _table(headers: list[str], rows: list[list[str]]) -> str:
    head, *lines = ("| " + " | ".join(line) + " |" for line in (headers, *rows))
    return "\n".join([head, "|---" * len(headers) + "|", *lines])
