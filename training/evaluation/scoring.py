"""Scores of methods on clips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.degradation import from_uint8, to_uint8
from training.evaluation.clips import load_hr
from training.evaluation.pictures import save_side_by_side
from training.evaluation.recipes import RECIPES, make_lq
from training.evaluation.warping import SourceMotion
from training.metrics import METRICS

Upscale = Callable[[torch.Tensor, int, int], torch.Tensor]
"""(F, 3, h, w) in [0, 1], target height, target width -> (F, 3, H, W) in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One method on one clip with one recipe.

    Attributes:
        clip: Name of the file.
        recipe: One of `ALL_RECIPES`.
        method: Name.
        num_frames: Frames that were scored.
        values: Metric -> mean over frames.
        warping_error: In 8-bit levels (`training.evaluation.warping`); None for stills.
        source_warping_error: That of the ground truth.
        cpu_seconds: Processor time of the whole process for each output frame, all threads together.
        wall_seconds: Time that passed for each output frame.
    """

    clip: str
    recipe: str
    method: str
    num_frames: int
    values: Mapping[str, float]
    warping_error: float | None
    source_warping_error: float | None
    cpu_seconds: float
    wall_seconds: float


def evaluate_clip(
    path: Path,
    methods: Mapping[str, Upscale],
    *,
    scale: int,
    max_frames: int,
    recipes: tuple[str, ...] = RECIPES,
    pictures: Path | None = None,
) -> Iterator[Score]:
    """Scores every method on one clip with every recipe.

    Args:
        path: A lossless clip or still.
        methods: Name -> upscaler.
        scale: Factor between LQ and HR.
        max_frames: Frames of a clip that are used.
        recipes: Which recipes.
        pictures: If given, a side-by-side picture of the middle frame is written there for each recipe.
    """
    hr = load_hr(path, scale=scale, max_frames=max_frames)
    height, width = hr.shape[-2:]
    motion = SourceMotion.of(hr)
    for recipe in recipes:
        lq = make_lq(hr, recipe, scale)
        shown = {}
        for name, upscale in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            output = upscale(lq, height, width)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            sr = from_uint8(to_uint8(output))
            yield Score(
                clip=path.name,
                recipe=recipe,
                method=name,
                num_frames=len(hr),
                values=score_frames(sr, hr),
                warping_error=None if motion is None else motion.error(sr),
                source_warping_error=None if motion is None else motion.own_error,
                cpu_seconds=cpu / len(hr),
                wall_seconds=wall / len(hr),
            )
            shown[name] = sr[len(sr) // 2]
        if pictures is not None:
            panels = shown | {"ground truth": hr[len(hr) // 2]}
            save_side_by_side(panels, pictures / f"{path.stem}-{recipe}.png")


def score_frames(sr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
    """Every metric, mean over frames; frame by frame to bound memory."""
    return {
        name: float(np.mean([float(metric(a[None], b[None])) for a, b in zip(sr, hr, strict=True)]))
        for name, metric in METRICS.items()
    }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One method with one recipe on all clips: means over clips, each as much as any other.

    Attributes:
        recipe: One of `ALL_RECIPES`.
        method: Name.
        values: Metric -> mean.
        warping_error: Mean over the clips that have one; None if all are stills.
        source_warping_error: That of the ground truth.
        gain: PSNR-Y over the reference method, dB.
        worst_gain: That of the clip where it is least.
        worst_clip: Its name.
        cpu_seconds: As in `Score`, mean.
        wall_seconds: As in `Score`, mean.
    """

    recipe: str
    method: str
    values: Mapping[str, float]
    warping_error: float | None
    source_warping_error: float | None
    gain: float
    worst_gain: float
    worst_clip: str
    cpu_seconds: float
    wall_seconds: float


def summarize(scores: list[Score], reference: str = "bicubic") -> list[Summary]:
    """Summaries by recipe, then by method, in the order of the scores.

    Args:
        scores: Every method on every clip with every recipe.
        reference: Method that gains are over.
    """
    base = {(s.clip, s.recipe): s.values["psnr_y"] for s in scores if s.method == reference}
    groups: dict[tuple[str, str], list[Score]] = {}
    for recipe in dict.fromkeys(s.recipe for s in scores):
        for score in scores:
            if score.recipe == recipe:
                groups.setdefault((recipe, score.method), []).append(score)
    return [_summarize_group(group, base) for group in groups.values()]


def _summarize_group(group: list[Score], base: Mapping[tuple[str, str], float]) -> Summary:
    gains = {s.clip: s.values["psnr_y"] - base[s.clip, s.recipe] for s in group}
    worst_clip = min(gains, key=gains.__getitem__)
    return Summary(
        recipe=group[0].recipe,
        method=group[0].method,
        values={name: _mean(s.values[name] for s in group) for name in METRICS},
        warping_error=_mean_of_some(s.warping_error for s in group),
        source_warping_error=_mean_of_some(s.source_warping_error for s in group),
        gain=_mean(gains.values()),
        worst_gain=gains[worst_clip],
        worst_clip=worst_clip,
        cpu_seconds=_mean(s.cpu_seconds for s in group),
        wall_seconds=_mean(s.wall_seconds for s in group),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_of_some(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None
