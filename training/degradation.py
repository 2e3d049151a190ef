"""Real-world degradations of clips, in RealBasicVSR's order, steady or drifting in time.

One pass is blur -> resize -> noise -> JPEG -> video codec; the second pass repeats it with milder parameters,
then the clip is brought to the LR size. Parameters are drawn once per clip; where a `*_step` is not zero they
walk from frame to frame (uniform steps, clipped to the range), which is the temporally inconsistent phase of
OASIS (arXiv 2509.23980) with RealBasicVSR's step sizes. Ranges of the configurations: DOVE's
degradation.yaml.

All functions take and return clips (F, 3, H, W), float32 in [0, 1], and draw from the generator they are
given, so a clip's degradation is a pure function of the seed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import special

from training.degradation_profile import (
    BlurConfig,
    CodecConfig,
    DegradationConfig,
    JpegConfig,
    NoiseConfig,
    PassConfig,
    ResizeConfig,
)
from training.video_coding import decode_video, encode_video

KERNEL_FAMILIES = (
    "iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc",
)  # fmt: skip
_RESIZE_MODES = ("bilinear", "area", "bicubic")


def degrade_clip(
    clip: torch.Tensor, config: DegradationConfig, lq_size: tuple[int, int], rng: np.random.Generator
) -> torch.Tensor:
    """Degrades a clip and brings it to its LR size.

    Args:
        clip: (F, 3, H, W), float32, [0, 1].
        config: The profile; without passes this is the plain bicubic LR.
        lq_size: Height and width of the result.
        rng: Source of every random draw.

    Returns:
        (F, 3, h, w), uint8: what a decoder of the LR video would hand over.
    """
    for one_pass in config.passes:
        clip = degrade_pass(clip, one_pass, rng)
    clip = resize(clip, lq_size, "bicubic")
    if rng.random() < config.final_sinc_probability:
        size = int(rng.choice((7, 9, 11)))
        kernel = sinc_kernel(size, rng.uniform(math.pi / 3, math.pi))
        clip = filter_frames(clip, kernel[None])
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8)


def degrade_pass(clip: torch.Tensor, config: PassConfig, rng: np.random.Generator) -> torch.Tensor:
    if rng.random() < config.blur.probability:
        clip = random_blur(clip, config.blur, rng)
    if config.resize is not None:
        clip = random_resize(clip, config.resize, rng)
    if rng.random() < config.noise.probability:
        clip = random_noise(clip, config.noise, rng)
    if rng.random() < config.jpeg.probability:
        clip = random_jpeg(clip, config.jpeg, rng)
    if rng.random() < config.codec.probability:
        clip = random_codec(clip, config.codec, rng)
    return clip


def walk(bounds: tuple[float, float], step: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """A parameter over time: a uniform start, then uniform steps in [-step, step], clipped to the bounds.

    Returns:
        (length,) float64; constant when step is 0.
    """
    values = np.empty(length)
    values[0] = rng.uniform(*bounds)
    for i in range(1, length):
        values[i] = np.clip(values[i - 1] + (rng.uniform(-step, step) if step else 0.0), *bounds)
    return values


# --- blur ---------------------------------------------------------------------------------------------------


def random_blur(clip: torch.Tensor, config: BlurConfig, rng: np.random.Generator) -> torch.Tensor:
    probabilities = np.asarray(config.kernel_probabilities)
    family = str(rng.choice(KERNEL_FAMILIES, p=probabilities / probabilities.sum()))
    size = int(rng.choice(config.kernel_sizes))
    length = len(clip)
    if family == "sinc":
        low = math.pi / 3 if size < 13 else math.pi / 5
        omega = walk((low, math.pi), config.omega_step, length, rng)
        kernels = [sinc_kernel(size, float(w)) for w in omega]
    else:
        sigma_x = walk(config.sigma, config.sigma_step, length, rng)
        sigma_y = walk(config.sigma, config.sigma_step, length, rng)
        angle = walk((-math.pi, math.pi), config.angle_step, length, rng)
        if family.endswith("_iso") or family == "iso":
            sigma_y, angle = sigma_x, np.zeros(length)
        if family.startswith("generalized"):
            beta = walk(config.beta_gaussian, config.beta_gaussian_step, length, rng)
        elif family.startswith("plateau"):
            beta = walk(config.beta_plateau, config.beta_plateau_step, length, rng)
        else:
            beta = np.ones(length)
        kernels = [
            gaussian_kernel(size, *values, plateau=family.startswith("plateau"))
            for values in zip(sigma_x, sigma_y, angle, beta, strict=True)
        ]
    return filter_frames(clip, torch.stack(kernels))


def gaussian_kernel(
    size: int, sigma_x: float, sigma_y: float, angle: float, beta: float, *, plateau: bool
) -> torch.Tensor:
    """Generalised Gaussian exp(-q^beta / 2) or plateau 1 / (1 + q^beta), q the Mahalanobis distance squared.

    Returns:
        (size, size) float32, sum 1.
    """
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    u = (x * math.cos(angle) + y * math.sin(angle)) / sigma_x
    v = (-x * math.sin(angle) + y * math.cos(angle)) / sigma_y
    q = (u**2 + v**2) ** beta
    kernel = 1 / (1 + q) if plateau else np.exp(-q / 2)
    return torch.from_numpy(kernel / kernel.sum()).float()


def sinc_kernel(size: int, omega: float) -> torch.Tensor:
    """Circular low-pass (the ringing of strong scalers): omega * J1(omega r) / (2 pi r).

    Args:
        size: Odd side of the kernel.
        omega: Cut-off in radians per pixel, up to pi.
    """
    axis = np.arange(size) - (size - 1) / 2
    radius = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    centre = radius == 0
    safe = np.where(centre, 1.0, radius)
    kernel = np.where(
        centre, omega**2 / (4 * math.pi), omega * special.j1(omega * safe) / (2 * math.pi * safe)
    )
    return torch.from_numpy(kernel / kernel.sum()).float()


def filter_frames(clip: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Filters every frame with its kernel, borders reflected.

    Args:
        clip: (F, 3, H, W).
        kernels: (F or 1, k, k), k odd.
    """
    num_frames, channels, height, width = clip.shape
    size = kernels.shape[-1]
    pad = size // 2
    mode = "reflect" if min(height, width) > pad else "replicate"
    padded = F.pad(clip, (pad,) * 4, mode=mode)
    if len(kernels) == 1 or bool((kernels == kernels[:1]).all()):
        weight = kernels[:1, None]
        return F.conv2d(padded.flatten(0, 1)[:, None], weight).reshape(clip.shape)
    weight = kernels.repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded.reshape(1, -1, *padded.shape[-2:]), weight, groups=num_frames * channels).reshape(
        clip.shape
    )


# --- resize -------------------------------------------------------------------------------------------------


def resize(clip: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Resamples frames; bilinear and bicubic low-pass when they shrink."""
    if clip.shape[-2:] == size:
        return clip
    if mode == "area":
        return F.interpolate(clip, size=size, mode="area")
    shrinks = size[0] < clip.shape[-2] or size[1] < clip.shape[-1]
    return F.interpolate(clip, size=size, mode=mode, align_corners=False, antialias=shrinks)


def random_resize(clip: torch.Tensor, config: ResizeConfig, rng: np.random.Generator) -> torch.Tensor:
    """Up, down or keep; with a step, frames get sizes of their own and are brought back to the first's."""
    direction = rng.choice(
        ("up", "down", "keep"), p=np.asarray(config.probabilities) / sum(config.probabilities)
    )
    low, high = config.scale
    bounds = {"up": (1.0, high), "down": (low, min(high, 1.0)), "keep": (1.0, 1.0)}[str(direction)]
    scales = walk(bounds, config.scale_step if direction != "keep" else 0.0, len(clip), rng)
    mode = str(rng.choice(_RESIZE_MODES))
    sizes = [_even_size(clip.shape[-2:], scale) for scale in scales]
    if len(set(sizes)) == 1:
        return resize(clip, sizes[0], mode).clamp(0, 1)
    frames = [
        resize(resize(f[None], size, mode), sizes[0], mode) for f, size in zip(clip, sizes, strict=True)
    ]
    return torch.cat(frames).clamp(0, 1)


def _even_size(size: torch.Size, scale: float) -> tuple[int, int]:
    height, width = (max(16, round(side * scale / 2) * 2) for side in size)
    return height, width


# --- noise, JPEG, codec -------------------------------------------------------------------------------------


def random_noise(clip: torch.Tensor, config: NoiseConfig, rng: np.random.Generator) -> torch.Tensor:
    """Gaussian or Poisson noise, in colour or the same on all channels."""
    is_gray = rng.random() < config.gray_probability
    shape = (len(clip), 1 if is_gray else 3, *clip.shape[-2:])
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    if rng.random() < config.gaussian_probability:
        sigma = walk(config.sigma, config.sigma_step, len(clip), rng) / 255
        scaled = noise * torch.from_numpy(sigma).float()[:, None, None, None]
    else:
        # Poisson noise has variance x / peak; its normal approximation is exact enough at 8 bits.
        scale = walk(config.poisson_scale, config.poisson_scale_step, len(clip), rng)
        signal = clip.mean(1, keepdim=True) if is_gray else clip
        deviation = (signal.clamp_min(0) / 255).sqrt()
        scaled = noise * deviation * torch.from_numpy(scale).float()[:, None, None, None]
    return (clip + scaled).clamp(0, 1)


def random_jpeg(clip: torch.Tensor, config: JpegConfig, rng: np.random.Generator) -> torch.Tensor:
    qualities = walk(config.quality, config.quality_step, len(clip), rng)
    frames = []
    for frame, quality in zip(to_uint8(clip), qualities, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=round(quality))
        frames.append(np.asarray(Image.open(buffer)))
    return from_uint8(np.stack(frames))


def random_codec(clip: torch.Tensor, config: CodecConfig, rng: np.random.Generator) -> torch.Tensor:
    codec = str(rng.choice(config.codecs))
    log_low, log_high = np.log(config.bits_per_pixel)
    bits_per_pixel = float(np.exp(rng.uniform(log_low, log_high)))
    crf = rng.uniform(*config.crf) if config.crf is not None and codec == "libx264" else None
    return code_video(clip, codec=codec, bits_per_pixel=bits_per_pixel, crf=crf)


def code_video(
    clip: torch.Tensor,
    *,
    codec: str,
    bits_per_pixel: float = 0.1,
    crf: float | None = None,
    options: Mapping[str, str] | None = None,
) -> torch.Tensor:
    """Sends a clip through a video encoder and decoder, 4:2:0, 25 fps.

    Args:
        clip: (F, 3, H, W), [0, 1]; odd sides are extended for the encoder and cropped again.
        codec: As for `encode_video`, like the others.
        bits_per_pixel: Rate control by bit rate, unless crf is given.
        crf: Constant rate factor (libx264, libx265).
        options: More options of the encoder.
    """
    num_frames, _, height, width = clip.shape
    frames = to_uint8(F.pad(clip, (0, width % 2, 0, height % 2), mode="replicate"))
    coded = encode_video(frames, codec=codec, bits_per_pixel=bits_per_pixel, crf=crf, options=options)
    return from_uint8(decode_video(coded, num_frames))[..., :height, :width]


def to_uint8(clip: torch.Tensor) -> np.ndarray:
    """(F, 3, H, W) in [0, 1] -> (F, H, W, 3) uint8, rounded."""
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def from_uint8(frames: np.ndarray) -> torch.Tensor:
    """(F, H, W, 3) uint8 -> (F, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
