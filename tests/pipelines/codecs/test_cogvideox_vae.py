"""The prepared VAE: same bits, less memory, any size."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from torch.utils._pytree import tree_leaves

from pipelines.codecs.cogvideox_layers import CausalConv3d
from pipelines.codecs.cogvideox_vae import (
    decode_batches,
    encode_moments,
    prepare_vae,
    time_batches,
)
from pipelines.planning.spans import Span, TileGrid, equal_spans
from pipelines.tiling import TileFusion
from tests.pipelines.tiny import make_vae

DTYPES = [torch.float32, torch.bfloat16]
# Pieces of one or two frames, so that the split is used everywhere.
TINY_LIMIT = 3000


def moments_of(vae: Any, sample: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        parameters: torch.Tensor = vae.encode(sample).latent_dist.parameters
    return parameters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_conv_elements", [2**30, TINY_LIMIT])
@pytest.mark.parametrize("num_frames", [1, 8, 9, 17])
@torch.no_grad()
def test_prepared_vae_encodes_and_decodes_to_the_same_bits(
    num_frames: int, max_conv_elements: int, dtype: torch.dtype
) -> None:
    vae = make_vae().to(dtype)
    sample = torch.rand(1, 3, num_frames, 32, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    moments = moments_of(vae, sample)
    latents = moments[:, :16].contiguous()
    frames = vae.decode(latents).sample
    prepare_vae(vae, max_conv_elements=max_conv_elements)
    assert torch.equal(encode_moments(vae, sample), moments)
    batches = list(decode_batches(vae, latents))
    assert torch.equal(torch.cat(batches, dim=2), frames)
    # Frames leave in the VAE's own rhythm, not at the end.
    assert len(batches) == max(latents.shape[2] // 2, 1)


@torch.no_grad()
def test_prepared_vae_keeps_the_bits_of_diffusers_tiles() -> None:
    vae = make_vae()
    sample = torch.rand(1, 3, 9, 64, 104)
    vae.enable_tiling()
    moments = moments_of(vae, sample)
    frames = vae.decode(moments[:, :16]).sample
    prepare_vae(vae)
    assert torch.equal(moments_of(vae, sample), moments)
    assert torch.equal(vae.decode(moments[:, :16]).sample, frames)


@torch.no_grad()
def test_pointwise_convolutions_keep_no_cache() -> None:
    vae, latents = make_vae(), torch.randn(1, 16, 2, 4, 6)
    cached = [sum(x.numel() for x in tree_leaves(vae.decoder(latents)[1]) if x is not None)]
    prepare_vae(vae)
    frames, cache = vae.decoder(latents)
    cached.append(sum(x.numel() for x in tree_leaves(cache) if x is not None))
    assert cached[1] < 0.6 * cached[0]
    assert frames.shape == (1, 3, 8, 32, 48)


@torch.no_grad()
def test_untiled_vae_works_above_the_size_at_which_diffusers_fails() -> None:
    def real_vae() -> AutoencoderKLCogVideoX:
        with torch.device("meta"):
            vae = AutoencoderKLCogVideoX(
                block_out_channels=(128, 256, 256, 512), layers_per_block=1, norm_num_groups=32
            )
        return vae.to(torch.bfloat16).eval()

    latents = torch.empty(1, 16, 2, 136, 200, dtype=torch.bfloat16, device="meta")
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        real_vae().decode(latents)
    vae = real_vae()
    prepare_vae(vae)
    frames = next(decode_batches(vae, latents))
    assert frames.shape == (1, 3, 8, 1088, 1600)


def test_split_never_makes_a_piece_shorter_than_the_kernel() -> None:
    conv = torch.nn.Conv3d(2, 3, 3, padding=(0, 1, 1))
    inputs = torch.randn(1, 2, 9, 4, 5)
    with torch.no_grad():
        whole = CausalConv3d(conv).convolve(inputs)
        for limit in (1, 80, 160, 200, 240):
            assert torch.equal(CausalConv3d(conv, max_elements=limit).convolve(inputs), whole)


@pytest.mark.parametrize(
    ("num_frames", "batch_size", "expected"),
    [
        (33, 8, [(0, 9), (9, 17), (17, 25), (25, 33)]),
        (9, 2, [(0, 3), (3, 5), (5, 7), (7, 9)]),
        (16, 8, [(0, 8), (8, 16)]),
        (1, 8, [(0, 1)]),
        (1, 2, [(0, 1)]),
    ],
)
def test_first_time_batch_takes_the_remainder(
    num_frames: int, batch_size: int, expected: list[tuple[int, int]]
) -> None:
    assert time_batches(num_frames, batch_size) == expected


@torch.no_grad()
def test_single_tile_is_the_untiled_result_and_many_tiles_have_its_size() -> None:
    vae, sample = make_vae(), torch.rand(1, 3, 9, 48, 64)
    prepare_vae(vae)
    whole = encode_moments(vae, sample)
    single = TileGrid((Span(0, 48),), (Span(0, 64),))
    assert torch.equal(encode_moments(vae, sample, single), whole)
    many = TileGrid(tuple(equal_spans(48, 32, 16, multiple=16)), tuple(equal_spans(64, 32, 16, multiple=16)))
    assert encode_moments(vae, sample, many).shape == whole.shape
    frames = torch.cat(list(decode_batches(vae, whole[:, :16], many.scaled(1, 8))), dim=2)
    assert frames.shape == (1, 3, 9, 48, 64)


@torch.no_grad()
def test_tiled_frames_leave_batch_by_batch_with_the_bits_of_whole_tiles() -> None:
    vae, latents = make_vae(), torch.randn(1, 16, 9, 6, 8)
    prepare_vae(vae)
    grid = TileGrid(tuple(equal_spans(6, 4, 2)), tuple(equal_spans(8, 4, 2)))
    whole = TileFusion(grid.scaled(8), "fade")
    for index, (row, col) in enumerate(grid.tiles):
        tile = latents[..., row.slice, col.slice].contiguous()
        whole.add(index, torch.cat(list(decode_batches(vae, tile)), dim=2))
    batches = list(decode_batches(vae, latents, grid))
    assert [batch.shape[2] for batch in batches] == [9, 8, 8, 8]
    assert torch.equal(torch.cat(batches, dim=2), whole.result())


@torch.no_grad()
def test_tiled_decoding_frees_what_it_handed_out() -> None:
    vae, latents = make_vae(), torch.randn(1, 16, 9, 6, 8)
    prepare_vae(vae)
    grid = TileGrid(tuple(equal_spans(6, 4, 2)), tuple(equal_spans(8, 4, 2)))
    alive = []
    for batch in decode_batches(vae, latents, grid):
        tensors = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.ndim == 5]
        alive.append(sum(x.shape[2] for x in tensors if x.shape[-2:] == (48, 64)))
        del batch, tensors
    assert alive == [33, 24, 16, 8]
