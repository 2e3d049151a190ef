"""Metrics and losses against closed forms and published behaviour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training.conftest import textured_picture
from training.losses import frequency_loss, perceptual_loss, pixel_loss, psnr_loss, temporal_loss
from training.metrics import LOWER_IS_BETTER, METRICS, haarpsi, psnr_y


def make_image(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(textured_picture(seed)).permute(2, 0, 1)[None].float() / 255


def test_psnr_of_a_known_error() -> None:
    image = torch.full((1, 3, 32, 32), 0.5)
    # One studio-swing luma step of 219/255 times 0.1.
    expected = -20 * torch.log10(torch.tensor(0.1 * 219 / 255))
    torch.testing.assert_close(psnr_y(image + 0.1, image)[0], expected)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_best_for_equal_images_and_worse_with_more_blur_or_noise(name: str) -> None:
    image = make_image()
    torch.manual_seed(0)
    noise = torch.randn_like(image)
    sign = -1 if name in LOWER_IS_BETTER else 1
    for degraded in (
        [F.avg_pool2d(F.pad(image, (k // 2,) * 4, mode="reflect"), k, stride=1) for k in (3, 7)],
        [(image + s * noise).clamp(0, 1) for s in (0.02, 0.1)],
    ):
        best, mild, strong = (sign * float(METRICS[name](x, image)[0]) for x in (image, *degraded))
        assert best > mild > strong


def test_metrics_score_each_image_of_a_batch_on_its_own() -> None:
    a, b = make_image(0), make_image(1)
    noisy = (a + 0.05 * torch.randn_like(a)).clamp(0, 1)
    for metric in METRICS.values():
        both = metric(torch.cat([noisy, b]), torch.cat([a, b]))
        torch.testing.assert_close(both[0], metric(noisy, a)[0], atol=1e-5, rtol=1e-4)


def test_haarpsi_has_the_published_implementation_s_value() -> None:
    """The value is piq 0.8.0's for this pair; its YIQ matrix has a digit more than ours."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    a = torch.stack([(x / 7).sin(), (y / 5).cos(), ((x + y) / 9).sin()])[None] * 0.5 + 0.5
    b = F.avg_pool2d(F.pad(a, (3,) * 4, mode="reflect"), 7, stride=1)
    assert float(haarpsi(b, a)[0]) == pytest.approx(0.97990, abs=2e-5)


def test_perceptual_loss_is_zero_for_equal_images_and_sees_blur_and_colourless_change() -> None:
    image = make_image()
    blurred = F.avg_pool2d(F.pad(image, (2,) * 4, mode="reflect"), 5, stride=1)
    assert float(perceptual_loss(image, image)) == pytest.approx(0, abs=1e-6)
    assert float(perceptual_loss(blurred, image)) > 0.01
    # A constant offset has no gradient: the term leaves brightness to the pixel loss.
    assert float(perceptual_loss(image * 0.5, image * 0.5 + 0.2)) == pytest.approx(0, abs=1e-4)


def test_temporal_loss_ignores_a_steady_error_and_counts_flicker() -> None:
    hr = torch.rand(1, 3, 4, 8, 8)
    steady = hr + 0.1
    flicker = hr + 0.1 * torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 4, 1, 1)
    assert float(temporal_loss(steady, hr)) == pytest.approx(0, abs=1e-6)
    assert float(temporal_loss(flicker, hr)) == pytest.approx(0.2, abs=1e-5)
    assert float(temporal_loss(hr[:, :, :1], hr[:, :, :1])) == 0


def test_pixel_losses() -> None:
    hr = torch.zeros(1, 3, 1, 4, 4)
    assert float(pixel_loss(hr + 0.2, hr, "mse")) == pytest.approx(0.04)
    assert float(pixel_loss(hr + 0.2, hr, "charbonnier")) == pytest.approx(0.2, rel=1e-3)


def test_the_psnr_loss_weighs_decibels_of_each_clip() -> None:
    hr = torch.full((2, 1, 3, 8, 8), 0.5)
    errors = torch.tensor([0.01, 0.2]).reshape(2, 1, 1, 1, 1)
    loss = float(psnr_loss(hr + errors, hr))
    assert loss == pytest.approx(np.mean(np.log(np.square([0.01, 0.2]))), abs=0.06)
    # Half the error in the flat clip is worth as much as in the busy one.
    halves = [
        float(psnr_loss(hr + errors * torch.tensor(f).reshape(2, 1, 1, 1, 1), hr))
        for f in ([0.5, 1], [1, 0.5])
    ]
    assert [loss - half for half in halves] == pytest.approx([np.log(4) / 2] * 2, abs=0.13)
    assert np.isfinite(float(psnr_loss(hr, hr)))


def test_the_psnr_loss_counts_a_quarter_of_the_errors_of_colour() -> None:
    hr = torch.full((1, 1, 3, 8, 8), 0.5)
    # The same energy in all channels: of brightness, and of colour alone, whose luma is 0.
    gray = torch.full((3,), 0.2)
    colour = torch.linalg.cross(torch.tensor([0.299, 0.587, 0.114]), torch.tensor([1.0, 0.0, 0.0]))
    colour = colour / colour.norm() * gray.norm()
    of_gray, of_colour = (float(psnr_loss(hr + error[:, None, None], hr)) for error in (gray, colour))
    assert of_gray - of_colour == pytest.approx(np.log(4), abs=1e-3)


def test_the_frequency_loss_weighs_detail_where_little_noise_is_left() -> None:
    x = torch.arange(64)[None].expand(64, 64)
    slow, fast = (torch.cos(2 * torch.pi * x * cycles / 64)[None] * 0.1 for cycles in (4, 20))
    zero = torch.zeros_like(slow)
    early = [frequency_loss(zero + wave, zero, progress=0.8) for wave in (slow, fast)]
    late = [frequency_loss(zero + wave, zero, progress=0.02) for wave in (slow, fast)]
    # Structure counts c = s^2, detail the rest, both times 1 - s.
    size = [float(wave.abs().mean()) for wave in (slow, fast)]
    assert [float(x) for x in early] == pytest.approx([0.2 * 0.64 * size[0], 0.2 * 0.36 * size[1]], rel=1e-4)
    assert [float(x) for x in late] == pytest.approx(
        [0.98 * 0.0004 * size[0], 0.98 * 0.9996 * size[1]], rel=0.01
    )
