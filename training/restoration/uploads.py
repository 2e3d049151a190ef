"""Degradations whose strength is known: what the estimator of the network is to find.

A clip is blurred, brought to its LR size, and only then gets noise, sharpening, JPEG and a video encoder's
traces, as a small upload has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from training.degradation import code_video, random_jpeg, resize
from training.degradation_profile import JpegConfig
from training.restoration.config import UploadConfig

# Rate factors of equal visible loss: x264's scale, then what x265's is shifted by (rough).
_CRF_OFFSETS = {"libx264": 0.0, "libx265": 2.0}
_CRF_NONE, _CRF_WORST = 12.0, 32.0
_JPEG_NONE, _JPEG_WORST = 100.0, 40.0
# Input pixels of blur that an unsharp mask of weight 1 counts against.
_SHARPENED_BLUR = 0.5


@dataclass(frozen=True)
class Upload:
    """What is done to one clip.

    Attributes:
        blur_sigma: HR pixels; 0 for none.
        noise_sigma: 8-bit levels; 0 for none.
        is_gray_noise: The same noise in all channels.
        sharpen_amount: Weight of what an unsharp mask adds; 0 for none.
        sharpen_sigma: Of the mask, in LR pixels.
        jpeg_quality: None for no JPEG.
        codec: Encoder; None for none.
        crf: Its constant rate factor.
    """

    blur_sigma: float = 0.0
    noise_sigma: float = 0.0
    is_gray_noise: bool = False
    sharpen_amount: float = 0.0
    sharpen_sigma: float = 1.0
    jpeg_quality: float | None = None
    codec: str | None = None
    crf: float = 0.0

    def levels(self, scale: int) -> tuple[float, float, float]:
        """Noise, blur and compression in the units of `pipelines.propagation.LEVEL_UNITS`."""
        losses = [0.0]
        if self.jpeg_quality is not None:
            losses.append((_JPEG_NONE - self.jpeg_quality) / (_JPEG_NONE - _JPEG_WORST))
        if self.codec is not None:
            losses.append((self.crf - _CRF_OFFSETS[self.codec] - _CRF_NONE) / (_CRF_WORST - _CRF_NONE))
        blur = self.blur_sigma / scale - _SHARPENED_BLUR * self.sharpen_amount
        return self.noise_sigma, blur, max(losses)


def draw_upload(config: UploadConfig, scale: int, rng: np.random.Generator) -> Upload:
    """Draws what is done to a clip."""
    low, high = config.blur_sigma
    names = list(config.codecs)
    shares = np.array([config.codecs[name].share for name in names])
    codec = names[rng.choice(len(names), p=shares / shares.sum())]
    is_blurred, is_noisy, is_jpeg, is_coded = rng.random(4) < (
        config.blur_probability, config.noise_probability, config.jpeg_probability, config.codec_probability
    )  # fmt: skip
    upload = Upload(
        # A lens is as soft at a small factor, in pixels of the input.
        blur_sigma=float(rng.uniform(low, max(low, high * scale / 4))) * is_blurred,
        noise_sigma=float(rng.uniform(*config.noise_sigma)) * is_noisy,
        is_gray_noise=bool(rng.random() < config.gray_noise_probability),
        jpeg_quality=float(rng.uniform(*config.jpeg_quality)) if is_jpeg else None,
        codec=codec if is_coded else None,
        crf=float(rng.uniform(*config.codecs[codec].crf)),
    )
    if rng.random() < config.sharpen_probability:
        amount, sigma = (
            float(rng.uniform(*bounds)) for bounds in (config.sharpen_amount, config.sharpen_sigma)
        )
        upload = replace(upload, sharpen_amount=amount, sharpen_sigma=sigma)
    return upload


def apply_upload(
    clip: torch.Tensor, upload: Upload, size: tuple[int, int], rng: np.random.Generator
) -> torch.Tensor:
    """Degrades a clip.

    Args:
        clip: HR, (F, 3, H, W), float32, [0, 1].
        upload: What to do.
        size: Height and width of the result.
        rng: For the noise.

    Returns:
        (F, 3, h, w), uint8: what a decoder of the upload would hand over.
    """
    if upload.blur_sigma:
        clip = gaussian_blur(clip, upload.blur_sigma)
    clip = resize(clip, size, "bicubic").clamp(0, 1)
    if upload.noise_sigma:
        shape = (len(clip), 1 if upload.is_gray_noise else 3, *clip.shape[-2:])
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        clip = (clip + noise * (upload.noise_sigma / 255)).clamp(0, 1)
    if upload.sharpen_amount:
        clip = (clip + upload.sharpen_amount * (clip - gaussian_blur(clip, upload.sharpen_sigma))).clamp(0, 1)
    if upload.jpeg_quality is not None:
        clip = random_jpeg(clip, JpegConfig(quality=(upload.jpeg_quality,) * 2, quality_step=0.0), rng)
    if upload.codec is not None:
        clip = code_video(clip, codec=upload.codec, crf=upload.crf)
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8)


def gaussian_blur(clip: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blurs rows, then columns: (F, 3, H, W), borders reflected."""
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    planes = F.pad(clip.flatten(0, 1)[:, None], (radius,) * 4, mode="reflect")
    planes = F.conv2d(F.conv2d(planes, kernel[None, None, None]), kernel[None, None, :, None])
    return planes.reshape(clip.shape)
