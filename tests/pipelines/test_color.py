"""Colour matching: tone from the source, detail from the output, no tile borders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.color import lowpass, match_color
from tests.pipelines.tiny import make_clip


def frames(height: int = 64, width: int = 96) -> torch.Tensor:
    return make_clip(2, height, width).float() / 255


@pytest.mark.parametrize("method", ["mean", "lowpass"])
def test_a_shift_of_tone_is_undone(method: Any) -> None:
    source = frames()
    shift = torch.tensor([0.1, -0.05, 0.02])[:, None, None]
    torch.testing.assert_close(match_color(source + shift, source, method=method), source)


def test_slow_drift_is_undone_and_detail_is_kept() -> None:
    source = frames()
    detail = 0.1 * (torch.arange(96) % 2 * 2 - 1).expand_as(source)
    drift = torch.linspace(-0.2, 0.2, 96).expand_as(source)
    matched = match_color(source + detail + drift, source, method="lowpass", sigma=8.0)
    added = (matched - source)[..., 16:-16]
    assert (added - detail[..., 16:-16]).abs().max() < 0.02
    assert match_color(source, source, method="lowpass") is not source
    torch.testing.assert_close(match_color(source, source, method="lowpass"), source)


def test_none_returns_the_output_itself() -> None:
    output = frames()
    assert match_color(output, output * 0, method="none") is output


def test_frames_do_not_influence_each_other() -> None:
    output, source = frames(), frames().flip(-1)
    both = match_color(output, source, method="lowpass")
    torch.testing.assert_close(both[1:], match_color(output[1:], source[1:], method="lowpass"))


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.3, 60))
def test_lowpass_keeps_constants_at_any_size(height: int, width: int, sigma: float) -> None:
    constant = torch.full((1, 3, height, width), 0.3)
    torch.testing.assert_close(lowpass(constant, sigma=sigma), constant)


def test_lowpass_removes_what_is_finer_than_sigma_and_keeps_what_is_coarser() -> None:
    x = torch.arange(512).float()
    for period, gain in ((16.0, 0.0), (1024.0, 1.0)):
        wave = torch.cos(2 * torch.pi * x / period).expand(1, 1, 64, 512)
        inside = (lowpass(wave, sigma=12.0) - gain * wave)[..., 100:-100]
        assert inside.abs().max() < 0.02
