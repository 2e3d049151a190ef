"""The warping error: near 0 where a picture only moves, noise as it adds up, hidden pixels left out."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.training.conftest import textured_picture
from training.degradation import from_uint8
from training.errors import MissingPackageError
from training.evaluation import SourceMotion
from training.evaluation.warping import warping_error


def pan(pixels: int, num_frames: int = 4) -> torch.Tensor:
    """(F, 3, 120, 160): a picture, smooth as a lens draws it, that moves so far in each frame."""
    wide = from_uint8(textured_picture(3, 240, 480)[None])
    wide = interpolate(wide, size=(120, 240), mode="area")
    return torch.cat([wide[..., pixels * i : pixels * i + 160] for i in range(num_frames)])


def spots(seed: int, height: int, width: int) -> torch.Tensor:
    """(1, 3, H, W): detail at several sizes that repeats nowhere."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(height // side, width // side) for side in (3, 6, 12, 24)]
    noises = [torch.rand(1, 3, *size, generator=generator) for size in sizes]
    return (
        torch.stack([interpolate(x, size=(height, width), mode="bicubic") for x in noises])
        .mean(0)
        .clamp(0, 1)
    )


def noise(sigma: float, shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * sigma / 255


def motion_of(hr: torch.Tensor) -> SourceMotion:
    motion = SourceMotion.of(hr)
    assert motion is not None
    return motion


@pytest.mark.parametrize("pixels", [0, 5])
def test_a_texture_that_moves_has_nearly_none(pixels: int) -> None:
    hr = pan(pixels)
    motion = motion_of(hr)
    without_motion = float((hr[1:] - hr[:-1]).square().mean().sqrt()) * 255
    assert motion.own_error < max(0.1 * without_motion, 0.001)
    assert motion.error(hr) == motion.own_error
    # The column that leaves the picture, and little else, is not compared.
    for pair in motion.pairs:
        assert not pair.mask[:, : pixels - 1].any() if pixels else pair.mask.all()
        assert float(pair.mask.float().mean()) > 0.9


def test_noise_of_each_frame_is_its_deviation_times_the_root_of_two() -> None:
    hr = pan(0)
    assert motion_of(hr).error(hr + noise(4.0, hr.shape)) == pytest.approx(4 * 2**0.5, rel=0.02)
    # Noise of two frames adds to what the source has itself, as variances do. Halfway between four pixels the
    # warped frame has a quarter of its noise.
    moving = pan(5)
    motion = motion_of(moving)
    added = motion.error(moving + noise(4.0, moving.shape)) ** 2 - motion.own_error**2
    assert 4**2 * 1.25 * 0.98 < added < 4**2 * 2 * 1.02


def test_noise_that_stays_where_it_is_counts_only_where_the_picture_moves() -> None:
    still, moving = pan(0), pan(5)
    grain = noise(6.0, still[:1].shape)
    assert motion_of(still).error(still + grain) == pytest.approx(0, abs=1e-3)
    assert motion_of(moving).error(moving + grain) > motion_of(moving).own_error + 4
    # A fault that moves with the picture is steady.
    assert motion_of(moving).error(0.7 * moving + 0.1) <= motion_of(moving).own_error


def test_what_the_next_frame_hides_is_left_out() -> None:
    # A card of 80 pixels moves 12 pixels to the right before a background that stands still.
    hr = spots(0, 160, 240).repeat(2, 1, 1, 1)
    card = 0.6 * spots(7, 80, 80)[0] + 0.3
    for frame, left in zip(hr, (40, 52), strict=True):
        frame[:, 30:110, left : left + 80] = card
    motion = motion_of(hr)
    (pair,) = motion.pairs
    rows = pair.mask[34:106].float()
    assert rows[:, 122:130].mean() < 0.1  # of the background, behind the card in the next frame
    assert rows[:, 46:114].mean() > 0.95  # on the card
    assert rows[:, 140:].mean() > 0.95
    everywhere = [replace(pair, mask=torch.ones_like(pair.mask))]
    assert motion.own_error < 0.5 * warping_error(hr, everywhere)


def test_a_still_a_cut_and_what_is_too_small_have_none() -> None:
    assert SourceMotion.of(pan(0, num_frames=1)) is None
    assert SourceMotion.of(from_uint8(np.zeros((3, 8, 8, 3), np.uint8))) is None
    generator = np.random.default_rng(0)
    cut = from_uint8(generator.integers(0, 256, (2, 120, 160, 3), dtype=np.uint8))
    assert SourceMotion.of(cut) is None


def test_a_cut_inside_a_clip_does_not_count() -> None:
    unrelated = from_uint8(np.random.default_rng(0).integers(0, 256, (1, 120, 160, 3), dtype=np.uint8))
    motion = motion_of(torch.cat([pan(2, num_frames=3), unrelated]))
    assert [pair.first for pair in motion.pairs] == [0, 1]


def test_without_opencv_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert SourceMotion.of(pan(0, num_frames=1)) is None
    with pytest.raises(MissingPackageError, match=r"opencv-python-headless: pip install .*\[training\]"):
        SourceMotion.of(pan(0))
