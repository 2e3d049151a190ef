"""Films with transparency, made on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

WIDTH, HEIGHT = 64, 48


def codes(number: int) -> np.ndarray:
    """(H, W, 4) uint8, straight: a colour that changes slowly, under a ramp of opacity and a hard edge."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramp = np.round(x * 255 / (WIDTH - 1))
    edge = np.where((x + number) % WIDTH < WIDTH // 2, 0, 255)
    alpha = np.where(y < HEIGHT // 2, ramp, edge)
    return np.stack([60 + x, 160 - 2 * y, np.full_like(x, 100 + number), alpha], -1).astype(np.uint8)


def expected(number: int) -> Tensor:
    """(4, H, W) float32 in [0, 1]."""
    return torch.from_numpy(codes(number)).permute(2, 0, 1).float() / 255


def make_film(
    path: Path,
    num_frames: int = 6,
    *,
    codec: str = "qtrle",
    pix_fmt: str = "argb",
    is_premultiplied: bool = False,
) -> Path:
    """A film of `codes`."""
    options = {"profile": "4444"} if codec == "prores_ks" else {}
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for number in range(num_frames):
            pixels = codes(number)
            if is_premultiplied:
                pixels[..., :3] = np.round(pixels[..., :3] * (pixels[..., 3:] / 255))
            if pix_fmt == "rgba64be":
                frame = av.VideoFrame.from_ndarray(257 * pixels.astype(np.uint16), format=pix_fmt)
            else:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
                frame = frame.reformat(format=pix_fmt, dst_colorspace="ITU601", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    if is_premultiplied:
        _mark_premultiplied(path)
    return path


def _mark_premultiplied(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = data.index(b"vmhd") + 8
    data[start : start + 2] = (0x102).to_bytes(2, "big")
    path.write_bytes(data)


def alpha_planes(path: Path) -> list[Tensor]:
    """(H, W) float32 in [0, 1] of each frame, as FFmpeg decodes them."""
    with av.open(str(path)) as container:
        planes = []
        for frame in container.decode(video=0):
            peak = (1 << frame.format.components[3].bits) - 1
            planes.append(from_dlpack(frame.planes[3]).to(torch.float32) / peak)
        return planes
