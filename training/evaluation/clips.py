"""Clips and stills with ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.degradation import from_uint8
from training.errors import TrainingDataError
from training.video_coding import decode_frames

STILL_SUFFIXES = frozenset({".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


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
