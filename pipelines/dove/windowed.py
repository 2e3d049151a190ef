"""A windowed transformer with a frozen timestep, run one row of windows at a time, for inference only.

Text attends to text alone (`pipelines.dove.attention`), so under one prompt and one timestep its keys and
values are constants of the checkpoint, and a row of windows needs nothing of other rows but their tokens.
Each block therefore goes row by row through norm, attention and feed-forward, from one buffer of tokens into
another: what else is alive is as large as a row, which stays in a processor's cache and off the allocator.
With `UnitPattern` a row has the frames of one unit, however long the clip is.
The arithmetic is that of the blocks with their patterns, summed in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from pipelines.dove.attention import (
    AxisWindows,
    JointAttention,
    RotaryEmbedding,
    UnitPattern,
    WindowPattern,
    axis_windows,
    project_qkv,
)
from pipelines.dove.lossless import ConstantLayerNormZero
from pipelines.planning.patterns import TokenGrid

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class _BlockConstants:
    """What a block's timestep and prompt make constant.

    Attributes:
        text: Keys and values of the text, (1, heads, L, head_dim) each.
        norm1: Weight and bias of the norm before attention, modulation included, (D,) each.
        norm2: The same before the feed-forward.
        gate1: Gate of the attention, (D,).
        gate2: Gate of the feed-forward, (D,).
    """

    text: Pair
    norm1: Pair
    norm2: Pair
    gate1: torch.Tensor
    gate2: torch.Tensor


class WindowedTransformer:
    """Runs a `CogVideoXTransformer3DModel`, whose weights it shares.

    Args:
        transformer: Frozen (`freeze_timestep`), with fused projections (`fuse_qkv`), window attention, in
            units or not, in every block and rotary positions.
        prompt_embeds: (1, L, D) text embedding.
    """

    def __init__(self, transformer: Any, prompt_embeds: torch.Tensor) -> None:
        self.transformer = transformer
        self.prompt_embeds = prompt_embeds
        self._constants: tuple[torch.device, list[_BlockConstants]] | None = None

    @property
    def config(self) -> Any:
        return self.transformer.config

    @staticmethod
    def supports(transformer: Any) -> bool:
        """Whether a transformer is as the constructor wants it."""
        return bool(transformer.config.use_rotary_positional_embeddings) and all(
            isinstance(block.attn1.processor, JointAttention)
            and isinstance(_inside_units(block.attn1.processor.pattern), WindowPattern)
            and isinstance(block.norm1, ConstantLayerNormZero)
            and block.attn1.norm_q is not None
            and not hasattr(block.attn1, "local_enhancement")
            and block.attn1.fused_projections
            for block in transformer.transformer_blocks
        )

    def run_blocks(self, tokens: torch.Tensor, rotary: RotaryEmbedding) -> torch.Tensor:
        """All blocks and the norms after them.

        Args:
            tokens: (T, H, W, D), embedded; overwritten.
            rotary: cos and sin of the grid, (T*H*W, head_dim) each.

        Returns:
            (T, H, W, D), what the last projection takes.
        """
        frequencies = _complex_frequencies(rotary, (tokens.shape[0], tokens.shape[1], tokens.shape[2]))
        other = torch.empty_like(tokens)
        constants = self._block_constants(tokens.device)
        for block, constant in zip(self.transformer.transformer_blocks, constants, strict=True):
            self._run_block(block, constant, tokens, other, frequencies)
            tokens, other = other, tokens
        final, out = self.transformer.norm_final, self.transformer.norm_out
        weight, bias = _modulated(out.norm, out.modulation[0], out.modulation[1])
        for frame in tokens:
            normed = F.layer_norm(frame, final.normalized_shape, final.weight, final.bias, final.eps)
            frame.copy_(F.layer_norm(normed, out.norm.normalized_shape, weight, bias, out.norm.eps))
        return tokens

    def _run_block(
        self,
        block: Any,
        constant: _BlockConstants,
        tokens: torch.Tensor,
        out: torch.Tensor,
        frequencies: torch.Tensor,
    ) -> None:
        pattern = block.attn1.processor.pattern
        windows: WindowPattern = _inside_units(pattern)
        num_frames, height, width, _ = tokens.shape
        if isinstance(pattern, UnitPattern):
            units = pattern.units(num_frames)
        else:
            units = axis_windows(num_frames, num_frames, shifted=False)
        rows = axis_windows(height, windows.window[0], shifted=windows.shifted)
        cols = axis_windows(width, windows.window[1], shifted=windows.shifted)
        for (time, owned_time), (row, owned_row) in product(_places(units), _places(rows)):
            seen = tokens[time, row]
            attended = self._attend(
                block, constant, seen, frequencies[time, row], cols, owned=(owned_time, owned_row)
            )
            hidden = torch.addcmul(seen[owned_time, owned_row], attended, constant.gate1)
            hidden.addcmul_(_feed_forward(block, constant, hidden), constant.gate2)
            out[time, row][owned_time, owned_row] = hidden

    def _attend(
        self,
        block: Any,
        constant: _BlockConstants,
        row: torch.Tensor,
        frequencies: torch.Tensor,
        cols: AxisWindows,
        *,
        owned: tuple[slice, slice],
    ) -> torch.Tensor:
        """One row of windows (T, h, W, D) to the attention's output for what it owns, (T', h', W, D)."""
        attn, norm = block.attn1, block.norm1.norm
        normed = F.layer_norm(row, norm.normalized_shape, *constant.norm1, norm.eps)
        query, key, value = attn.to_qkv(normed).chunk(3, dim=-1)
        query, key, value = (x.unflatten(-1, (attn.heads, -1)) for x in (query[owned], key, value))
        query = _rotate(attn.norm_q(query), frequencies[owned])
        key = _rotate(attn.norm_k(key), frequencies)
        text_key, text_value = constant.text
        attended = attn.processor.kernel(
            _windows(query, cols), _windows(key, cols, text_key), _windows(value, cols, text_value)
        )
        merged = _merged(attended, query.shape, cols)
        projected: torch.Tensor = attn.to_out[0](merged.flatten(3))
        return projected

    def _block_constants(self, device: torch.device) -> list[_BlockConstants]:
        if self._constants is None or self._constants[0] != device:
            self._constants = device, self._make_constants(device)
        return self._constants[1]

    def _make_constants(self, device: torch.device) -> list[_BlockConstants]:
        dtype = self.transformer.dtype
        text = self.transformer.patch_embed.text_proj(self.prompt_embeds.to(device=device, dtype=dtype))
        constants = []
        for block in self.transformer.transformer_blocks:
            _, normed, _, gate = block.norm1(text, text, None)
            query, key, value = project_qkv(block.attn1, normed)
            attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            text = text + gate * block.attn1.to_out[0](attended)
            _, normed, _, gate = block.norm2(text, text, None)
            text = text + gate * block.ff(normed)
            constants.append(
                _BlockConstants(
                    text=(key, value),
                    norm1=_modulated(block.norm1.norm, block.norm1.video[0], block.norm1.video[1]),
                    norm2=_modulated(block.norm2.norm, block.norm2.video[0], block.norm2.video[1]),
                    gate1=block.norm1.video[2].flatten(),
                    gate2=block.norm2.video[2].flatten(),
                )
            )
        return constants


def _inside_units(pattern: Any) -> Any:
    """The pattern that units of frames have inside, or the pattern itself."""
    return pattern.inside if isinstance(pattern, UnitPattern) else pattern


def _places(axis: AxisWindows) -> Iterator[tuple[slice, slice]]:
    """For each window that owns tokens its place on the axis, and what it owns relative to that."""
    for start, (low, high) in zip(axis.starts, axis.owned, strict=True):
        if high > low:
            yield slice(start, start + axis.size), slice(low, high)


def _modulated(norm: Any, shift: torch.Tensor, scale: torch.Tensor) -> Pair:
    """Weight and bias of a layer norm that is followed by x * (1 + scale) + shift."""
    gain = 1 + scale.flatten()
    if norm.weight is None:
        return gain, shift.flatten()
    return norm.weight * gain, norm.bias * gain + shift.flatten()


def _feed_forward(block: Any, constant: _BlockConstants, hidden: torch.Tensor) -> torch.Tensor:
    norm = block.norm2.norm
    normed = F.layer_norm(hidden, norm.normalized_shape, *constant.norm2, norm.eps)
    fed: torch.Tensor = block.ff(normed)
    return fed


def _complex_frequencies(rotary: RotaryEmbedding, grid: TokenGrid) -> torch.Tensor:
    """(T, H, W, 1, head_dim / 2), complex: the tables hold each angle twice, for a pair of channels."""
    cos, sin = (table[:, ::2].reshape(*grid, -1) for table in rotary)
    return torch.complex(cos, sin).unsqueeze(3)


def _rotate(heads: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Rotates pairs of channels of (T, h, W, heads, d), in float32 and there in place."""
    pairs = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs.mul_(frequencies)).flatten(-2).to(heads.dtype)


def _windows(heads: torch.Tensor, cols: AxisWindows, text: torch.Tensor | None = None) -> torch.Tensor:
    """(T, h, W, heads, d) -> (windows, heads, text tokens + T*h*w, d)."""
    num_frames, height, _, num_heads, dim = heads.shape
    num_text = 0 if text is None else text.shape[2]
    num_video = num_frames * height * cols.size
    windows = heads.new_empty(len(cols.starts), num_heads, num_text + num_video, dim)
    if text is not None:
        windows[:, :, :num_text] = text
    # torch leaves Tensor.unflatten untyped, here and below.
    video = windows[:, :, num_text:].unflatten(2, (num_frames, height, cols.size))  # type: ignore[no-untyped-call]
    for run, step in cols.runs():
        first, last = cols.starts[run.start], cols.starts[run.stop - 1] + cols.size
        # (T, h, windows, heads, d, w)
        video[run] = heads[:, :, first:last].unfold(2, cols.size, step).permute(2, 3, 0, 1, 5, 4)
    return windows


def _merged(windows: torch.Tensor, shape: torch.Size, cols: AxisWindows) -> torch.Tensor:
    """(windows, heads, T*h*w, d) back to `shape` (T, h, W, heads, d)."""
    num_frames, height = shape[:2]
    windows = windows.unflatten(2, (num_frames, height, cols.size))  # type: ignore[no-untyped-call]
    merged = windows.new_empty(shape)
    for run, _ in cols.runs():
        low, high = cols.owned[run.start]
        if high > low:
            first, count = cols.starts[run.start] + low, run.stop - run.start
            owned = merged[:, :, first : first + count * (high - low)]
            owned = owned.reshape(num_frames, height, count, high - low, *shape[3:])
            owned.copy_(windows[run, :, :, :, low:high].permute(2, 3, 0, 4, 1, 5))
    return merged
