"""Savings on the transformer change no bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.dove.attention import set_attention
from pipelines.dove.lossless import freeze_timestep, fuse_qkv
from pipelines.dove.one_step import one_step
from pipelines.planning.attention import AttentionSettings
from tests.pipelines.tiny import TEXT_DIM, TEXT_LENGTH, make_scheduler, make_transformer

PATTERNS: list[dict[str, Any]] = [
    {"pattern": "full"},
    {"pattern": "window", "window": (2, 3)},
    {"pattern": "window+global", "window": (2, 3), "pool": 2},
    {"pattern": "sparse", "window": (1, 2, 3)},
    {"pattern": "routed", "heads": (("window", "global"), ("frame", "window")), "tile": (1, 2, 2)},
    {"pattern": "linear", "blocks": (1, 2, 2), "use_lepe": True},
]
DTYPES = [torch.float32, torch.bfloat16]


def restore(transformer: Any, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 16, 8, 12, generator=generator).to(dtype)
    prompt = torch.randn(1, TEXT_LENGTH, TEXT_DIM, generator=generator).to(dtype)
    with torch.no_grad():
        return one_step(transformer, make_scheduler(), latents, prompt, timestep=399)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern["pattern"])
@pytest.mark.parametrize("layout", ["1.5-5b", "5b", "2b"])
def test_frozen_and_fused_transformer_gives_the_same_bits(
    layout: str, pattern: Any, dtype: torch.dtype
) -> None:
    transformer = make_transformer(layout).to(dtype)
    set_attention(transformer, AttentionSettings.model_validate(pattern))
    expected = restore(transformer, dtype)
    freeze_timestep(transformer, 399)
    assert torch.equal(restore(transformer, dtype), expected)
    fuse_qkv(transformer)
    assert torch.equal(restore(transformer, dtype), expected)


def test_freezing_drops_the_adaptive_norms_linears() -> None:
    transformer = make_transformer()
    linears = sum(
        parameter.numel()
        for name, parameter in transformer.named_parameters()
        if ".norm1.linear" in name or ".norm2.linear" in name or name.startswith("norm_out.linear")
    )
    assert linears > 0
    assert freeze_timestep(transformer, 399) == linears


def test_fusing_keeps_no_second_copy_of_the_weights() -> None:
    transformer = make_transformer()
    before = sum(parameter.numel() for parameter in transformer.parameters())
    fuse_qkv(transformer)
    assert sum(parameter.numel() for parameter in transformer.parameters()) == before


def test_frozen_constants_move_with_the_module() -> None:
    transformer = make_transformer()
    freeze_timestep(transformer, 399)
    assert {buffer.dtype for buffer in transformer.to(torch.float64).buffers()} == {torch.float64}
