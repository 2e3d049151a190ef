"""Attention patterns for CogVideoX's joint text-video attention, as diffusers attention processors.

`full` is the checkpoint's own attention. `window` restricts each video token to a spatial window that spans
all frames of the chunk, odd layers shifted by half a window (SwiftVR, arXiv 2606.09516): windows are clamped
to the grid, so all of them have the same size and need neither mask nor padding; a token covered by two
windows is read from the one in which it lies more centrally. Text tokens are visible to every window and
attend only to each other, which makes them constants of the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb

from pipelines.dove.kernels import AttentionBackend, AttentionKernel, make_attention_kernel

AttentionPattern = Literal["full", "window"]


@dataclass(frozen=True)
class AxisWindows:
    """Equal windows along one axis of n tokens.

    Attributes:
        starts: First token of each window, ascending.
        owned: For each window the tokens that are read back from it, as a half-open range relative to its
            start; together they cover the axis once, in order.
        size: Tokens in a window, min(window, n).
    """

    starts: tuple[int, ...]
    owned: tuple[tuple[int, int], ...]
    size: int

    def runs(self) -> list[tuple[slice, int]]:
        """Windows in a row with one distance and one owned range, as slices of them, with that distance."""
        steps = [right - left for left, right in pairwise(self.starts)]
        runs: list[tuple[slice, int]] = []
        for index in range(len(self.starts)):
            if runs:
                window, step = runs[-1]
                alone = window.stop - window.start == 1
                if self.owned[index] == self.owned[index - 1] and (alone or steps[index - 1] == step):
                    runs[-1] = slice(window.start, index + 1), steps[index - 1]
                    continue
            runs.append((slice(index, index + 1), self.size))
        return runs

    def gather(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Splits the axis `dim` of n tokens into two: (num_windows, size)."""
        # Slices, not index_select: that took a fifth of the whole upscaling time on a CPU.
        return torch.stack([x.narrow(dim, start, self.size) for start in self.starts], dim=dim)

    def scatter(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Joins the axes `dim` (windows) and `dim` + 1 (tokens of a window) into the n tokens again."""
        parts = [
            x.select(dim, index).narrow(dim, low, high - low)
            for index, (low, high) in enumerate(self.owned)
            if high > low
        ]
        return torch.cat(parts, dim=dim)


def axis_windows(num_tokens: int, window: int, *, shifted: bool) -> AxisWindows:
    """Places windows along an axis: starts at multiples of the window (minus half of it when shifted),
    clamped to the axis so that every window is whole. Neighbours that overlap share the overlap in halves.

    Raises:
        ValueError: If the axis or the window is empty.
    """
    if num_tokens < 1 or window < 1:
        raise ValueError(f"need at least one token and a window of at least 1, got {num_tokens} and {window}")
    size = min(window, num_tokens)
    offset = size // 2 if shifted and num_tokens > size else 0
    last = num_tokens - size
    starts = sorted({min(max(start, 0), last) for start in range(-offset, num_tokens, size)})
    # A token goes to the nearer centre; the left window keeps a token in the middle.
    borders = [0, *((left + right + size - 1) // 2 + 1 for left, right in pairwise(starts)), num_tokens]
    owned = tuple(
        (low - start, high - start) for start, (low, high) in zip(starts, pairwise(borders), strict=True)
    )
    return AxisWindows(tuple(starts), owned, size)


class FullAttnProcessor:
    """CogVideoX's joint full attention through a kernel of choice; with torch's own, diffusers' bits.

    Args:
        kernel: Attention kernel.
    """

    def __init__(self, kernel: AttentionKernel) -> None:
        self.kernel = kernel

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends; video tokens (B, N, D) and text tokens (B, L, D) in and out. The mask must be None."""
        if attention_mask is not None:
            raise ValueError("full attention takes no attention mask")
        num_text = encoder_hidden_states.shape[1]
        query, key, value = project_qkv(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        if image_rotary_emb is not None:
            query, key = (
                torch.cat([x[:, :, :num_text], apply_rotary_emb(x[:, :, num_text:], image_rotary_emb)], dim=2)
                for x in (query, key)
            )
        joint = self.kernel(query, key, value).transpose(1, 2).flatten(2)
        joint = attn.to_out[1](attn.to_out[0](joint))
        text, video = joint.split([num_text, joint.shape[1] - num_text], dim=1)
        return video, text


class WindowAttnProcessor:
    """Joint attention inside spatial windows that span all frames.

    Args:
        window: Window height and width in tokens.
        shifted: Whether windows start half a window earlier (for odd layers).
        kernel: Attention kernel; the text, which has a few tokens, always takes torch's own.
    """

    uses_token_grid = True

    def __init__(
        self,
        window: tuple[int, int],
        *,
        shifted: bool,
        kernel: AttentionKernel = F.scaled_dot_product_attention,
    ) -> None:
        self.window = window
        self.shifted = shifted
        self.kernel = kernel

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        token_grid: tuple[int, int, int] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends.

        Args:
            attn: diffusers' `Attention` module.
            hidden_states: (B, T*H*W, D) video tokens.
            encoder_hidden_states: (B, L, D) text tokens.
            attention_mask: Must be None: windows need no mask.
            image_rotary_emb: cos and sin, (T*H*W, D / heads) each.
            token_grid: T, H, W.

        Returns:
            Video tokens (B, T*H*W, D) and text tokens (B, L, D).
        """
        if token_grid is None or attention_mask is not None:
            raise ValueError("window attention needs the token grid and takes no attention mask")
        batch_size, num_video, dim = hidden_states.shape
        num_text = encoder_hidden_states.shape[1]
        rows = axis_windows(token_grid[1], self.window[0], shifted=self.shifted)
        cols = axis_windows(token_grid[2], self.window[1], shifted=self.shifted)

        query, key, value = project_qkv(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        text = [x[:, :, :num_text] for x in (query, key, value)]
        video = [x[:, :, num_text:] for x in (query, key, value)]
        if image_rotary_emb is not None:
            video[0] = apply_rotary_emb(video[0], image_rotary_emb)
            video[1] = apply_rotary_emb(video[1], image_rotary_emb)

        num_windows = len(rows.starts) * len(cols.starts)
        query, key, value = (_partition(x, token_grid, rows, cols) for x in video)
        key, value = (
            torch.cat([x[:, None].expand(-1, num_windows, -1, -1, -1).flatten(0, 1), windows], dim=2)
            for x, windows in ((text[1], key), (text[2], value))
        )
        windows = _attend(self.kernel, query, key, value)
        video_out = _merge(windows, token_grid, rows, cols, batch_size)
        text_out = F.scaled_dot_product_attention(text[0], text[1], text[2])
        text_out = text_out.transpose(1, 2).reshape(batch_size, num_text, dim)

        joint = attn.to_out[1](attn.to_out[0](torch.cat([text_out, video_out], dim=1)))
        text_states, video_states = joint.split([num_text, num_video], dim=1)
        return video_states, text_states


def project_qkv(attn: Any, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value heads of the joint sequence, (B, heads, L, head_dim) each, normalised."""
    if getattr(attn, "fused_projections", False):
        query, key, value = attn.to_qkv(states).chunk(3, dim=-1)
    else:
        query, key, value = attn.to_q(states), attn.to_k(states), attn.to_v(states)
    query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    return query.to(value.dtype), key.to(value.dtype), value


def _attend(
    kernel: AttentionKernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # The CPU flash kernel's backward takes 3-4 times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            out = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        return out.to(query.dtype)
    return kernel(query, key, value)


def _partition(
    heads: torch.Tensor, grid: tuple[int, int, int], rows: AxisWindows, cols: AxisWindows
) -> torch.Tensor:
    """(B, heads, T*H*W, d) -> (B * windows, heads, T * window tokens, d)."""
    # torch leaves Tensor.unflatten untyped, here and below.
    x = cols.gather(rows.gather(heads.unflatten(2, grid), 3), 5)  # type: ignore[no-untyped-call]
    # (B, heads, T, rows, row_size, cols, col_size, d) -> windows first
    return x.permute(0, 3, 5, 1, 2, 4, 6, 7).flatten(4, 6).flatten(0, 2)


def _merge(
    windows: torch.Tensor, grid: tuple[int, int, int], rows: AxisWindows, cols: AxisWindows, batch_size: int
) -> torch.Tensor:
    """(B * windows, heads, T * window tokens, d) -> (B, T*H*W, heads * d): inverse of `_partition`."""
    x = windows.unflatten(0, (batch_size, len(rows.starts), len(cols.starts)))  # type: ignore[no-untyped-call]
    x = x.unflatten(4, (grid[0], rows.size, cols.size))
    # (B, rows, cols, heads, T, row_size, col_size, d) -> (B, T, rows, row_size, cols, col_size, heads, d)
    x = rows.scatter(cols.scatter(x.permute(0, 4, 1, 5, 2, 6, 3, 7), 4), 2)
    return x.flatten(4, 5).flatten(1, 3)


def set_attention_pattern(
    transformer: Any, pattern: AttentionPattern, *, window: tuple[int, int] = (8, 8)
) -> None:
    """Gives every block of a CogVideoX transformer the processor of an attention pattern.

    Args:
        transformer: A `CogVideoXTransformer3DModel`; changed in place. `full` leaves it as it is.
        pattern: `full` or `window`.
        window: Window height and width in tokens; used by `window` only.
    """
    if pattern == "full":
        return
    for index, block in enumerate(transformer.transformer_blocks):
        block.attn1.set_processor(WindowAttnProcessor(window, shifted=index % 2 == 1))


def set_attention_kernel(transformer: Any, backend: AttentionBackend) -> None:
    """Gives every block of a CogVideoX transformer the kernel of a backend, whatever its pattern.

    Args:
        transformer: A `CogVideoXTransformer3DModel`; changed in place.
        backend: Passed `check_attention_backend`.
    """
    kernel = make_attention_kernel(backend)
    for block in transformer.transformer_blocks:
        processor = block.attn1.processor
        if isinstance(processor, (FullAttnProcessor, WindowAttnProcessor)):
            processor.kernel = kernel
        elif backend != "auto":  # otherwise diffusers' own processor does
            block.attn1.set_processor(FullAttnProcessor(kernel))
