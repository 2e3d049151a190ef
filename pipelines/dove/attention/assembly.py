"""Gives a transformer its attention: patterns from settings, kernels from a backend."""

from __future__ import annotations

from collections import Counter
from typing import Any

import diffusers
from torch import nn

from pipelines.dove.attention.full import FullPattern
from pipelines.dove.attention.joint import JointAttention
from pipelines.dove.attention.linear import LinearPattern
from pipelines.dove.attention.tokens import AttentionPattern
from pipelines.dove.attention.windows import WindowPattern
from pipelines.dove.kernels import AttentionBackend, make_attention_kernel
from pipelines.planning.attention import AttentionSettings, FullAttention, LayerAttention, LinearAttention


def set_attention(transformer: Any, settings: AttentionSettings) -> None:
    """Gives every block of a CogVideoX transformer its pattern, with torch's kernel.

    A pattern with weights becomes the module `pattern` of its layer's attention.

    Args:
        transformer: A `CogVideoXTransformer3DModel`; changed in place.
        settings: Attention of its layers.
    """
    blocks, config = transformer.transformer_blocks, transformer.config
    heads = config.num_attention_heads, config.attention_head_dim
    seen = Counter[str]()
    for block, layer in zip(blocks, settings.layers(len(blocks)), strict=True):
        # Every other layer of a pattern is shifted, also where others lie between.
        pattern = _make_pattern(layer, heads, is_shifted=seen[layer.pattern] % 2 == 1)
        seen[layer.pattern] += 1
        if isinstance(pattern, nn.Module):
            weight = block.attn1.to_out[0].weight
            block.attn1.pattern = pattern.to(device=weight.device, dtype=weight.dtype)
        block.attn1.set_processor(JointAttention(pattern))


def _make_pattern(layer: LayerAttention, heads: tuple[int, int], *, is_shifted: bool) -> AttentionPattern:
    if isinstance(layer, FullAttention):
        return FullPattern()
    if isinstance(layer, LinearAttention):
        return LinearPattern(
            *heads,
            blocks=layer.blocks,
            start=layer.start,
            normalizer=layer.normalizer,
            use_gate=layer.use_gate,
            use_lepe=layer.use_lepe,
            eps=layer.eps,
        )
    return WindowPattern(layer.window, shifted=is_shifted)


def set_attention_kernel(transformer: Any, backend: AttentionBackend) -> None:
    """Gives every block of a CogVideoX transformer the kernel of a backend, whatever its pattern.

    Args:
        transformer: A `CogVideoXTransformer3DModel`; changed in place.
        backend: Passed `check_attention_backend`.
    """
    kernel = make_attention_kernel(backend)
    for block in transformer.transformer_blocks:
        processor = block.attn1.processor
        if isinstance(processor, JointAttention):
            processor.kernel = kernel
        elif backend != "auto":  # otherwise diffusers' own processor does
            block.attn1.set_processor(JointAttention(FullPattern(), kernel))


def transformer_class(settings: AttentionSettings) -> Any:
    """CogVideoX's transformer, which has its patterns, weights included, before a state dict is loaded."""

    # The name is written into the configuration of what it saves. diffusers has no type hints.
    class CogVideoXTransformer3DModel(diffusers.CogVideoXTransformer3DModel):  # type: ignore[misc]
        @classmethod
        def from_config(cls, *args: Any, **kwargs: Any) -> Any:
            made = super().from_config(*args, **kwargs)
            set_attention(made[0] if isinstance(made, tuple) else made, settings)
            return made

    return CogVideoXTransformer3DModel
