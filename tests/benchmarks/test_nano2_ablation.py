"""Variants of dovetail-nano-2: every one can be trained, and begins as bicubic interpolation nearly does."""

from __future__ import annotations

import pytest
import torch

from benchmarks.nano2_ablation import VARIANTS, WindowTransformer, config_of
from pipelines.propagation.interpolation import enlarge


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_in_what_its_name_says(name: str) -> None:
    variant = VARIANTS[name]
    config = config_of(variant, 10)
    network = variant.make_network(config.network)
    lq = torch.rand(1, 2, 3, 24, 40)
    restored = network(lq, scale=4)
    assert (restored.frames - enlarge(lq, 4)).abs().mean() < 0.2
    restored.frames.square().mean().backward()
    learnt = {part for part, weight in network.named_parameters() if weight.grad is not None}
    assert any(part.startswith("modulation") for part in learnt) == (name != "no conditioning")
    assert config.network.channels == {"32 channels": 32, "64 channels": 64}.get(name, 48)
    assert config.stages[0].loss == ("l1" if name == "L1" else "psnr")
    assert config.stages[0].num_frames == ((1,) if name == "no propagation" else (1, 3))


@pytest.mark.parametrize("size", [(33, 50), (64, 32), (16, 16)])
def test_the_transformer_starts_as_nothing_and_sees_its_window_alone(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    transformer = WindowTransformer(8)
    x = torch.randn(2, 8, *size)
    assert torch.equal(transformer(x), x)
    torch.nn.init.normal_(transformer.render.weight)
    changed = x.clone()
    changed[0, :, 0, 0] += 1
    moved = (transformer(changed) - transformer(x)).abs().amax(1)
    assert moved[0, : min(32, size[0]), : min(32, size[1])].min() > 0
    assert moved[0, 32:].sum() == 0
    assert moved[0, :, 32:].sum() == 0
    assert moved[1].sum() == 0
