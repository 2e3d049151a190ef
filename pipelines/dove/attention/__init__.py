"""Attention patterns for CogVideoX's joint text-video attention.

`JointAttention` is the one processor; what a query attends to is an `AttentionPattern`, who computes it an
`AttentionKernel` (`pipelines.dove.kernels`). `pipelines.planning.attention` has their settings.
"""

from pipelines.dove.attention.assembly import (
    ADDED_MODULES,
    set_attention,
    set_attention_kernel,
    transformer_class,
)
from pipelines.dove.attention.full import FullPattern
from pipelines.dove.attention.joint import JointAttention, project_qkv
from pipelines.dove.attention.tokens import AttentionPattern, JointTokens, RotaryEmbedding
from pipelines.dove.attention.units import UnitPattern
from pipelines.dove.attention.view import ViewTokens
from pipelines.dove.attention.windows import AxisWindows, WindowPattern, axis_windows

__all__ = [
    "ADDED_MODULES",
    "AttentionPattern",
    "AxisWindows",
    "FullPattern",
    "JointAttention",
    "JointTokens",
    "RotaryEmbedding",
    "UnitPattern",
    "ViewTokens",
    "WindowPattern",
    "axis_windows",
    "project_qkv",
    "set_attention",
    "set_attention_kernel",
    "transformer_class",
]
