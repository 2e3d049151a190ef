"""Written, read back, written again: what the reader sees is what was meant, in colour and in place."""

import math
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch.utils.dlpack import from_dlpack

from media import EncodeOptions, SegmentWriter
from media.info import ColorTags
from media.probing import probe
from media.reader import VideoReader
from tests.media.sources import HDR10, HLG, SDR, video_format
from tests.media.test_writer import CODECS, fast

BT601 = ColorTags(6, 6, 6)


def waves(width: int = 64, height: int = 48) -> torch.Tensor:
    """(3, H, W) in [0.2, 0.8]: colours that change smoothly both ways, so that place shows as colour."""
    x = torch.arange(width).float().expand(height, width)
    y = torch.arange(height).float()[:, None].expand(height, width)
    phases = torch.stack([x / 16, y / 16 + 0.2, (x + y) / 24 + 0.4])
    return 0.5 + 0.3 * torch.sin(2 * math.pi * phases)


def write(path: Path, images: list[torch.Tensor], options: EncodeOptions, **changes: Any) -> Path:
    with SegmentWriter(path, video_format(**changes), options) as writer:
        for number, image in enumerate(images):
            writer.write(image, number, 1)
    return path


def read(path: Path) -> list[torch.Tensor]:
    with VideoReader(probe(path)) as reader:
        return [frame.image for frame in reader.frames()]


def planes(path: Path) -> list[torch.Tensor]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return [from_dlpack(plane).to(torch.float32) for plane in frame.planes]


# Streams of VP9 say nothing of where chroma lies, and FFmpeg's scaler takes the centre.
@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "vp9"])
@pytest.mark.parametrize("color", [SDR, BT601, HDR10, HLG])
def test_colours_and_chroma_position_come_back(tmp_path: Path, codec: str, color: ColorTags) -> None:
    image = waves()
    path = write(tmp_path / "a.mp4", [image], fast(codec, crf=0), color=color)
    inside = (
        slice(None),
        slice(6, -6),
        slice(6, -6),
    )  # the edge of a picture has no neighbour to interpolate with
    error = 255 * (read(path)[0][inside] - image[inside]).abs()
    # Half resolution of colour costs 1.3 levels on this pattern, a wrong chroma position 5.7.
    assert error.mean() < 1.5
    assert error.max() < 6


def test_vp9_stores_the_codes_that_h264_does(tmp_path: Path) -> None:
    files = (write(tmp_path / f"{codec}.mp4", [waves()], fast(codec, crf=0)) for codec in ("h264", "vp9"))
    assert all(map(torch.equal, *map(planes, files)))


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_full_chroma_comes_back_within_rounding(tmp_path: Path, pix_fmt: str) -> None:
    image = waves()
    path = write(tmp_path / "a.mp4", [image], fast("h264", crf=0, pix_fmt=pix_fmt))
    # Half a code of luma and half a code of blue, B' = Y' + 1.8556 Cb: (255 / 219 + 1.8556 * 255 / 224) / 2.
    # With 8 bits luma is dithered, within 0.375 of a code more.
    bound = 1.64 + 0.375 * 255 / 219 if pix_fmt == "yuv444p" else 1.64 / 4
    assert (255 * (read(path)[0] - image).abs()).max() < bound


@pytest.mark.parametrize("color", [SDR, BT601])
def test_reading_and_writing_changes_codes_by_rounding_only(tmp_path: Path, color: ColorTags) -> None:
    first = write(tmp_path / "a.mp4", [waves()], fast("h264", crf=0), color=color)
    second = write(tmp_path / "b.mp4", read(first), fast("h264", crf=0), color=color)
    luma, *chroma = [after - before for before, after in zip(planes(first), planes(second), strict=True)]
    assert luma.abs().max() <= 1
    assert luma.mean().abs() <= 0.1
    for plane in chroma:
        inside = plane[3:-3, 3:-3]  # [1 2 1] after bicubic is not the identity; at the edges it shows most
        assert inside.abs().mean() <= 1.5
        assert inside.mean().abs() <= 0.1
