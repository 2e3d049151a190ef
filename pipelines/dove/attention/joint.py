"""CogVideoX's joint text-video attention as one diffusers processor for every pattern and kernel."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from pipelines.dove.attention.tokens import AttentionPattern, JointTokens, RotaryEmbedding
from pipelines.dove.attention.view import ViewTokens
from pipelines.dove.kernels import AttentionKernel
from pipelines.planning.patterns import TokenGrid


class JointAttention:
    """Projects, normalises, lets a pattern attend, and projects back.

    Args:
        pattern: Which keys a query attends to.
        kernel: Dense attention that the pattern is given.
    """

    uses_token_grid = True

    def __init__(
        self, pattern: AttentionPattern, kernel: AttentionKernel = F.scaled_dot_product_attention
    ) -> None:
        self.pattern = pattern
        self.kernel = kernel

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: RotaryEmbedding | None = None,
        token_grid: TokenGrid | None = None,
        view: ViewTokens | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends.

        Args:
            attn: diffusers' `Attention` module.
            hidden_states: (B, T*H*W, D) video tokens.
            encoder_hidden_states: (B, L, D) text tokens.
            attention_mask: Must be None: patterns need no mask.
            image_rotary_emb: cos and sin, (T*H*W, D / heads) each.
            token_grid: T, H, W; full attention does without.
            view: The whole frame, where the video is a tile of it and the layer has a branch for it.

        Returns:
            Video tokens (B, T*H*W, D) and text tokens (B, L, D).

        Raises:
            ValueError: If there is a mask, or the layer needs the grid and there is none.
        """
        if attention_mask is not None:
            raise ValueError("joint attention takes no attention mask")
        enhancement = getattr(attn, "local_enhancement", None)
        if enhancement is not None:
            if token_grid is None:
                raise ValueError("local enhancement needs the token grid")
            hidden_states = enhancement(hidden_states, token_grid)
        states = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = project_qkv(attn, states)
        tokens = JointTokens(
            query,
            key,
            value,
            states,
            num_text=encoder_hidden_states.shape[1],
            grid=token_grid,
            rotary=image_rotary_emb,
        )
        trains_on_cpu = states.device.type == "cpu" and torch.is_grad_enabled()
        kernel = _float32_attention if trains_on_cpu else self.kernel
        attended = self.pattern(tokens, kernel)
        if view is not None:
            seen = attn.view(tokens, view, attn.norm_k, kernel)
            attended = attended + F.pad(seen, (0, 0, tokens.num_text, 0))
        joint = attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))
        text, video = joint.split([tokens.num_text, hidden_states.shape[1]], dim=1)
        return video, text


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


def _float32_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The CPU flash kernel's backward takes 3-4 times as long in bfloat16 as in float32."""
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    return out.to(query.dtype)
