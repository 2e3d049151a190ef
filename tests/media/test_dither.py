"""Dithered luma: encoded gradients have no bands, flat colours stay flat, a frame is always the same."""

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from media import EncodeOptions, SegmentWriter
from media._codecs import Codec
from media._dither import SIDE, dither_pattern
from media._rgb_to_yuv import RgbToYuv
from tests.media.sources import picture, video_format

WIDTH, HEIGHT = 320, 180


def slow_gradient(number: int = 0) -> torch.Tensor:
    """(3, H, W): grey that rises by 12 codes of 8 bits from left to right, and moves a little."""
    x = torch.linspace(0, 12 / 219, WIDTH).expand(HEIGHT, WIDTH)
    y = 0.002 * torch.sin(torch.linspace(0, 3, HEIGHT) + number / 50)[:, None]
    return (0.3 + x + y).expand(3, HEIGHT, WIDTH).contiguous()


def luma_of(image: torch.Tensor, **kwargs: bool) -> NDArray[np.float64]:
    converter = RgbToYuv(image.shape[2], image.shape[1], pix_fmt="yuv420p", matrix=1, **kwargs)
    plane: torch.Tensor = from_dlpack(converter.convert(image).planes[0])
    return plane.numpy().astype(np.float64)


def mean_run(luma: NDArray[np.float64]) -> float:
    """Pixels of one code in a row, on average: the width of the bands."""
    return float(luma.shape[1] / ((np.diff(luma, axis=1) != 0).sum(axis=1).mean() + 1))


def block_means(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = (length // SIDE * SIDE for length in luma.shape)
    blocks = luma[:rows, :columns].reshape(rows // SIDE, SIDE, columns // SIDE, SIDE)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


def test_the_mean_of_a_square_follows_the_gradient() -> None:
    image = slow_gradient()
    exact = block_means(16 + 219 * image[0].numpy().astype(np.float64))
    rounded = np.abs(block_means(luma_of(image)) - exact)
    dithered = np.abs(block_means(luma_of(image, use_dither=True)) - exact)
    assert rounded.max() > 0.35
    assert dithered.max() < 0.17
    assert dithered.mean() < rounded.mean() / 2


def test_codes_stay_what_they_are() -> None:
    for code in range(16, 236):
        image = torch.full((3, 16, 16), (code - 16) / 219) + 1e-4 * torch.randn(3, 16, 16).clamp(-2, 2)
        assert (luma_of(image, use_dither=True) == code).all()


def test_no_value_moves_by_more_than_seven_eighths_of_a_code() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = 16 + 219 * (0.2126 * image[0] + 0.7152 * image[1] + 0.0722 * image[2]).numpy()
    assert np.abs(luma_of(image, use_dither=True) - exact).max() < 0.876


def test_the_pattern_has_mean_zero_and_covers_its_range_evenly() -> None:
    values = dither_pattern(SIDE, SIDE).flatten().sort().values.tolist()
    assert sum(values) == pytest.approx(0, abs=1e-6)
    steps = [after - before for before, after in pairwise(values)]
    assert min(steps) == pytest.approx(max(steps), abs=1e-6)


def encoded_luma(path: Path, codec: Codec, preset: str | None = None) -> NDArray[np.float64]:
    layout = video_format(width=WIDTH, height=HEIGHT)
    with SegmentWriter(path, layout, EncodeOptions(codec=codec, preset=preset, num_threads=1)) as writer:
        for number in range(12):
            writer.write(slow_gradient(number), number, 1)
    with av.open(str(path)) as container:
        frame = list(container.decode(video=0))[6]
        plane: torch.Tensor = from_dlpack(frame.planes[0])
        return plane.numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("codec", "preset"),
    [("h264", None), ("h265", None), ("av1", None), *(("vp9", name) for name in (None, "fast", "slow"))],
)
def test_a_gradient_has_no_bands_at_the_usual_quality(
    tmp_path: Path, codec: Codec, preset: str | None
) -> None:
    assert mean_run(luma_of(slow_gradient())) > 20
    assert mean_run(encoded_luma(tmp_path / "a.mp4", codec, preset)) < 8


def test_a_frame_is_the_same_in_whatever_segment_it_is(tmp_path: Path) -> None:
    def planes(path: Path, numbers: range) -> list[list[torch.Tensor]]:
        options = EncodeOptions(crf=0, preset="ultrafast", num_threads=1)
        with SegmentWriter(path, video_format(), options) as writer:
            for number in numbers:
                writer.write(picture(number), number, 1)
        with av.open(str(path)) as container:
            return [[from_dlpack(p).clone() for p in frame.planes] for frame in container.decode(video=0)]

    whole = planes(tmp_path / "whole.mp4", range(6))
    parts = planes(tmp_path / "a.mp4", range(2)) + planes(tmp_path / "b.mp4", range(2, 6))
    for one, other in zip(whole, parts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
