"""The space-to-depth autoencoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder


def make_autoencoder(**kwargs: int) -> SpaceToDepthAutoencoder:
    torch.manual_seed(0)
    autoencoder = SpaceToDepthAutoencoder(channels=8, num_blocks=2, **kwargs).eval()
    for parameter in autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return autoencoder


def test_latents_are_the_sample_rearranged() -> None:
    sample = torch.rand(1, 3, 2, 16, 24) * 2 - 1
    latents = make_autoencoder().encode(sample)
    assert latents.shape == (1, 192, 2, 2, 3)
    back = F.pixel_shuffle(latents.transpose(1, 2), 8).transpose(1, 2)
    assert torch.equal(back, sample)


def test_untrained_decoder_is_bicubic_upsampling() -> None:
    torch.manual_seed(0)
    autoencoder = SpaceToDepthAutoencoder(channels=8, num_blocks=1)
    lq = torch.rand(2, 3, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        out = autoencoder.decode(torch.randn(2, 192, 3, 4, 4), lq)
    expected = F.interpolate(lq.transpose(1, 2).flatten(0, 1), scale_factor=4, mode="bicubic")
    torch.testing.assert_close(out.transpose(1, 2).flatten(0, 1), expected)


def test_decoder_sees_one_frame_to_either_side() -> None:
    autoencoder = make_autoencoder()
    lq, latents = torch.rand(1, 3, 6, 8, 8), torch.rand(1, 192, 6, 4, 4)
    changed = lq.clone()
    changed[:, :, 3] += 0.5
    with torch.no_grad():
        difference = (autoencoder.decode(latents, lq) - autoencoder.decode(latents, changed)).abs()
    touched = difference.amax(dim=(0, 1, 3, 4)) > 0
    assert touched.tolist() == [False, False, True, True, True, False]


def test_decoding_a_window_equals_the_window_of_a_decoding_away_from_its_border() -> None:
    autoencoder = make_autoencoder()
    lq, latents = torch.rand(1, 3, 1, 32, 32), torch.rand(1, 192, 1, 16, 16)
    with torch.no_grad():
        whole = autoencoder.decode(latents, lq)
        part = autoencoder.decode(latents[..., :8, :8], lq[..., :16, :16])
    # conv_in, two blocks of two, conv_mid, conv_out: seven 3x3 convolutions reach 7 LR pixels; bicubic 2.
    inside = (16 - 9) * 4
    torch.testing.assert_close(part[..., :inside, :inside], whole[..., :inside, :inside])


def test_survives_a_save_and_load(tmp_path: Path) -> None:
    autoencoder = make_autoencoder()
    autoencoder.save_pretrained(tmp_path)
    loaded = SpaceToDepthAutoencoder.from_pretrained(tmp_path)
    lq, latents = torch.rand(1, 3, 1, 8, 8), torch.rand(1, 192, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(loaded.decode(latents, lq), autoencoder.decode(latents, lq))


@pytest.mark.parametrize("kwargs", [{"scale": 3}, {"num_lq_frames": 2}])
def test_impossible_shapes_are_refused(kwargs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of the scale and num_lq_frames odd"):
        make_autoencoder(**kwargs)
