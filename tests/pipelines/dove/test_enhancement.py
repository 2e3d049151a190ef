"""The gate before attention."""

from __future__ import annotations

import pytest
import torch

from pipelines.dove.attention import set_attention
from pipelines.dove.attention.enhancement import LocalEnhancement
from pipelines.dove.one_step import one_step
from pipelines.planning.attention import AttentionSettings
from tests.pipelines.dove.test_attention import tiny_transformer
from tests.pipelines.dove.test_one_step import make_scheduler

GRID = (2, 3, 5)


def restored(*, use_local_enhancement: bool, gate: float = 0.0) -> torch.Tensor:
    transformer = tiny_transformer()
    settings = AttentionSettings.model_validate({"pattern": "window", "window": [2, 2]})
    set_attention(transformer, settings, use_local_enhancement=use_local_enhancement)
    if gate:
        for block in transformer.transformer_blocks:
            block.attn1.local_enhancement.spatial.weight.data.fill_(gate)
    generator = torch.Generator().manual_seed(1)
    latents, text = (torch.randn(*shape, generator=generator) for shape in ((1, 4, 4, 6, 10), (1, 2, 8)))
    with torch.no_grad():
        return one_step(transformer, make_scheduler(), latents, text, timestep=399)


def test_a_new_gate_changes_no_bit_and_a_trained_one_does() -> None:
    plain = restored(use_local_enhancement=False)
    assert torch.equal(restored(use_local_enhancement=True), plain)
    assert not torch.allclose(restored(use_local_enhancement=True, gate=0.5), plain, atol=1e-4)


def test_a_token_is_gated_by_its_neighbours_in_its_own_frame() -> None:
    gate = LocalEnhancement()
    with torch.no_grad():
        gate.spatial.weight.normal_(generator=torch.Generator().manual_seed(0))
    states = torch.randn(1, 30, 8, generator=torch.Generator().manual_seed(1))
    changed = states.clone()
    changed[:, 15:] += 1.0  # the second frame
    before, after = gate(states, GRID), gate(changed, GRID)
    assert torch.equal(before[:, :15], after[:, :15])
    factor = (before / states)[0, :15].reshape(3, 5, 8)
    assert torch.allclose(factor, factor[..., :1].expand_as(factor), atol=1e-5)  # one for all channels
    maps = torch.stack([states.mean(-1), states.amax(-1)])[:, 0, :15].reshape(2, 3, 5)
    padded = torch.nn.functional.pad(maps, (3, 3, 3, 3))
    by_hand = 2 * torch.sigmoid((padded[:, 1:8, 2:9] * gate.spatial.weight[0]).sum())
    torch.testing.assert_close(factor[1, 2, 0], by_hand)


def test_without_a_grid_it_is_an_error() -> None:
    transformer = tiny_transformer(1)
    set_attention(transformer, AttentionSettings.model_validate("full"), use_local_enhancement=True)
    attention = transformer.transformer_blocks[0].attn1
    with pytest.raises(ValueError, match="token grid"):
        attention(torch.randn(1, 6, 32), encoder_hidden_states=torch.randn(1, 2, 32))
