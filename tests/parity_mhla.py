"""`LinearPattern` behind the call of the MHLA set's checker (`check.py` beside that set has the call).

`run` builds a layer of joint attention without text, gives it the case's weights and lets it attend; it holds
no arithmetic of its own but what surrounds the layer in the authors' model: the norm over all channels of
query and key, and zero padding or cropping of the grid.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import nn

from pipelines.dove.attention import JointAttention
from pipelines.dove.attention.linear import LinearPattern, initial_mixing


class FullWidthNorm(nn.Module):
    """RMSNorm over all channels of (B, heads, L, d)."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, heads: torch.Tensor) -> torch.Tensor:
        flat = heads.transpose(1, 2).flatten(2)
        normed = F.rms_norm(flat, flat.shape[-1:], self.weight, self.eps)
        return normed.unflatten(-1, (heads.shape[1], -1)).transpose(1, 2)


def run(case: dict[str, torch.Tensor], options: dict[str, Any]) -> torch.Tensor:
    """The output for a case of the set, (B, N, C), or an initial matrix.

    Raises:
        ValueError: The case is of the image or language classes, which the product has no use for.
    """
    if options["kind"] == "mixing_init":
        return initial_mixing(
            options["block_layout"],
            options["transform"],
            exp_sigma=options["exp_sigma"],
            local_distance=options["local_thres"],
        )
    if options["kind"] != "video":
        raise ValueError(f"only video layers are here, got a case of kind {options['kind']!r}")
    attn, states = make_layer(case, options), case["input.x"]
    grid = options["grid_adjusted"] if options["grid_adjust"] in ("pad", "crop") else options["grid"]
    missing = [wanted - axis for wanted, axis in zip(grid, options["grid"], strict=True)]
    video = states.unflatten(1, options["grid"])
    video = F.pad(video, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0])).flatten(1, 3)
    cos, sin = (case[f"input.rope_{name}"].repeat_interleave(2, dim=-1) for name in ("cos", "sin"))
    output, _ = attn.processor(
        attn, video, states[:, :0], image_rotary_emb=(cos, sin), token_grid=tuple(grid)
    )
    return output


def make_layer(case: dict[str, torch.Tensor], options: dict[str, Any]) -> Any:
    """diffusers' attention module with the case's weights and MHLA as its pattern."""
    heads, head_dim, eps = options["num_heads"], options["head_dim"], options["eps"]
    attn: Any = Attention(heads * head_dim, heads=heads, dim_head=head_dim, bias=True, out_bias=True)
    pattern = LinearPattern(
        heads,
        head_dim,
        blocks=tuple(options["block_layout"]),
        normalizer=options["normalizer"] or "none",
        use_gate=options["is_gated"],
        use_lepe=options["is_lepe"],
        eps=eps,
    )
    for linear, name in ((attn.to_q, "q"), (attn.to_k, "k"), (attn.to_v, "v"), (attn.to_out[0], "o")):
        load(linear, case, f"param.{name}")
    pattern.mixing.data = case["param.block_attn.conv.weight"].flatten(1)
    pattern.norm.data = case["param.g_norm.weight"]
    if pattern.gate is not None:
        load(pattern.gate, case, "param.g")
    if pattern.lepe is not None:
        load(pattern.lepe, case, "param.lepe")
    if options["qk_norm"]:
        attn.norm_q = FullWidthNorm(case["param.norm_q.weight"], eps)
        attn.norm_k = FullWidthNorm(case["param.norm_k.weight"], eps)
    attn.pattern = pattern
    attn.set_processor(JointAttention(pattern))
    return attn


def load(module: Any, case: dict[str, torch.Tensor], name: str) -> None:
    module.weight.data, module.bias.data = case[f"{name}.weight"], case[f"{name}.bias"]
