"""Group norms that all tiles of a frame share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.codecs.cogvideox_vae import decode_batches, encode_moments, prepare_vae
from pipelines.codecs.shared_norms import (
    SharedGroupNorm,
    joint_moments,
    shared_statistics,
    spread_patches,
)
from pipelines.planning.spans import Span, TileGrid, equal_spans
from tests.pipelines.tiny import make_vae


@pytest.fixture
def vae() -> Any:
    vae = make_vae()
    prepare_vae(vae)
    return vae


def uneven_latents(height: int, width: int, num_frames: int = 2) -> Tensor:
    """Flat at the left, busy at the right: tiles of it have statistics of their own."""
    torch.manual_seed(0)
    return torch.randn(1, 16, num_frames, height, width) * torch.linspace(0.1, 2, width)


def in_tiles(vae: Any, latents: Tensor, grid: TileGrid, *, shares_statistics: bool) -> Tensor:
    batches = decode_batches(vae, latents, grid, shares_statistics=shares_statistics)
    return torch.cat(list(batches), dim=2)


CUTS = slice(0, 16), slice(8, 20)
GRID = TileGrid((Span(0, 8),), tuple(equal_spans(24, 8, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_told_statistics_of_its_input_a_norm_gives_what_it_gives_by_itself(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    shared, x = SharedGroupNorm(norm.to(dtype)), (3 * torch.randn(1, 16, 3, 5, 7) + 2).to(dtype)
    own = norm(x)
    with torch.no_grad(), shared_statistics(shared, lambda: shared(x)):
        assert torch.allclose(shared(x).float(), own.float(), atol=1e-5 if dtype == torch.float32 else 0.04)
    assert torch.equal(shared(x), own)


def test_moments_are_those_of_all_samples_of_a_batch() -> None:
    x = torch.randn(3, 8, 2, 4, 5) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None, None] + 7
    mean, variance = joint_moments(x, 4)
    groups = x.double().transpose(0, 1).reshape(4, -1)
    assert torch.allclose(mean.double(), groups.mean(dim=1))
    assert torch.allclose(variance.double(), groups.var(dim=1, correction=0))


@torch.no_grad()
def test_every_time_batch_has_statistics_of_its_own(vae: Any) -> None:
    latents = uneven_latents(8, 16, num_frames=6)
    latents[:, :, 2:] *= 4
    grid = TileGrid((Span(0, 8),), tuple(equal_spans(16, 8, 2)))
    frames = in_tiles(vae, latents, grid, shares_statistics=True)
    first = in_tiles(vae, latents[:, :, :2], grid, shares_statistics=True)
    # Causal convolutions: nothing else of what follows could get in.
    torch.testing.assert_close(frames[:, :, :8], first)


@torch.no_grad()
def test_tiles_agree_where_they_overlap(vae: Any) -> None:
    latents = uneven_latents(8, 20)

    def disagreement() -> float:
        left, right = (torch.cat(list(decode_batches(vae, latents[..., cut])), dim=2) for cut in CUTS)
        # Without the pixels at either border, which see less.
        return float((left[..., 80:96] - right[..., 16:32]).abs().mean())

    own = disagreement()
    with shared_statistics(vae.decoder, lambda: vae.decoder(latents)):
        assert disagreement() < 0.1 * own


@torch.no_grad()
def test_encoder_and_decoder_share_only_where_they_are_told_to(vae: Any) -> None:
    latents = uneven_latents(8, 24)
    frames = [in_tiles(vae, latents, GRID, shares_statistics=shares) for shares in (False, True)]
    assert (frames[0] - frames[1]).abs().mean() > 1e-3
    sample, pixels = frames[0], GRID.scaled(8)
    moments = [encode_moments(vae, sample, pixels, shares_statistics=shares) for shares in (False, True)]
    assert (moments[0] - moments[1]).abs().mean() > 1e-3


@torch.no_grad()
def test_statistics_are_forgotten_after_a_frame_and_after_an_error(vae: Any) -> None:
    latents = uneven_latents(8, 24)
    before = in_tiles(vae, latents, GRID, shares_statistics=False)
    in_tiles(vae, latents, GRID, shares_statistics=True)
    assert torch.equal(in_tiles(vae, latents, GRID, shares_statistics=False), before)

    def fail() -> None:
        vae.decoder(latents[..., :8])
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError), shared_statistics(vae.decoder, fail):
        pass
    assert torch.equal(in_tiles(vae, latents, GRID, shares_statistics=False), before)


@torch.no_grad()
def test_a_whole_frame_keeps_its_bits(vae: Any) -> None:
    latents, grid = uneven_latents(8, 8), TileGrid((Span(0, 8),), (Span(0, 8),))
    whole = torch.cat(list(decode_batches(vae, latents)), dim=2)
    assert torch.equal(in_tiles(vae, latents, grid, shares_statistics=True), whole)


def test_a_vae_that_is_not_prepared_cannot_share() -> None:
    with pytest.raises(ValueError, match="prepare_vae"):
        in_tiles(make_vae(), uneven_latents(8, 24), GRID, shares_statistics=True)


@pytest.mark.parametrize(
    ("height", "width", "tile", "multiple"),
    [(270, 480, 60, 1), (2160, 3840, 480, 8), (32, 32, 16, 1), (32, 48, 6, 1), (16, 64, 16, 1)],
)
def test_patches_are_spread_over_the_frame_and_no_larger_than_a_tile(
    height: int, width: int, tile: int, multiple: int
) -> None:
    axes = (equal_spans(length, tile, 2 * multiple, multiple=multiple) for length in (height, width))
    grid = TileGrid(*(tuple(spans) for spans in axes))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    patches = spread_patches(torch.stack([y, x])[None, :, None], grid, multiple=multiple)
    rows, cols = patches[:, 0, 0], patches[:, 1, 0]
    assert rows[0].numel() * len(patches) <= tile**2
    assert not (rows[:, 0, 0] % multiple).any()
    assert not (cols[:, 0, 0] % multiple).any()
    assert patches.shape[-1] % multiple == 0
    if len(patches) > 1:
        assert rows.min() == cols.min() == 0
        assert rows.max() >= height - multiple
        assert cols.max() >= width - multiple
