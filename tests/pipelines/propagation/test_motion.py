"""Motion found by least squares, and warping along it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipelines.propagation.motion import box_mean, estimate_flow, match_confidence, warp


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random luma (1, 1, h, w) in [0, 1] with detail at several sizes."""
    generator = torch.Generator().manual_seed(seed)
    luma = torch.zeros(1, 1, height, width)
    for side in (4, 8, 16, 32):
        noise = torch.rand(1, 1, max(2, height // side), max(2, width // side), generator=generator)
        luma += F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False) / 4
    return luma.clamp(0, 1)


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.6, -0.3), (3.0, 2.0), (-6.5, 4.0)])
def test_a_shift_is_found(dx: float, dy: float) -> None:
    other = texture(72, 96)
    shift = torch.tensor([dx, dy]).reshape(1, 2, 1, 1).expand(1, 2, 72, 96)
    reference = warp(other, shift)
    flow = estimate_flow(reference, other)
    inside = (flow - shift)[..., 12:-12, 12:-12]
    assert inside.abs().median() < 0.1


def test_warping_by_zero_is_the_identity() -> None:
    frames = torch.rand(2, 5, 17, 23)
    assert torch.allclose(warp(frames, torch.zeros(2, 2, 17, 23)), frames, atol=1e-5)


def test_states_in_half_precision_stay_where_they_are() -> None:
    frames = torch.rand(1, 3, 16, 700).bfloat16()
    assert (warp(frames, torch.zeros(1, 2, 16, 700)) - frames).abs().max() < 0.01


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_warping_keeps_the_layout(layout: torch.memory_format) -> None:
    states = torch.rand(2, 8, 12, 16)
    flow = torch.rand(2, 2, 12, 16)
    warped = warp(states.contiguous(memory_format=layout), flow)
    assert warped.is_contiguous(memory_format=layout)
    torch.testing.assert_close(warped, warp(states, flow))


def test_warping_takes_the_pixel_the_flow_points_at() -> None:
    frames = torch.arange(20.0).reshape(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0], flow[:, 1] = 1, 2
    assert warp(frames, flow)[0, 0, 1, 2] == pytest.approx(float(frames[0, 0, 3, 3]))


def test_flat_frames_do_not_move() -> None:
    flat = torch.full((1, 1, 32, 32), 0.5)
    assert estimate_flow(flat, flat).abs().max() == 0


def test_what_is_hidden_in_the_other_frame_is_not_trusted() -> None:
    reference = texture(64, 64)
    other = reference.clone()
    other[..., 20:40, 20:40] = 1 - other[..., 20:40, 20:40]
    confidence = match_confidence(reference, other, torch.full((1, 2, 64, 64), 0.2))
    assert confidence[..., 26:34, 26:34].mean() < 0.4
    assert confidence[..., 50:, 50:].mean() > 0.99


def test_what_does_not_move_shows_nothing_new() -> None:
    frame = texture(64, 64)
    still, moved = (torch.full((1, 2, 64, 64), motion) for motion in (0.0, 1.0))
    assert match_confidence(frame, frame, still).max() == 0
    assert match_confidence(warp(frame, moved), frame, moved).min() > 0.9


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (9, 11)])
def test_small_and_odd_frames_have_a_flow(size: tuple[int, int]) -> None:
    luma = texture(*size)
    flow = estimate_flow(luma, luma)
    assert flow.shape == (1, 2, *size)
    assert flow.isfinite().all()


@given(height=st.integers(1, 12), width=st.integers(1, 12), size=st.sampled_from([3, 5, 7]))
def test_a_box_mean_is_that_of_the_part_of_the_window_inside(height: int, width: int, size: int) -> None:
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height * 13 + width))
    found, reach = box_mean(x, size), size // 2
    for row in range(height):
        for col in range(width):
            rows = slice(max(row - reach, 0), row + reach + 1)
            cols = slice(max(col - reach, 0), col + reach + 1)
            expected = x[..., rows, cols].mean(dim=(-2, -1))
            assert torch.allclose(found[..., row, col], expected, atol=1e-6)
