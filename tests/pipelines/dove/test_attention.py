"""Window attention against a plain masked computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dove.attention import (
    FullPattern,
    JointAttention,
    WindowPattern,
    axis_windows,
    project_qkv,
    set_attention,
)
from pipelines.dove.one_step import rotary_embedding
from pipelines.planning.attention import AttentionSettings


def tiny_transformer(num_layers: int = 2) -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=8,
        num_layers=num_layers,
        patch_size=2,
        patch_size_t=2,
        max_text_seq_length=2,
        use_rotary_positional_embeddings=True,
    ).eval()


@given(num_tokens=st.integers(1, 70), window=st.integers(1, 16), shifted=st.booleans())
def test_windows_are_whole_and_every_token_is_read_back_once(
    num_tokens: int, window: int, shifted: bool
) -> None:
    axis = axis_windows(num_tokens, window, shifted=shifted)
    tokens = torch.arange(2 * num_tokens).view(2, num_tokens)
    windows = axis.gather(tokens, 1)
    assert windows.shape == (2, len(axis.starts), min(window, num_tokens))
    assert torch.equal(axis.scatter(windows, 1), tokens)


@given(num_tokens=st.integers(1, 70), window=st.integers(1, 16), shifted=st.booleans())
def test_a_token_is_read_from_the_window_in_which_it_lies_most_centrally(
    num_tokens: int, window: int, shifted: bool
) -> None:
    axis = axis_windows(num_tokens, window, shifted=shifted)
    centres = [start + (axis.size - 1) / 2 for start in axis.starts]
    for start, (low, high), centre in zip(axis.starts, axis.owned, centres, strict=True):
        for token in range(start + low, start + high):
            assert abs(token - centre) == min(abs(token - other) for other in centres)


def owned_borders(num_tokens: int, window: int, *, shifted: bool) -> set[int]:
    axis = axis_windows(num_tokens, window, shifted=shifted)
    return {start + high for start, (_, high) in zip(axis.starts, axis.owned, strict=True)} - {num_tokens}


def test_shifted_windows_have_other_borders() -> None:
    assert axis_windows(24, 8, shifted=False).starts == (0, 8, 16)
    assert axis_windows(24, 8, shifted=True).starts == (0, 4, 12, 16)
    plain, shifted = (owned_borders(24, 8, shifted=s) for s in (False, True))
    assert plain == {8, 16}
    assert not plain & shifted


def test_empty_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        axis_windows(0, 8, shifted=False)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(2, 5, 7), (1, 4, 4), (3, 3, 9)])
def test_window_attention_equals_masked_attention(grid: tuple[int, int, int], shifted: bool) -> None:
    """The window a token is read from decides its keys: the mask is built from that, token by token."""
    transformer = tiny_transformer()
    attn = transformer.transformer_blocks[0].attn1
    video = torch.randn(2, grid[0] * grid[1] * grid[2], 32)
    text = torch.randn(2, 2, 32)
    rotary = rotary_embedding(grid, transformer.config, "cpu")
    assert rotary is not None
    processor = JointAttention(WindowPattern((4, 4), shifted=shifted))
    with torch.no_grad():
        got_video, got_text = processor(attn, video, text, image_rotary_emb=rotary, token_grid=grid)
        query, key, value = project_qkv(attn, torch.cat([text, video], 1))
        query = torch.cat([query[:, :, :2], apply_rotary_emb(query[:, :, 2:], rotary)], 2)
        key = torch.cat([key[:, :, :2], apply_rotary_emb(key[:, :, 2:], rotary)], 2)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=window_mask(grid, shifted))
        expected = attn.to_out[0](out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(got_text, expected[:, :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got_video, expected[:, 2:], atol=1e-5, rtol=1e-5)


def window_mask(grid: tuple[int, int, int], shifted: bool, num_text: int = 2) -> torch.Tensor:
    num_frames, height, width = grid
    owners, members = [], []
    for side in (height, width):
        axis = axis_windows(side, 4, shifted=shifted)
        owners.append([i for i, (low, high) in enumerate(axis.owned) for _ in range(low, high)])
        members.append([range(start, start + axis.size) for start in axis.starts])
    positions = [(t, y, x) for t in range(num_frames) for y in range(height) for x in range(width)]
    mask = torch.zeros(num_text + len(positions), num_text + len(positions), dtype=torch.bool)
    mask[:, :num_text] = True
    for i, (_, y, x) in enumerate(positions):
        rows, cols = members[0][owners[0][y]], members[1][owners[1][x]]
        for j, (_, other_y, other_x) in enumerate(positions):
            mask[num_text + i, num_text + j] = other_y in rows and other_x in cols
    return mask


def test_window_attention_is_local_through_the_whole_transformer() -> None:
    transformer = tiny_transformer()
    set_attention(transformer, AttentionSettings.model_validate({"pattern": "window", "window": (2, 2)}))
    latents = torch.randn(1, 2, 4, 8, 32)
    changed = latents.clone()
    changed[..., -2:] += 1
    text, timestep = torch.zeros(1, 2, 8), torch.tensor([19])
    grid = (1, 4, 16)
    with torch.no_grad():
        a, b = (
            transformer(
                x,
                text,
                timestep,
                image_rotary_emb=rotary_embedding(grid, transformer.config, "cpu"),
                attention_kwargs={"token_grid": grid},
                return_dict=False,
            )[0]
            for x in (latents, changed)
        )
    assert not torch.equal(a[..., -2:], b[..., -2:])
    assert torch.equal(a[..., :16], b[..., :16])


def test_gradients_flow_as_in_inference() -> None:
    transformer = tiny_transformer(1)
    attn = transformer.transformer_blocks[0].attn1
    video, text = torch.randn(1, 2 * 4 * 4, 32, requires_grad=True), torch.randn(1, 2, 32)
    processor = JointAttention(WindowPattern((2, 2), shifted=True))
    out, _ = processor(attn, video, text, token_grid=(2, 4, 4))
    with torch.no_grad():
        expected, _ = processor(attn, video, text, token_grid=(2, 4, 4))
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    assert video.grad is not None
    assert video.grad.abs().min() > 0


def test_window_attention_needs_the_grid() -> None:
    attn = tiny_transformer(1).transformer_blocks[0].attn1
    with pytest.raises(ValueError, match="token grid"):
        JointAttention(WindowPattern((2, 2), shifted=False))(
            attn, torch.zeros(1, 8, 32), torch.zeros(1, 2, 32)
        )


def test_layers_take_the_patterns_of_a_list_in_turn() -> None:
    transformer = tiny_transformer(6)
    set_attention(
        transformer, AttentionSettings.model_validate(["full", {"pattern": "window", "window": (2, 3)}])
    )
    patterns = [block.attn1.processor.pattern for block in transformer.transformer_blocks]
    assert patterns[::2] == [FullPattern()] * 3
    # Windows are shifted in turn, though all of them are in odd layers.
    assert patterns[1::2] == [WindowPattern((2, 3), shifted=shifted) for shifted in (False, True, False)]
