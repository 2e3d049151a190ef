"""Which sizes diffusers' own VAE tiles can do."""

from __future__ import annotations

import pytest
import torch

from pipelines.dove.reference_tiling import check_reference_tiling
from pipelines.errors import UnsupportedSizeError
from tests.pipelines.tiny import make_vae


@pytest.mark.parametrize("sample_height", [96, 104, 120])
@pytest.mark.parametrize("height", [32, 80, 112])
@torch.no_grad()
def test_refused_sizes_are_those_that_diffusers_gets_wrong(sample_height: int, height: int) -> None:
    vae = make_vae(sample_height=sample_height)
    vae.enable_tiling()
    latents = vae.encode(torch.zeros(1, 3, 1, height, 32)).latent_dist.mode()
    try:
        check_reference_tiling(vae, height, 32)
    except UnsupportedSizeError:
        assert latents.shape[-2] != height // 8
    else:
        assert latents.shape[-2] == height // 8
