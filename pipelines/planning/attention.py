"""Attention as a checkpoint's description has it, and what it costs; without torch, for the planner.

`dovetail.json` names one pattern for all layers, or a list of patterns that layers take in turn:

    "attention": "full"
    "attention": {"pattern": "window", "window": [8, 8]}
    "attention": [{"pattern": "full"}, {"pattern": "window", "window": [8, 8]}]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipelines.planning.patterns import (
    FullAttention,
    GlobalWindowAttention,
    LinearAttention,
    RoutedAttention,
    SparseAttention,
    TokenGrid,
    UnitAttention,
    WindowAttention,
    layer_from_name,
)

LayerAttention = Annotated[
    FullAttention
    | WindowAttention
    | GlobalWindowAttention
    | SparseAttention
    | RoutedAttention
    | LinearAttention
    | UnitAttention,
    Field(discriminator="pattern"),
]
"""One layer's pattern."""


class AttentionSettings(RootModel[tuple[LayerAttention, ...]]):
    """The attention of a network: one pattern, or several that its layers take in turn.

    Reads a pattern's name, a pattern, or a list of patterns; writes a pattern or a list.
    """

    model_config = ConfigDict(frozen=True)

    root: tuple[LayerAttention, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _accept_short_forms(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(_layer(item) for item in value)
        return (_layer(value),)

    @model_serializer(mode="wrap")
    def _write_short_form(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        return written[0] if len(written) == 1 else list(written)

    def layers(self, num_layers: int) -> Iterator[LayerAttention]:
        """The pattern of each layer, in order."""
        return (self.root[index % len(self.root)] for index in range(num_layers))

    def live_elements(self, grid: TokenGrid) -> int:
        """Elements alive per hidden channel at the peak of any layer."""
        return max(layer.live_elements(grid) for layer in self.root)

    def frames_at_once(self, num_frames: int) -> int:
        """Token frames of a clip that are compared with each other in any layer."""
        return max(layer.frames_at_once(num_frames) for layer in self.root)

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """Keys a query is compared with, on average over queries and layers.

        Args:
            grid: Video tokens; the few text tokens are left out.
            head_dim: Channels of a head.
        """
        return sum(layer.keys_per_token(grid, head_dim) for layer in self.root) / len(self.root)

    def bound_to(self, digest: str) -> AttentionSettings:
        """The same settings, whose tables belong to the weights with this digest."""
        return AttentionSettings(
            tuple(
                layer.model_copy(update={"weights_sha256": digest})
                if isinstance(layer, RoutedAttention)
                else layer
                for layer in self.root
            )
        )

    def constant_elements(self, hidden_size: int, head_dim: int) -> int:
        """Float32 elements alive at the peak of any layer beside those that grow with the tokens."""
        return max(layer.constant_elements(hidden_size, head_dim) for layer in self.root)


def _layer(value: Any) -> Any:
    """One layer's pattern from its name or from older descriptions, where `full` had a window as well."""
    value = layer_from_name(value)
    if isinstance(value, dict):
        value = {"pattern": "full"} | value
        if value["pattern"] == "full" and "window" in value:
            WindowAttention(window=value["window"])
            value = {name: item for name, item in value.items() if name != "window"}
    return value


FULL_ATTENTION = AttentionSettings((FullAttention(),))
