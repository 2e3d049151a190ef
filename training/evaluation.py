"""Full-reference evaluation of a checkpoint on lossless clips and stills, against interpolation.

Two fixed recipes make the LQ input: `bicubic` (antialiased bicubic x4, 8 bits) and `real` (blur, bicubic x4,
noise, JPEG, x264), the same for every method and every run. Scores are means over the frames of a clip, the
totals means over clips, as DOVE's protocol has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from training.config import JpegConfig
from training.data import decode_frames
from training.degradation import (
    code_video,
    filter_frames,
    from_uint8,
    gaussian_kernel,
    random_jpeg,
    resize,
    to_uint8,
)
from training.errors import TrainingDataError
from training.metrics import LOWER_IS_BETTER, METRICS

Upscale = Callable[[torch.Tensor, int, int], torch.Tensor]
"""(F, 3, h, w) in [0, 1], target height, target width -> (F, 3, H, W) in [0, 1]."""

RECIPES = ("bicubic", "real")
STILL_SUFFIXES = frozenset({".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

# The `real` recipe: a slightly soft lens, a noisy sensor, a JPEG camera and one x264 upload.
REAL_BLUR_SIGMA = 1.2  # HR pixels
REAL_NOISE_SIGMA = 4.0  # 8-bit levels
REAL_JPEG_QUALITY = 70
REAL_X264_CRF = 23.0


@dataclass(frozen=True)
class Score:
    """Metrics of one method on one clip with one recipe."""

    clip: str
    recipe: str
    method: str
    values: Mapping[str, float]


def make_lq(hr: torch.Tensor, recipe: str, scale: int) -> torch.Tensor:
    """Degrades an HR clip by a fixed recipe.

    Args:
        hr: (F, 3, H, W) in [0, 1], H and W multiples of the scale.
        recipe: `bicubic` or `real`.
        scale: Downscaling factor.

    Returns:
        (F, 3, H / scale, W / scale) in [0, 1], quantised to 8 bits.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    size = (hr.shape[-2] // scale, hr.shape[-1] // scale)
    if recipe == "bicubic":
        return from_uint8(to_uint8(resize(hr, size, "bicubic")))
    rng = np.random.default_rng(0)
    blur = gaussian_kernel(13, REAL_BLUR_SIGMA, REAL_BLUR_SIGMA, 0.0, 1.0, plateau=False)
    lq = resize(filter_frames(hr, blur[None]), size, "bicubic")
    noise = rng.standard_normal(tuple(lq.shape), dtype=np.float32) * REAL_NOISE_SIGMA / 255
    lq = (lq + torch.from_numpy(noise)).clamp(0, 1)
    quality = (float(REAL_JPEG_QUALITY),) * 2
    lq = random_jpeg(lq, JpegConfig(quality=quality, quality_step=0.0), rng)
    return code_video(lq, codec="libx264", crf=REAL_X264_CRF)


def load_hr(path: Path, *, scale: int, max_frames: int) -> torch.Tensor:
    """Frames of a clip or a still, cropped to an even number of LR pixels: (F, 3, H, W), [0, 1]."""
    if path.suffix.lower() in STILL_SUFFIXES:
        frames = np.asarray(Image.open(path).convert("RGB"))[None].copy()
    else:
        frames = decode_frames(path, max_frames)
    clip = from_uint8(frames)
    height, width = (side // (2 * scale) * 2 * scale for side in clip.shape[-2:])
    return clip[..., :height, :width]


def list_clips(folder: Path) -> list[Path]:
    """Clips and stills of a folder, sorted by name.

    Raises:
        TrainingDataError: If the folder is missing or holds none.
    """
    suffixes = STILL_SUFFIXES | {".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m"}
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in suffixes)
    if not paths:
        raise TrainingDataError(f"{folder} holds no clip or still ({', '.join(sorted(suffixes))})")
    return paths


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
    for recipe in recipes:
        lq = make_lq(hr, recipe, scale)
        shown = {}
        for name, upscale in methods.items():
            sr = from_uint8(to_uint8(upscale(lq, height, width)))
            yield Score(path.name, recipe, name, score_frames(sr, hr))
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


def format_table(scores: list[Score], reference: str = "bicubic") -> str:
    """Markdown: a row per clip, recipe and method, then the means, with the gain over `reference`."""
    names = list(METRICS)
    header = "| clip | recipe | method | " + " | ".join(names) + f" | PSNR-Y over {reference} |"
    lines = [header, "|---" * (len(names) + 4) + "|"]
    base = {(s.clip, s.recipe): s.values for s in scores if s.method == reference}

    def row(
        clip: str, recipe: str, method: str, values: Mapping[str, float], over: Mapping[str, float]
    ) -> str:
        cells = " | ".join(f"{values[n]:.2f}" if n == "psnr_y" else f"{values[n]:.4f}" for n in names)
        return f"| {clip} | {recipe} | {method} | {cells} | {values['psnr_y'] - over['psnr_y']:+.2f} |"

    lines += [row(s.clip, s.recipe, s.method, s.values, base[s.clip, s.recipe]) for s in scores]
    means = mean_scores(scores)
    lines += [
        row("**mean**", recipe, method, values, means[recipe, reference])
        for (recipe, method), values in means.items()
    ]
    worse = ", ".join(sorted(LOWER_IS_BETTER))
    return "\n".join([*lines, "", f"Smaller is better for {worse}, larger for the others."])


def mean_scores(scores: list[Score]) -> dict[tuple[str, str], dict[str, float]]:
    """(recipe, method) -> metric -> mean over clips."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.recipe, score.method), []).append(score)
    return {
        key: {name: float(np.mean([s.values[name] for s in group])) for name in METRICS}
        for key, group in groups.items()
    }


def save_side_by_side(panels: Mapping[str, torch.Tensor], path: Path, *, crop: int = 320) -> None:
    """Central crops beside each other, labelled: one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = next(iter(panels.values())).shape[-2:]
    side_y, side_x = min(crop, height), min(crop, width)
    y, x = (height - side_y) // 2, (width - side_x) // 2
    canvas = Image.new("RGB", (side_x * len(panels), side_y + 18), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (name, panel) in enumerate(panels.items()):
        window = panel[:, y : y + side_y, x : x + side_x]
        canvas.paste(Image.fromarray(to_uint8(window[None])[0]), (index * side_x, 18))
        draw.text((index * side_x + 4, 3), name, fill="black")
    canvas.save(path)
