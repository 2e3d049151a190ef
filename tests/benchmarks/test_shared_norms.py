"""The benchmark of group norms that tiles share, at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import shared_norms
from pipelines.codecs.cogvideox_vae import prepare_vae


def test_it_trains_and_holds_both_kinds_of_tiles_against_the_whole_picture(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "noise.png")
    vae = shared_norms.make_vae()
    before = vae.decoder.conv_out.conv.weight.detach().clone()
    assert 0 < shared_norms.train(vae, tmp_path, steps=2) < 255
    assert not torch.equal(vae.decoder.conv_out.conv.weight, before)
    vae.eval().requires_grad_(False)
    prepare_vae(vae)
    sample = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    found = shared_norms.score(vae, sample, 128)
    assert found["own"]["decoder_error"] > 0
    assert found["own"]["decoder_error"] != found["shared"]["decoder_error"]
