"""Interpolation with the pipeline's call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.dove.options import DoveOptions
from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.interpolation import InterpolationPipeline, lanczos_resize
from tests.pipelines.tiny import make_clip


@pytest.mark.parametrize("method", ["bicubic", "lanczos"])
def test_call_and_stream_agree_and_keep_size_range_and_count(method: Any) -> None:
    clip = make_clip(11, 20, 30)
    pipeline = InterpolationPipeline(method)
    output = pipeline(clip, height=37, width=61, options=DoveOptions())
    assert output.frames.shape == (11, 3, 37, 61)
    assert output.frames.min() >= 0
    assert output.frames.max() <= 1
    assert torch.equal(torch.cat(list(pipeline.stream(clip, height=37, width=61))), output.frames)
    assert torch.equal(pipeline(clip.float() / 255, height=37, width=61).frames, output.frames)


def test_bicubic_is_torchs() -> None:
    clip = make_clip(1, 16, 16)
    expected = F.interpolate(clip / 255, size=(64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(InterpolationPipeline()(clip, height=64, width=64).frames, expected)


@pytest.mark.parametrize("size", [(64, 80), (9, 11), (16, 20)])
def test_lanczos_agrees_with_pillow(size: tuple[int, int]) -> None:
    clip = make_clip(1, 16, 20)
    image = Image.fromarray(clip[0, 0].numpy()).convert("F").resize(size[::-1], Image.Resampling.LANCZOS)
    ours = lanczos_resize(clip.float(), *size)[0, 0]
    torch.testing.assert_close(ours, torch.from_numpy(np.array(image)), atol=2e-3, rtol=0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="method"):
        InterpolationPipeline("nearest")  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="clip"):
        InterpolationPipeline().stream(torch.zeros(3, 8, 8), height=8, width=8)
    with pytest.raises(UnsupportedSizeError, match="positive"):
        InterpolationPipeline().stream(make_clip(1, 8, 8), height=0, width=8)
