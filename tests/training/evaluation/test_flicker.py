"""Flicker: nothing for the ground truth, much for frames that do not hold together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.training.conftest import textured_picture
from training.degradation import from_uint8
from training.evaluation import SourceMotion
from training.evaluation.flicker import warping_error


def pan(pixels: int, num_frames: int = 4) -> torch.Tensor:
    """(F, 3, 120, 160): a picture, smooth as a lens draws it, that moves so far in each frame."""
    wide = from_uint8(textured_picture(3, 240, 480)[None])
    wide = interpolate(wide, size=(120, 240), mode="area")
    return torch.cat([wide[..., pixels * i : pixels * i + 160] for i in range(num_frames)])


def noise(sigma: float, shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * sigma / 255


def motion_of(hr: torch.Tensor) -> SourceMotion:
    motion = SourceMotion.of(hr)
    assert motion is not None
    return motion


@pytest.mark.parametrize("pixels", [0, 5])
def test_the_source_has_none_and_noise_of_its_own_in_each_frame_counts(pixels: int) -> None:
    hr = pan(pixels)
    motion = motion_of(hr)
    assert motion.flicker(hr) == 0
    weak, strong = (motion.flicker(hr + noise(sigma, hr.shape)) for sigma in (2.0, 6.0))
    assert strong > weak + 1 > 1.2


def test_without_motion_it_is_the_deviation_of_the_difference_of_frames() -> None:
    hr = pan(0)
    assert motion_of(hr).own_error == pytest.approx(0, abs=1e-3)
    assert motion_of(hr).flicker(hr + noise(4.0, hr.shape)) == pytest.approx(4 * 2**0.5, rel=0.03)
    steady = hr + noise(4.0, hr[:1].shape)
    assert motion_of(hr).flicker(steady) == pytest.approx(0, abs=1e-4)


def test_a_fault_that_moves_with_the_picture_is_no_flicker() -> None:
    hr = pan(5)
    faded = 0.7 * hr + 0.1
    assert abs(motion_of(hr).flicker(faded)) < 1.5
    # What stays where it is while the picture moves, is.
    dirty = hr + noise(6.0, hr[:1].shape)
    assert motion_of(hr).flicker(dirty) > motion_of(hr).flicker(faded) + 1


def test_what_is_hidden_in_the_next_frame_counts_little() -> None:
    covered = pan(0).clone()
    for i, frame in enumerate(covered):
        frame[:, 40:80, 20 + 6 * i : 50 + 6 * i] = torch.tensor([0.9, 0.9, 0.2])[:, None, None]
    motion = motion_of(covered)
    everywhere = warping_error(covered, motion.flows, [torch.ones_like(mask) for mask in motion.masks])
    assert motion.own_error < 0.7 * everywhere


def test_a_still_has_none() -> None:
    assert SourceMotion.of(from_uint8(np.zeros((1, 16, 16, 3), np.uint8))) is None
