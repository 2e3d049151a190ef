"""Samples of the restorer: blocks of clips of each factor, and batches of crops from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.propagation.network import shuffle_ratio, unshuffle_ratio
from training.data import Arrays, BlockMaker, SourceLibrary
from training.degradation import from_uint8
from training.restoration.config import (
    RestorationConfig,
    RestorationDataConfig,
    RestorationStage,
    UploadConfig,
)
from training.restoration.uploads import apply_upload, draw_upload, gaussian_blur


@dataclass(frozen=True)
class Batch:
    """Crops of one factor.

    Attributes:
        scale: The factor.
        hr: (B, F, 3, H, W), float32, [0, 1].
        lq: (B, F, 3, h, w), float32, [0, 1].
        level_lq: (N, 1, 3, h, w), float32, [0, 1]: the estimator's samples.
        levels: (N, 3), their noise, blur and compression.
    """

    scale: int
    hr: torch.Tensor
    lq: torch.Tensor
    level_lq: torch.Tensor
    levels: torch.Tensor


def restoration_maker(config: RestorationConfig, data_dir: Path) -> BlockMaker:
    """Makes the blocks of a run."""
    library = SourceLibrary(data_dir, config.data)
    return lambda index: make_block(config, library, index)


def make_block(config: RestorationConfig, library: SourceLibrary, index: int) -> Arrays:
    """Block `index` of a run, the same for the same seed and configuration.

    Returns:
        For each factor of the stage: `hr<s>` (N, F, 3, S, S) and `lq<s>` (N, F, 3, s, s), uint8, and
        `levels<s>` (N, 3), float32. F is 1 where the stage wants single frames, else what the data say. A
        factor has its share of the block, and at least four clips.
    """
    stage = config.stage_at(index * config.data.steps_per_block)
    num_frames = 1 if stage.frames_of_block(index) == 1 else config.data.num_frames
    data = config.data.model_copy(update={"num_frames": num_frames})
    block_size = config.data.block_size * config.data.num_frames // num_frames
    total = sum(stage.scales.values())
    arrays: dict[str, np.ndarray] = {}
    for scale, share in stage.scales.items():
        samples = [
            make_sample(
                data, config.upload, library, scale, np.random.default_rng((config.seed, index, scale, i))
            )
            for i in range(max(4, round(block_size * share / total)))
        ]
        for name, parts in zip(("hr", "lq", "levels"), zip(*samples, strict=True), strict=True):
            arrays[f"{name}{scale}"] = np.stack(parts)
    return arrays


def make_sample(
    data: RestorationDataConfig,
    uploads: UploadConfig,
    library: SourceLibrary,
    scale: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HR clip, degraded LR clip (uint8) and the levels of its degradation."""
    is_smooth = rng.random() < data.smooth_probability
    if is_smooth:
        data = data.model_copy(update={"downscale": data.smooth_downscale})
    candidates = [draw_clip(data, library, rng) for _ in range(data.detail_candidates)]
    keep = min if is_smooth else max
    hr = keep(candidates, key=detail_of)
    if is_smooth and rng.random() < data.defocus_probability:
        hr = defocus(hr, data.defocus_sigma, rng)
    upload = draw_upload(uploads, scale, rng)
    side = data.hr_size // scale
    lq = apply_upload(hr, upload, (side, side), rng)
    return (
        (hr.clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
        lq.numpy(),
        np.array(upload.levels(scale), np.float32),
    )


def defocus(clip: torch.Tensor, sigma: tuple[float, float], rng: np.random.Generator) -> torch.Tensor:
    """A clip (F, 3, H, W), part of which lies out of focus: across a plane that leans away, or all of it.

    Args:
        clip: float32, [0, 1].
        sigma: Smallest and largest Gaussian sigma in pixels, drawn log-uniformly.
        rng: Draws sigma and the plane.
    """
    height, width = clip.shape[-2:]
    blurred = gaussian_blur(clip, math.exp(rng.uniform(*np.log(sigma))))
    direction = rng.uniform(0, 2 * math.pi)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    distance = math.sin(direction) * y + math.cos(direction) * x + float(rng.uniform(-0.5, 2.0))
    return torch.lerp(clip, blurred, (0.5 + 2 * distance).clamp(0, 1))


def draw_clip(
    config: RestorationDataConfig, library: SourceLibrary, rng: np.random.Generator
) -> torch.Tensor:
    """An HR clip (F, 3, S, S), float32, [0, 1]: a piece of a video or a camera moving over a picture."""
    moving_share = config.moving_picture_probability * config.image_probability
    if config.num_frames > 1 and library.pictures and rng.random() < moving_share:
        return library.flip(moving_picture(config, library, rng), rng)
    return library.sample(rng, config.num_frames, downscale=config.downscale)


def moving_picture(
    config: RestorationDataConfig, library: SourceLibrary, rng: np.random.Generator
) -> torch.Tensor:
    """A camera that pans, turns and zooms steadily over a picture.

    The picture is sampled at twice the wanted size where it is large enough, then halved: interpolation at
    broken positions would make the clip softer than the films it stands for.
    """
    side = config.hr_size
    picture = library.picture(rng)
    factor = min(rng.uniform(1, 2), (min(picture.shape[:2]) - 2) / side)
    steps = torch.arange(config.num_frames, dtype=torch.float32) - (config.num_frames - 1) / 2
    angle = steps * float(rng.normal(0, 0.008))
    zoom = torch.exp(steps * float(rng.normal(0, 0.008)))
    velocity = rng.uniform(-config.max_pan, config.max_pan, 2)
    reach = factor * (side / 2 * 1.1 + np.abs(velocity) * config.num_frames / 2)
    height, width = picture.shape[:2]
    centre = [
        float(rng.uniform(min(r, n / 2), max(n - r, n / 2)))
        for r, n in zip(reach, (height, width), strict=True)
    ]
    axis = (torch.arange(2 * side) + 0.5) / 2 - side / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    frames = []
    window = from_uint8(picture[None])
    for step, a, z in zip(steps.tolist(), angle.tolist(), zoom.tolist(), strict=True):
        u = factor * (z * (math.cos(a) * x - math.sin(a) * y) + velocity[1] * step) + centre[1]
        v = factor * (z * (math.sin(a) * x + math.cos(a) * y) + velocity[0] * step) + centre[0]
        grid = torch.stack([2 * u / width - 1, 2 * v / height - 1], dim=-1)[None].float()
        large = F.grid_sample(window, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        frames.append(F.interpolate(large, size=(side, side), mode="bicubic", antialias=True)[0])
    return torch.stack(frames).clamp(0, 1)


def detail_of(clip: torch.Tensor) -> float:
    """Mean difference of neighbouring pixels of the first frame."""
    return float(clip[0].diff(dim=-1).abs().mean() + clip[0].diff(dim=-2).abs().mean())


def draw_batch(
    block: Mapping[str, np.ndarray], stage: RestorationStage, num_frames: int, rng: np.random.Generator
) -> Batch:
    """Crops of one factor, `num_frames` long, at random places, times and flips.

    A share of `stage.clean_probability` gets the bicubic LR of its HR crop in place of the degraded one. The
    estimator's samples are as large as the block has them: in use it sees whole frames.
    """
    # A block that was begun for the stage before may lack the factors that are new.
    scales = [scale for scale in stage.scales if f"hr{scale}" in block]
    shares = np.array([stage.scales[scale] for scale in scales])
    scale = scales[rng.choice(len(scales), p=shares / shares.sum())]
    area = unshuffle_ratio(scale) ** 2
    side = block[f"lq{scale}"].shape[-1]
    hr, lq = _stacked(
        _draw_crop(block, stage, scale, stage.body_size * unshuffle_ratio(scale), num_frames, rng)[:2]
        for _ in range(max(1, stage.batch_frames // num_frames))
    )
    level_lq, levels = _stacked(
        _draw_crop(block, stage, scale, side, 1, rng)[1:] for _ in range(max(1, stage.level_samples // area))
    )
    return Batch(scale, hr / 255, lq / 255, level_lq / 255, levels)


def _stacked(samples: Iterable[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    return [torch.stack(parts) for parts in zip(*samples, strict=True)]


def _draw_crop(
    block: Mapping[str, np.ndarray],
    stage: RestorationStage,
    scale: int,
    side: int,
    num_frames: int,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One clip's crop, `side` LR pixels wide: HR and LR, uint8, and the levels of its degradation."""
    hrs, lqs = block[f"hr{scale}"], block[f"lq{scale}"]
    index = int(rng.integers(len(hrs)))
    # A block that was begun for the stage before may be of single frames.
    num_frames = min(num_frames, hrs.shape[1])
    first = int(rng.integers(hrs.shape[1] - num_frames + 1))
    frames = slice(first, first + num_frames)
    y, x = (int(rng.integers(size - side + 1)) for size in lqs.shape[-2:])
    hr_side, hr_y, hr_x = side * scale, y * scale, x * scale
    # 8 bits until the batch is whole: flips move a quarter of the bytes.
    hr = torch.from_numpy(hrs[index, frames, :, hr_y : hr_y + hr_side, hr_x : hr_x + hr_side])
    # At factor 1, clean input leaves nothing to do; the network has to know that, seldom.
    is_clean = rng.random() < (stage.clean_probability if scale > 1 else 0.2)
    if is_clean:
        small = F.interpolate(hr.float(), size=(side, side), mode="bicubic", antialias=True)
        lq = small.round().clamp(0, 255).to(torch.uint8)
        level = torch.zeros(3)
    else:
        lq = torch.from_numpy(lqs[index, frames, :, y : y + side, x : x + side])
        level = torch.from_numpy(block[f"levels{scale}"][index])
    if rng.random() < 0.5:
        hr, lq = hr.flip(-1), lq.flip(-1)
    if rng.random() < 0.5:
        hr, lq = hr.flip(-2), lq.flip(-2)
    if rng.random() < 0.5:
        hr, lq = hr.transpose(-1, -2), lq.transpose(-1, -2)
    if rng.random() < 0.5:
        hr, lq = hr.flip(0), lq.flip(0)
    return hr, lq, level


def inner(frames: torch.Tensor, border: int, scale: int) -> torch.Tensor:
    """Frames (..., H, W) without the pixels of `border` body pixels at each side."""
    margin = border * shuffle_ratio(scale)
    return frames[..., margin : frames.shape[-2] - margin, margin : frames.shape[-1] - margin]
