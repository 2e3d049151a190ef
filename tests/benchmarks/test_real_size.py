"""The generator of checkpoints in the real layout, at a toy size."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.real_size.folder import write_checkpoint
from benchmarks.real_size.layout import Layout
from benchmarks.real_size.tracking import ActivationTracker
from benchmarks.real_size.weights import empty_modules, make_checkpoint
from pipelines.dove.loading import load_checkpoint

TOY = Layout(num_layers=2, num_heads=1, vae_channels=8, vae_layers=1, text_length=4, text_dim=8)


def test_the_real_layout_has_as_many_parameters_as_the_public_checkpoint() -> None:
    vae, transformer = empty_modules(Layout())
    num_vae, num_transformer = (sum(p.numel() for p in module.parameters()) for module in (vae, transformer))
    assert round(num_vae / 1e6, 2) == 215.58
    assert round(num_transformer / 1e6, 2) == 5570.68


def test_a_sharded_folder_loads_as_the_weights_that_are_made_in_memory(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TOY, max_shard_bytes=300_000)
    assert len(list((tmp_path / "transformer").glob("*-of-*.safetensors"))) > 2
    loaded = load_checkpoint(tmp_path, dtype=torch.bfloat16)
    made = make_checkpoint(TOY, "cpu")
    for name in ("vae", "transformer"):
        expected = getattr(made, name).state_dict()
        found = getattr(loaded, name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert torch.equal(loaded.prompt_embeds, made.prompt_embeds)
    assert loaded.description == made.description
    assert loaded.transformer.config.num_layers == TOY.num_layers


def test_tracked_bytes_are_those_of_tensors_that_live() -> None:
    weight = torch.ones(1000)
    with ActivationTracker() as tracker:
        view = weight[:10]
        for _ in range(5):
            product = weight * 2  # 4000 bytes, and 4000 more while the next one replaces it
        del product, view
        torch.zeros(10)
    assert tracker.peak.num_bytes == 8000


def test_products_in_float32_are_rounded_to_bfloat16_and_close_to_it() -> None:
    generator = torch.Generator().manual_seed(0)
    sample, kernel = (torch.randn(4, 16, 16, generator=generator).bfloat16() for _ in range(2))
    with ActivationTracker(use_float32_products=True):
        product = sample @ kernel
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product, sample @ kernel, atol=0.1, rtol=0.02)
