"""Savings on the transformer that do not change a bit: constants folded, projections fused.

DOVE calls its transformer at one timestep for ever, so what depends on the timestep alone is a constant of
the checkpoint. In CogVideoX1.5-5B that is 794 M of 5571 M parameters.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0, FusedCogVideoXAttnProcessor2_0
from diffusers.models.normalization import CogVideoXLayerNormZero
from torch import nn


class ConstantLayerNormZero(nn.Module):
    """CogVideoX's adaptive layer norm with its modulation as stored constants.

    Args:
        norm: The layer norm.
        modulation: shift, scale, gate and the same three for the text, each (1, D).
    """

    def __init__(self, norm: nn.LayerNorm, modulation: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.norm = norm
        # (3, 1, 1, D) for video and for text, so that `.to(device)` and offloading move them along.
        self.register_buffer("video", torch.stack(modulation[:3])[:, :, None].clone(), persistent=False)
        self.register_buffer("text", torch.stack(modulation[3:])[:, :, None].clone(), persistent=False)

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, temb: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns modulated video and text states (B, L, D) and their gates (1, 1, D); ignores `temb`."""
        shift, scale, gate = cast(torch.Tensor, self.video)
        text_shift, text_scale, text_gate = cast(torch.Tensor, self.text)
        hidden_states = self.norm(hidden_states) * (1 + scale) + shift
        encoder_hidden_states = self.norm(encoder_hidden_states) * (1 + text_scale) + text_shift
        return hidden_states, encoder_hidden_states, gate, text_gate


class ConstantAdaLayerNorm(nn.Module):
    """The transformer's last adaptive layer norm with its modulation as stored constants.

    Args:
        norm: The layer norm.
        shift: (1, D).
        scale: (1, D).
    """

    def __init__(self, norm: nn.LayerNorm, shift: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("modulation", torch.stack([shift, scale])[:, :, None].clone(), persistent=False)

    def forward(
        self, x: torch.Tensor, timestep: torch.Tensor | None = None, temb: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Modulates (B, L, D); ignores the timestep."""
        shift, scale = cast(torch.Tensor, self.modulation)
        return cast(torch.Tensor, self.norm(x) * (1 + scale) + shift)


@torch.no_grad()
def freeze_timestep(transformer: Any, timestep: int) -> int:
    """Replaces every adaptive norm by one whose modulation is that of `timestep`, and drops the linears.

    The transformer then gives this timestep's output whatever timestep it is called with.

    Args:
        transformer: A `CogVideoXTransformer3DModel`, changed in place.
        timestep: The checkpoint's timestep.

    Returns:
        Number of parameters dropped.
    """
    before = _num_parameters(transformer)
    weight = transformer.time_embedding.linear_1.weight
    sinusoid = transformer.time_proj(torch.tensor([timestep], device=weight.device))
    embedding = transformer.time_embedding(sinusoid.to(weight.dtype), None)
    for block in transformer.transformer_blocks:
        for name in ("norm1", "norm2"):
            norm: CogVideoXLayerNormZero = getattr(block, name)
            modulation = norm.linear(norm.silu(embedding)).chunk(6, dim=1)
            setattr(block, name, ConstantLayerNormZero(norm.norm, modulation))
    norm_out = transformer.norm_out
    shift, scale = norm_out.linear(norm_out.silu(embedding)).chunk(2, dim=1)
    transformer.norm_out = ConstantAdaLayerNorm(norm_out.norm, shift, scale)
    return before - _num_parameters(transformer)


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def fuse_qkv(transformer: Any) -> None:
    """Makes one projection of each layer's query, key and value projections; changed in place.

    Unlike diffusers' `fuse_qkv_projections` it drops the three separate weights and leaves `JointAttention`
    in place, which reads the fused projection itself.
    """
    for block in transformer.transformer_blocks:
        attention = block.attn1
        attention.fuse_projections()
        del attention.to_q, attention.to_k, attention.to_v
        if isinstance(attention.processor, CogVideoXAttnProcessor2_0):
            attention.set_processor(FusedCogVideoXAttnProcessor2_0())
