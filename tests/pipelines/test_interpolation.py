"""Interpolation as a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.clips import restore_clip
from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.interpolation import InterpolationModel, lanczos_resize
from pipelines.planning.frame_plan import FramePlan
from tests.pipelines.tiny import make_clip


@pytest.mark.parametrize("method", ["bicubic", "lanczos"])
def test_size_range_and_count_are_kept(method: str) -> None:
    clip = make_clip(11, 20, 30)
    model = InterpolationModel(method)
    frames = restore_clip(model, clip, (37, 61))
    assert frames.shape == (11, 3, 37, 61)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert torch.equal(restore_clip(model, clip.float() / 255, (37, 61)), frames)


def test_bicubic_is_torchs() -> None:
    clip = make_clip(1, 16, 16)
    expected = F.interpolate(clip / 255, size=(64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(restore_clip(InterpolationModel(), clip, (64, 64)), expected)


@pytest.mark.parametrize("size", [(64, 80), (9, 11), (16, 20)])
def test_lanczos_agrees_with_pillow(size: tuple[int, int]) -> None:
    clip = make_clip(1, 16, 20)
    image = Image.fromarray(clip[0, 0].numpy()).convert("F").resize(size[::-1], Image.Resampling.LANCZOS)
    ours = lanczos_resize(clip.float(), *size)[0, 0]
    torch.testing.assert_close(ours, torch.from_numpy(np.array(image)), atol=2e-3, rtol=0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="method"):
        InterpolationModel("nearest")
    with pytest.raises(InvalidOptionError, match="clip"):
        list(InterpolationModel().restore(torch.zeros(3, 8, 8), (8, 8), FramePlan()))
    with pytest.raises(UnsupportedSizeError, match="positive"):
        list(InterpolationModel().restore(make_clip(1, 8, 8), (0, 8), FramePlan()))
