"""Fixed recipes for the LQ input: the same for every method and every run.

| recipe | what is done to the HR clip |
|---|---|
| `bicubic` | antialiased bicubic downscaling |
| `real` | blur, bicubic downscaling, noise, JPEG, x264 at a constant rate factor |
| `phone` | area downscaling, light noise, sharpening, x264 at a phone's bit rate |
| `tape` | bicubic downscaling, blur along the lines (chroma far more), chroma shifted, noise, 4:2:0 |
| `animation` | bicubic downscaling, x264, slight resizing and limited range and back, x265 |

Validation during training sees the first two (`RECIPES`). No configuration, profile or validation names the
others (`UNSEEN_RECIPES`): a score on them says more of other people's videos.

x264 works without macroblock tree and B-frames in the unseen recipes: with them the same frames now and then
give other bits (docs/decisions/0008), and the encoders of phones have neither.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from training.degradation import (
    code_video,
    filter_frames,
    from_uint8,
    gaussian_kernel,
    random_jpeg,
    resize,
    to_uint8,
)
from training.degradation_profile import JpegConfig
from training.losses import luma
from training.video_coding import FRAMES_PER_SECOND

RECIPES = ("bicubic", "real")
UNSEEN_RECIPES = ("phone", "tape", "animation")
ALL_RECIPES = RECIPES + UNSEEN_RECIPES

SAME_BITS_X264 = {"bf": "0", "x264-params": "mbtree=0"}

# The `real` recipe: a slightly soft lens, a noisy sensor, a JPEG camera and one x264 upload.
REAL_BLUR_SIGMA = 1.2  # HR pixels
REAL_NOISE_SIGMA = 4.0  # 8-bit levels
REAL_JPEG_QUALITY = 70
REAL_X264_CRF = 23.0

# The `phone` recipe: 300 kbit/s for 320x180 at 25 frames per second, as many bits for each pixel elsewhere.
PHONE_BITS_PER_PIXEL = 300_000 / (320 * 180 * FRAMES_PER_SECOND)
PHONE_NOISE_SIGMA = 2.0  # 8-bit levels, before sharpening
PHONE_SHARPEN_SIGMA = 1.0  # LR pixels
PHONE_SHARPEN_AMOUNT = 0.8

# The `tape` recipe. VHS keeps about 3 MHz of luma and 0.5 MHz of chroma.
TAPE_LUMA_SIGMA = 0.8  # LR pixels, along lines
TAPE_CHROMA_SIGMA = 3.5  # LR pixels, along lines
TAPE_CHROMA_SHIFT = 2  # LR pixels, to the right
TAPE_LUMA_NOISE = 4.0  # 8-bit levels
TAPE_CHROMA_NOISE = 6.0  # 8-bit levels, as wide as the chroma

# The `animation` recipe: an upload that somebody uploads again.
ANIMATION_X264_CRF = 22.0
ANIMATION_SHRINK = 0.9
ANIMATION_X265_CRF = 26.0


def make_lq(hr: torch.Tensor, recipe: str, scale: int) -> torch.Tensor:
    """Degrades an HR clip by a fixed recipe.

    Args:
        hr: (F, 3, H, W), float32, [0, 1], H and W multiples of the scale.
        recipe: One of `ALL_RECIPES`.
        scale: Downscaling factor.

    Returns:
        (F, 3, H / scale, W / scale), float32, [0, 1], quantised to 8 bits.

    Raises:
        ValueError: If there is no such recipe.
    """
    size = (hr.shape[-2] // scale, hr.shape[-1] // scale)
    rng = np.random.default_rng(0)
    match recipe:
        case "bicubic":
            lq = resize(hr, size, "bicubic")
        case "real":
            lq = _real(hr, size, rng)
        case "phone":
            lq = code_video(
                phone_picture(hr, size, rng),
                codec="libx264",
                bits_per_pixel=PHONE_BITS_PER_PIXEL,
                options=SAME_BITS_X264,
            )
        case "tape":
            lq = _tape(resize(hr, size, "bicubic"), rng)
        case "animation":
            lq = _animation(resize(hr, size, "bicubic"))
        case _:
            raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(ALL_RECIPES)}")
    return from_uint8(to_uint8(lq))


def _real(hr: torch.Tensor, size: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    blur = gaussian_kernel(13, REAL_BLUR_SIGMA, REAL_BLUR_SIGMA, 0.0, 1.0, plateau=False)
    lq = resize(filter_frames(hr, blur[None]), size, "bicubic")
    lq = (lq + _noise(lq.shape, REAL_NOISE_SIGMA, rng)).clamp(0, 1)
    quality = (float(REAL_JPEG_QUALITY),) * 2
    lq = random_jpeg(lq, JpegConfig(quality=quality, quality_step=0.0), rng)
    return code_video(lq, codec="libx264", crf=REAL_X264_CRF)


def phone_picture(hr: torch.Tensor, size: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    """What a phone hands to its encoder: binned pixels, noise, and an unsharp mask over both.

    Args:
        hr: (F, 3, H, W), float32, [0, 1].
        size: Height and width of the result.
        rng: For the noise.

    Returns:
        (F, 3, h, w), float32, [0, 1].
    """
    lq = resize(hr, size, "area")
    lq = lq + _noise(lq.shape, PHONE_NOISE_SIGMA, rng)
    blur = gaussian_kernel(7, PHONE_SHARPEN_SIGMA, PHONE_SHARPEN_SIGMA, 0.0, 1.0, plateau=False)
    return (lq + PHONE_SHARPEN_AMOUNT * (lq - filter_frames(lq, blur[None]))).clamp(0, 1)


def _tape(lq: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    y = _blur_lines(luma(lq), TAPE_LUMA_SIGMA)
    # BT.601: red and blue minus luma, scaled to [-0.5, 0.5].
    chroma = (lq[:, (2, 0)] - luma(lq)) / lq.new_tensor([1.772, 1.402])[:, None, None]
    width = chroma.shape[-1]
    chroma = _blur_lines(
        F.pad(chroma, (TAPE_CHROMA_SHIFT, 0, 0, 0), mode="replicate")[..., :width], TAPE_CHROMA_SIGMA
    )
    noise = _blur_lines(_noise(chroma.shape, 1.0, rng), TAPE_CHROMA_SIGMA)
    y = y + _noise(y.shape, TAPE_LUMA_NOISE, rng)
    chroma = chroma + noise * (TAPE_CHROMA_NOISE / 255 / noise.std())
    halved = F.avg_pool2d(chroma, 2, ceil_mode=True, count_include_pad=False)
    y, halved = ((x * 255).round() / 255 for x in (y, halved))
    chroma = F.interpolate(halved, size=y.shape[-2:], mode="bilinear")
    blue, red = y + 1.772 * chroma[:, :1], y + 1.402 * chroma[:, 1:]
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return torch.cat([red, green, blue], dim=1)


def _animation(lq: torch.Tensor) -> torch.Tensor:
    size = (lq.shape[-2], lq.shape[-1])
    lq = code_video(lq.clamp(0, 1), codec="libx264", crf=ANIMATION_X264_CRF, options=SAME_BITS_X264)
    lq = resize(lq, (round(size[0] * ANIMATION_SHRINK), round(size[1] * ANIMATION_SHRINK)), "bilinear")
    # Full range taken for limited on the way: 256 levels on 220, and back.
    lq = ((lq * 219).round() / 219).clamp(0, 1)
    return code_video(resize(lq, size, "bicubic"), codec="libx265", crf=ANIMATION_X265_CRF)


def _noise(shape: torch.Size, sigma: float, rng: np.random.Generator) -> torch.Tensor:
    """Gaussian noise of `sigma` 8-bit levels, for [0, 1]."""
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32)) * sigma / 255


def _blur_lines(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur along the lines of (F, C, h, w), borders repeated; sigma in pixels."""
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    padded = F.pad(x.flatten(0, 1)[:, None], (radius, radius, 0, 0), mode="replicate")
    return F.conv2d(padded, (kernel / kernel.sum())[None, None, None]).reshape(x.shape)
