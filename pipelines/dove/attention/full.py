"""Full joint attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipelines.dove.attention.tokens import JointTokens
from pipelines.dove.kernels import AttentionKernel


@dataclass(frozen=True)
class FullPattern:
    """Every token attends to every token: CogVideoX's own attention; with torch's kernel, diffusers' bits."""

    def __call__(self, tokens: JointTokens, kernel: AttentionKernel) -> torch.Tensor:
        """See `AttentionPattern`."""
        if tokens.rotary is None:
            query, key = tokens.query, tokens.key
        else:
            video_query, video_key, _ = tokens.video
            query = torch.cat([tokens.text[0], video_query], dim=2)
            key = torch.cat([tokens.text[1], video_key], dim=2)
        return kernel(query, key, tokens.value)
