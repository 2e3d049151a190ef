"""Scores during a run, on clips that the run does not train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.propagation.interpolation import enlarge
from training.config import DataConfig, ValidationConfig
from training.degradation import from_uint8, to_uint8
from training.errors import TrainingDataError
from training.evaluation import RECIPES, STILL_SUFFIXES, SourceMotion, load_hr, make_lq
from training.metrics import psnr_y

SCALE = 4

Restore = Callable[[torch.Tensor], tuple[torch.Tensor, tuple[float, ...]]]
"""A clip (F, 3, h, w), [0, 1], to its restored frames (F, 3, H, W), and what was estimated of its noise, blur
and compression (nothing where a model estimates nothing)."""


@dataclass(frozen=True)
class ValidationClip:
    """A clip with its degraded versions.

    Attributes:
        name: Of the file, without suffix.
        hr: (F, 3, H, W), float32, [0, 1].
        lq: Recipe -> (F, 3, h, w).
        bicubic: Recipe -> PSNR-Y of bicubic interpolation, mean over frames, dB.
        motion: Of `hr`; None for stills.
        bicubic_warping_errors: Recipe -> that of bicubic interpolation, 8-bit levels; empty for stills.
    """

    name: str
    hr: torch.Tensor
    lq: dict[str, torch.Tensor]
    bicubic: dict[str, float]
    motion: SourceMotion | None
    bicubic_warping_errors: dict[str, float]


@dataclass(frozen=True)
class Gain:
    """PSNR-Y over bicubic interpolation of one clip with one recipe, dB.

    Attributes:
        clip: Name.
        recipe: Recipe.
        gain: With all frames given at once.
        one_frame_gain: With each frame alone; the same for stills.
        levels: Estimated noise, blur and compression.
        warping_errors: 8-bit levels, of the model with all frames at once (`model`), of interpolation
            (`bicubic`) and of the source itself (`source`); empty for stills.
    """

    clip: str
    recipe: str
    gain: float
    one_frame_gain: float
    levels: tuple[float, ...]
    warping_errors: Mapping[str, float]


def load_validation_clips(
    data: DataConfig, validation: ValidationConfig, data_dir: Path
) -> list[ValidationClip]:
    """The central frames and pixels of the clips and stills that are held out.

    Raises:
        TrainingDataError: If a name that is held out does not exist.
    """
    paths = {
        path.stem: path
        for folder in (data.images, data.videos)
        for path in sorted((data_dir / folder).glob("*"))
    }
    unknown = sorted(set(data.held_out) - set(paths))
    if unknown:
        raise TrainingDataError(f"held out, but not in {data_dir}: {', '.join(unknown)}")
    return [_load_clip(paths[name], data, validation) for name in data.held_out]


def _load_clip(path: Path, data: DataConfig, validation: ValidationConfig) -> ValidationClip:
    is_still = path.suffix.lower() in STILL_SUFFIXES
    hr = load_hr(path, scale=SCALE, max_frames=1 if is_still else data.max_video_frames)
    first = max(0, (len(hr) - validation.num_frames) // 2)
    hr = hr[first : first + validation.num_frames]
    height, width = (min(n, m) for n, m in zip(hr.shape[-2:], validation.size, strict=True))
    y, x = ((n - m) // 2 for n, m in zip(hr.shape[-2:], (height, width), strict=True))
    hr = hr[..., y : y + height, x : x + width].clone()
    lq = {recipe: make_lq(hr, recipe, SCALE) for recipe in RECIPES}
    interpolated = {recipe: eight_bits(enlarge(x[None], SCALE)[0]) for recipe, x in lq.items()}
    bicubic = {recipe: mean_psnr(x, hr) for recipe, x in interpolated.items()}
    motion = SourceMotion.of(hr)
    errors = {} if motion is None else {recipe: motion.error(x) for recipe, x in interpolated.items()}
    return ValidationClip(path.stem, hr, lq, bicubic, motion, errors)


@torch.no_grad()
def validate(restore: Restore, clips: list[ValidationClip]) -> list[Gain]:
    """Scores a model on every clip with every recipe."""
    gains = []
    for clip in clips:
        for recipe, lq in clip.lq.items():
            frames, levels = restore(lq)
            gain = mean_psnr(frames, clip.hr) - clip.bicubic[recipe]
            one_frame_gain = gain
            if len(lq) > 1:
                alone = torch.cat([restore(frame[None])[0] for frame in lq])
                one_frame_gain = mean_psnr(alone, clip.hr) - clip.bicubic[recipe]
            errors = {}
            if clip.motion is not None:
                errors = {
                    "model": clip.motion.error(eight_bits(frames)),
                    "bicubic": clip.bicubic_warping_errors[recipe],
                    "source": clip.motion.own_error,
                }
            gains.append(Gain(clip.name, recipe, gain, one_frame_gain, levels, errors))
    return gains


def mean_gains(gains: list[Gain]) -> dict[str, dict[str, float]]:
    """Recipe -> means over clips; `worst` is the clip with the least gain. Stills have no warping errors."""
    means = {}
    for recipe in sorted({gain.recipe for gain in gains}):
        rows = [gain for gain in gains if gain.recipe == recipe]
        means[recipe] = {
            "gain": float(np.mean([row.gain for row in rows])),
            "one_frame_gain": float(np.mean([row.one_frame_gain for row in rows])),
            "worst": min(row.gain for row in rows),
        }
        moving = [row.warping_errors for row in rows if row.warping_errors]
        for name in moving[0] if moving else ():
            means[recipe][f"{name}_warping_error"] = float(np.mean([errors[name] for errors in moving]))
    return means


def mean_psnr(frames: torch.Tensor, hr: torch.Tensor) -> float:
    """Mean PSNR-Y over frames, after rounding to 8 bits."""
    return float(psnr_y(eight_bits(frames), hr).mean())


def eight_bits(frames: torch.Tensor) -> torch.Tensor:
    """Frames as a file would have them: rounded to 8 bits, in [0, 1]."""
    return from_uint8(to_uint8(frames))
