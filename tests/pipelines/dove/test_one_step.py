"""The one-step rule, against its formula."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from pipelines.dove.one_step import num_leading_copies, one_step, rotary_embedding, token_grid
from tests.pipelines.dove.test_attention import tiny_transformer


def make_scheduler() -> CogVideoXDDIMScheduler:
    return CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True,
        snr_shift_scale=1.0, timestep_spacing="trailing", prediction_type="v_prediction",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("num_frames", "patch_size_t", "copies"), [(9, 2, 1), (10, 2, 0), (1, 2, 1), (9, None, 0)]
)
def test_leading_copies(num_frames: int, patch_size_t: int | None, copies: int) -> None:
    assert num_leading_copies(num_frames, patch_size_t) == copies


def test_alpha_of_dove_step_is_the_documented_one() -> None:
    alpha = float(make_scheduler().alphas_cumprod[399])
    assert alpha == pytest.approx(0.393544057504278, abs=1e-12)


@pytest.mark.parametrize("num_frames", [3, 4])
def test_one_step_follows_the_v_rule(num_frames: int) -> None:
    transformer, scheduler = tiny_transformer(), make_scheduler()
    latents, text = torch.randn(2, num_frames, 4, 8, 12), torch.randn(1, 2, 8)
    with torch.no_grad():
        got = one_step(transformer, scheduler, latents, text, timestep=399)
        padded = torch.cat([latents[:, :1]] * (num_frames % 2) + [latents], dim=1)
        velocity = transformer(
            padded,
            text.expand(2, -1, -1),
            torch.full((2,), 399),
            image_rotary_emb=rotary_embedding(
                token_grid(4, 8, 12, transformer.config), transformer.config, "cpu"
            ),
            return_dict=False,
        )[0]
    alpha = scheduler.alphas_cumprod[399].float()
    expected = (alpha.sqrt() * padded - (1 - alpha).sqrt() * velocity)[:, num_frames % 2 :]
    torch.testing.assert_close(got, expected)
    assert got.shape == latents.shape
