"""Attention patterns of a layer and what each costs; without torch, for the planner."""

from __future__ import annotations

from math import ceil, prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

TokenGrid = tuple[int, int, int]
"""Tokens along time, height and width."""
HeadRoute = Literal["global", "frame", "window"]
"""Keys of a routed head: all, those of the query's frame, or a box around it."""
MixingStart = Literal["linear", "cos", "exp", "local", "gaussian"]
"""Matrices from which MHLA's mixing starts; `pipelines.dove.attention.linear` has their formulas."""
# Of linear attention, which computes in float32: 29 elements of 16 bits counted for the attention alone.
LINEAR_TOKEN_ELEMENTS = 34


class LayerCost(BaseModel):
    """What one layer's attention costs; patterns override what differs from full attention."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def token_elements(self) -> int:
        """Elements alive per token and hidden channel at a layer's peak; 14 counted with a flash kernel."""
        return 14

    def live_elements(self, grid: TokenGrid) -> int:
        """Elements alive per hidden channel at a layer's peak."""
        return prod(grid) * self.token_elements

    def frames_at_once(self, num_frames: int) -> int:
        """Token frames of a clip that are compared with each other."""
        return num_frames

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """Keys a query is compared with, on average; other work is counted in keys of the same time."""
        del head_dim
        return grid[0] * grid[1] * grid[2]

    def constant_elements(self, hidden_size: int, head_dim: int) -> int:
        """Float32 elements alive beside those that grow with the tokens."""
        del hidden_size, head_dim
        return 0


class FullAttention(LayerCost):
    """Every token attends to every token."""

    pattern: Literal["full"] = "full"


class WindowAttention(LayerCost):
    """Spatial windows that span all frames, every other layer's shifted by half a window.

    Attributes:
        window: Height and width in tokens.
    """

    pattern: Literal["window"] = "window"
    window: tuple[PositiveInt, PositiveInt] = (8, 8)

    @property
    def token_elements(self) -> int:
        """Windows gather copies of query, key and value (41 counted with 6 heads of 32 channels)."""
        return 42

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`."""
        del head_dim
        return grid[0] * min(self.window[0], grid[1]) * min(self.window[1], grid[2])


class LinearAttention(LayerCost):
    """MHLA: linear attention whose token blocks are mixed by a learned matrix (arXiv 2601.07832).

    Attributes:
        blocks: Number of blocks along time, height and width; their square should not exceed the tokens.
        start: Matrix from which training starts.
        normalizer: The paper's denominator, or none.
        use_gate: Whether the output is gated by the layer's input.
        use_lepe: Whether values pass a local convolution beside it.
        eps: Added to features and denominators.
    """

    pattern: Literal["linear"] = "linear"
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt]
    start: MixingStart = "linear"
    normalizer: Literal["paper", "none"] = "paper"
    use_gate: bool = True
    use_lepe: bool = False
    eps: PositiveFloat = 1e-6

    @property
    def token_elements(self) -> int:
        """Features, their rotation and blocks, in float32."""
        return LINEAR_TOKEN_ELEMENTS

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`: a token costs d^2 twice, the matrix m^2 d^2; a key costs 2 d."""
        num_tokens = grid[0] * grid[1] * grid[2]
        return head_dim + prod(self.blocks) ** 2 * head_dim / (2 * num_tokens)

    def constant_elements(self, hidden_size: int, head_dim: int) -> int:
        """States of the blocks, mixed, and the text's share."""
        return 3 * prod(self.blocks) * hidden_size * head_dim


class GlobalWindowAttention(LayerCost):
    """Spatial windows, and the whole clip in cells of pooled tokens (UltraGen, arXiv 2510.18775).

    Attributes:
        window: Height and width in tokens.
        pool: Side of a cell in tokens.
    """

    pattern: Literal["window+global"] = "window+global"
    window: tuple[PositiveInt, PositiveInt] = (8, 8)
    pool: PositiveInt = 4

    @property
    def token_elements(self) -> int:
        """Those of windows, and the second branch."""
        return 50

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`."""
        cells = grid[0] * -(-grid[1] // self.pool) * -(-grid[2] // self.pool)
        return WindowAttention(window=self.window).keys_per_token(grid, head_dim) + cells


class SparseAttention(LayerCost):
    """Boxes of tokens attend to themselves and the most similar ones (SimpleGVR, arXiv 2506.19838).

    Attributes:
        window: Frames, rows and columns of a box.
        num_similar: Other boxes that a box sees.
    """

    pattern: Literal["sparse"] = "sparse"
    window: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 8, 8)
    num_similar: NonNegativeInt = 1

    @property
    def token_elements(self) -> int:
        """Boxes and those that were picked are copies, of keys and of values."""
        return 42 + 6 * self.num_similar

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`; the scores of boxes are left out."""
        del head_dim
        box = prod(min(side, length) for side, length in zip(self.window, grid, strict=True))
        return min(box * (1 + self.num_similar), prod(grid))


class RoutedAttention(LayerCost):
    """Each head global, intra-frame or local, by a table (OASIS, arXiv 2509.23980).

    Attributes:
        heads: For each layer with this pattern, in order, the route of each head.
        window: Frames, rows and columns around a query that a local head sees at least; odd.
        tile: Frames, rows and columns of queries that share a box of keys.
        weights_sha256: Digest of the weights that the table belongs to (`transformer_digest`); a checkpoint
            is refused whose weights have another.
    """

    pattern: Literal["routed"] = "routed"
    heads: tuple[Annotated[tuple[HeadRoute, ...], Field(min_length=1)], ...] = Field(min_length=1)
    window: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 5, 5)
    tile: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 8, 8)
    weights_sha256: str = ""

    @property
    def token_elements(self) -> int:
        """Heads that are chosen, split and joined are copies, and so are the keys of boxes, which overlap."""
        share = max(layer.count("window") / len(layer) for layer in self.heads)
        grown = prod(
            (tile + 2 * (wide // 2)) / tile for tile, wide in zip(self.tile, self.window, strict=True)
        )
        return 42 + ceil(6 * share * grown)

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`; on average over heads."""
        del head_dim
        sides = (
            min(tile + 2 * (wide // 2), length)
            for tile, wide, length in zip(self.tile, self.window, grid, strict=True)
        )
        keys = {"global": prod(grid), "frame": grid[1] * grid[2], "window": prod(sides)}
        routes = [route for layer in self.heads for route in layer]
        return sum(keys[route] for route in routes) / len(routes)


def layer_from_name(value: Any) -> Any:
    """A pattern's name as that pattern with its defaults; anything else as it is."""
    return {"pattern": value} if isinstance(value, str) else value


class UnitAttention(LayerCost):
    """Units of frames that do not see each other, every other layer's shifted by half a unit, so that frames
    of two units meet there (SimpleGVR, arXiv 2506.19838).

    Attributes:
        unit: Frames of a unit, in tokens; 1 leaves every frame alone.
        inside: Pattern inside a unit.
    """

    pattern: Literal["units"] = "units"
    unit: PositiveInt = 5
    inside: Annotated[
        Annotated[FullAttention | WindowAttention | SparseAttention, Field(discriminator="pattern")],
        BeforeValidator(layer_from_name),
    ] = FullAttention()

    def live_elements(self, grid: TokenGrid) -> int:
        """Those of one unit beside what every token needs, whatever is inside."""
        if grid[0] <= self.unit:
            return self.inside.live_elements(grid)
        return prod(grid) * super().token_elements + self.inside.live_elements(self._unit_grid(grid))

    def frames_at_once(self, num_frames: int) -> int:
        """A unit's."""
        return min(self.unit, num_frames)

    def keys_per_token(self, grid: TokenGrid, head_dim: int) -> float:
        """See `LayerCost.keys_per_token`: those of one unit, however long the clip."""
        return self.inside.keys_per_token(self._unit_grid(grid), head_dim)

    def _unit_grid(self, grid: TokenGrid) -> TokenGrid:
        return self.frames_at_once(grid[0]), grid[1], grid[2]
