"""Gives a transformer its attention: patterns from settings, kernels from a backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import diffusers
from torch import nn

from pipelines.dove.attention.enhancement import LocalEnhancement
from pipelines.dove.attention.full import FullPattern
from pipelines.dove.attention.global_windows import GlobalWindowPattern
from pipelines.dove.attention.joint import JointAttention
from pipelines.dove.attention.linear import LinearPattern
from pipelines.dove.attention.routed import RoutedPattern
from pipelines.dove.attention.sparse import SparsePattern
from pipelines.dove.attention.tokens import AttentionPattern
from pipelines.dove.attention.units import UnitPattern
from pipelines.dove.attention.view import ViewBranch
from pipelines.dove.attention.windows import WindowPattern
from pipelines.dove.kernels import AttentionBackend, make_attention_kernel
from pipelines.planning.attention import AttentionSettings, LayerAttention
from pipelines.planning.patterns import (
    FullAttention,
    GlobalWindowAttention,
    LinearAttention,
    RoutedAttention,
    SparseAttention,
    UnitAttention,
)

ADDED_MODULES = frozenset({"pattern", "local_enhancement", "view"})
"""Modules that a layer's attention may have beside those of diffusers."""


def set_attention(
    transformer: Any,
    settings: AttentionSettings,
    *,
    use_local_enhancement: bool = False,
    use_view: bool = False,
) -> None:
    """Gives every block of a CogVideoX transformer its pattern, with torch's kernel.

    A pattern with weights becomes the module `pattern` of its layer's attention, a gate before it
    `local_enhancement`, a branch beside it `view`.

    Args:
        transformer: A `CogVideoXTransformer3DModel`; changed in place.
        settings: Attention of its layers.
        use_local_enhancement: Put `LocalEnhancement` before each layer's attention.
        use_view: Put `ViewBranch` beside it.

    Raises:
        ValueError: If a table of routes does not have the transformer's layers and heads, or there is to be a
            view without rotary positions.
    """
    blocks, config = transformer.transformer_blocks, transformer.config
    if use_view and not config.use_rotary_positional_embeddings:
        raise ValueError(
            "a view of the whole frame needs rotary positions, the transformer has additive ones"
        )
    heads = config.num_attention_heads, config.attention_head_dim
    layers = list(settings.layers(len(blocks)))
    _check_routes(layers, config.num_attention_heads)
    seen = Counter[str]()
    for block, layer in zip(blocks, layers, strict=True):
        pattern = _make_pattern(layer, heads, seen[layer.pattern])
        seen[layer.pattern] += 1
        if isinstance(pattern, nn.Module):
            weight = block.attn1.to_out[0].weight
            block.attn1.pattern = pattern.to(device=weight.device, dtype=weight.dtype)
        if use_local_enhancement:
            weight = block.attn1.to_out[0].weight
            block.attn1.local_enhancement = LocalEnhancement().to(device=weight.device, dtype=weight.dtype)
        if use_view:
            block.attn1.view = ViewBranch(block.attn1)
        block.attn1.set_processor(JointAttention(pattern))


def _make_pattern(layer: LayerAttention, heads: tuple[int, int], number: int) -> AttentionPattern:
    """The pattern of a layer that so many layers with the same pattern precede."""
    # Every other layer of a pattern is shifted, also where others lie between.
    is_shifted = number % 2 == 1
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
    if isinstance(layer, GlobalWindowAttention):
        return GlobalWindowPattern(*heads, window=layer.window, shifted=is_shifted, pool=layer.pool)
    if isinstance(layer, SparseAttention):
        return SparsePattern(layer.window, layer.num_similar)
    if isinstance(layer, RoutedAttention):
        return RoutedPattern(layer.heads[number], layer.window, layer.tile)
    if isinstance(layer, UnitAttention):
        return UnitPattern(layer.unit, is_shifted, _make_pattern(layer.inside, heads, number))
    return WindowPattern(layer.window, shifted=is_shifted)


def _check_routes(layers: Sequence[LayerAttention], num_heads: int) -> None:
    routed = [layer for layer in layers if isinstance(layer, RoutedAttention)]
    for layer in routed:
        if len(layer.heads) != len(routed) or any(len(row) != num_heads for row in layer.heads):
            raise ValueError(
                f"the table of routed heads has {len(layer.heads)} layers of "
                f"{', '.join(map(str, sorted({len(row) for row in layer.heads})))} heads, the transformer "
                f"{len(routed)} routed layers of {num_heads}"
            )


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


def transformer_class(
    settings: AttentionSettings, *, use_local_enhancement: bool = False, use_view: bool = False
) -> Any:
    """CogVideoX's transformer, which has its patterns, weights included, before a state dict is loaded."""

    # The name is written into the configuration of what it saves. diffusers has no type hints.
    class CogVideoXTransformer3DModel(diffusers.CogVideoXTransformer3DModel):  # type: ignore[misc]
        @classmethod
        def from_config(cls, *args: Any, **kwargs: Any) -> Any:
            made = super().from_config(*args, **kwargs)
            transformer = made[0] if isinstance(made, tuple) else made
            set_attention(
                transformer, settings, use_local_enhancement=use_local_enhancement, use_view=use_view
            )
            return made

    return CogVideoXTransformer3DModel
