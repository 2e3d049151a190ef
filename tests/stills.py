"""Stills of every kind, as cameras and programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms

from media.picture_files import PictureKind

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def levels(*, has_alpha: bool = False) -> np.ndarray:
    """(30, 44, 3 or 4), uint8, with edges and ramps."""
    y, x = np.mgrid[0:30, 0:44]
    planes = [x * 5, y * 8, (x // 6 + y // 6) % 2 * 200]
    if has_alpha:
        planes.append(np.where((x - 22) ** 2 + (y - 15) ** 2 < 150, 255, 40))
    return np.stack(planes, axis=-1).astype(np.uint8)


def turned_jpeg(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.fromarray(levels()).save(path, "JPEG", quality=95, exif=exif, icc_profile=SRGB)
    return path


def transparent_png(path: Path) -> Path:
    Image.fromarray(levels(has_alpha=True)).save(path, "PNG", icc_profile=SRGB)
    return path


def deep_tiff(path: Path) -> Path:
    deep = levels(has_alpha=True).astype(np.uint16) * 257
    deep[..., :3] = deep[..., :3].astype(np.uint32) * deep[..., 3:] // 65535
    tifffile.imwrite(path, deep, photometric="rgb", extrasamples=["assocalpha"], iccprofile=SRGB)
    return path


def transparent_webp(path: Path) -> Path:
    Image.fromarray(levels(has_alpha=True)).save(path, "WEBP", lossless=True)
    return path


def avif(path: Path) -> Path:
    Image.fromarray(levels()).save(path, "AVIF")
    return path


def bmp(path: Path) -> Path:
    Image.fromarray(levels()).save(path, "BMP")
    return path


def heif(path: Path, *, tile: int = 0, **options: object) -> Path:
    """As phones write it: turned by the container, and in tiles where `tile` says their side in pixels."""
    picture = Image.fromarray(np.tile(levels(), (8, 8, 1)))  # (240, 352)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    pillow_heif.options.GRID_TILE_SIZE = tile
    try:
        heif_file = pillow_heif.from_pillow(picture)
        heif_file.save(path, quality=90, exif=exif.tobytes(), icc_profile=SRGB, **options)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = 0
    return path


STILLS: list[tuple[PictureKind, Callable[[Path], Path]]] = [
    ("jpg", turned_jpeg),
    ("png", transparent_png),
    ("tiff", deep_tiff),
    ("webp", transparent_webp),
    ("avif", avif),
    ("bmp", bmp),
]
