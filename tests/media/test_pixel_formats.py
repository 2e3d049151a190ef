"""Screen formats and deep ones: white is white, black is black, and every code has its place between."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.format import VideoFormat
from numpy.typing import NDArray

from media import VideoReader, probe
from media._yuv_to_rgb import FrameToRgb
from tests.media.clips import Clip, write_clip

SIDE = 256
COARSE = [
    f"{order}{bits}{end}" for order in ("rgb", "bgr") for bits in (444, 555, 565) for end in ("le", "be")
]
DEEP_BIG_ENDIAN = ["gbrp10be", "gbrp12be", "gbrp14be", "gbrap10be", "gbrap12be", "gray10be", "gray12be"]


def all_codes(pix_fmt: str) -> NDArray[np.uint16]:
    """(256, 256): each 16-bit word once."""
    return np.arange(SIDE * SIDE, dtype=">u2" if pix_fmt.endswith("be") else "<u2").reshape(SIDE, SIDE)


def channel(words: NDArray[np.uint16], pix_fmt: str, name: str) -> NDArray[np.float64]:
    """A channel of packed words in [0, 1], by arithmetic."""
    widths = [int(digit) for digit in pix_fmt[3:6]]
    order = pix_fmt[:3]
    low = sum(widths[order.index(name) + 1 :])
    top = (1 << widths[order.index(name)]) - 1
    return ((words.astype(np.int64) >> low) & top) / top


def frame_of_bytes(pix_fmt: str, rows: NDArray[np.uint8], width: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, len(rows), pix_fmt)
    plane = frame.planes[0]
    padded = np.zeros((len(rows), plane.line_size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    plane.update(padded.tobytes())
    return frame


@pytest.mark.parametrize("pix_fmt", COARSE)
def test_every_code_of_four_to_six_bits_spans_black_to_white(pix_fmt: str) -> None:
    words = all_codes(pix_fmt)
    frame = frame_of_bytes(pix_fmt, words.view(np.uint8).reshape(SIDE, -1), SIDE)
    image = FrameToRgb(SIDE, SIDE, codec="rawvideo").convert(frame)
    expected = np.stack([channel(words, pix_fmt, name) for name in "rgb"])
    assert np.abs(image.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("pix_fmt", ["rgb8", "bgr8", "rgb4_byte", "bgr4_byte"])
def test_one_to_three_bits_span_black_to_white(pix_fmt: str) -> None:
    white = 0xFF if pix_fmt.endswith("8") else 0x0F
    rows = np.array([[0] * 8, [white] * 8], np.uint8)
    image = FrameToRgb(8, 2, codec="rawvideo").convert(frame_of_bytes(pix_fmt, rows, 8))
    assert image[:, 0].max() == 0.0
    assert image[:, 1].min() == 1.0


@pytest.mark.parametrize("pix_fmt", DEEP_BIG_ENDIAN)
def test_deep_big_endian_white_is_white_and_opaque(pix_fmt: str) -> None:
    frame = av.VideoFrame(8, 8, pix_fmt)
    top = (1 << VideoFormat(pix_fmt).components[0].bits) - 1
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size // 2, top, ">u2").tobytes())
    converter = FrameToRgb(8, 8, codec="dpx")
    assert converter.convert(frame).min() == pytest.approx(1.0, abs=2e-5)
    assert not converter.has_met_transparency


@pytest.mark.parametrize("pix_fmt", ["rgb555le", "rgb565le", "bgr555le", "rgb555be", "rgb565be", "bgr565be"])
def test_white_screen_recordings_are_white(tmp_path: Path, pix_fmt: str) -> None:
    white = np.full((48, 64), 0xFFFF, np.uint16)
    path = write_clip(tmp_path / "a.nut", [[white]] * 2, Clip(codec="rawvideo", pix_fmt=pix_fmt))
    info = probe(path)
    assert info.video.pix_fmt == pix_fmt
    with VideoReader(info) as reader:
        assert torch.equal(next(reader.frames()).image, torch.ones(3, 48, 64))


@pytest.mark.needs_shared
def test_a_reported_white_film_is_white(shared_dir: Path) -> None:
    with VideoReader(probe(shared_dir / "clips" / "reported" / "white_rgb555.avi")) as reader:
        assert next(reader.frames()).image.min() == 1.0
