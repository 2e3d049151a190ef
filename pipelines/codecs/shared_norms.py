"""Group norms of a VAE with one mean and variance for all tiles of a frame.

A group norm looks at all that it is given. Given a tile, it evens out that tile, so tiles of one frame have
a brightness and contrast of their own. Statistics of the whole frame would need activations of all tiles,
layer by layer; those of patches spread over it need the memory and the time of one tile more. Patches keep
the detail of the frame, which a downsized one loses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.codecs.cogvideox_layers import group_norm
from pipelines.planning.spans import Span, TileGrid

# Patches along each side of a tile's area. Fewer and larger ones miss parts of the frame; smaller ones are
# mostly border.
_PATCHES_A_SIDE = 4
_SMALLEST_PATCH = 4  # latent pixels

Moments = tuple[Tensor, Tensor]
"""Mean and variance of each group, (groups,), float32."""


class SharedGroupNorm(nn.GroupNorm):
    """A group norm that can be told its statistics, by `shared_statistics` alone.

    Args:
        norm: Whose weights it shares.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        self.weight, self.bias = norm.weight, norm.bias
        self._moments: list[Moments] | None = None  # one for each time batch; None: those of the input
        self._next: int | None = None  # None while they are measured

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, F, H, W)."""
        return group_norm(self, input) if self._moments is None else self._by_moments(input)

    def measure(self) -> None:
        """The next inputs, one for each time batch, say what the statistics are."""
        self._moments, self._next = [], None

    def use(self) -> None:
        """What was measured stands for all inputs from now on, in turns for each time batch."""
        self._next = 0

    def forget(self) -> None:
        """Every input has its own statistics again."""
        self._moments = self._next = None

    # Compiled blocks break off here: its state changes with each call. The decorator has no types in torch.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _by_moments(self, x: Tensor) -> Tensor:
        assert self._moments is not None
        if self._next is None:
            self._moments.append(joint_moments(x, self.num_groups))
            mean, variance = self._moments[-1]
        else:
            mean, variance = self._moments[self._next]
            self._next = (self._next + 1) % len(self._moments)
        # The kernel that takes statistics from outside; as exact in half precision as the group norm's.
        width = self.num_channels // self.num_groups
        return F.batch_norm(
            x,
            mean.repeat_interleave(width),
            variance.repeat_interleave(width),
            None if self.weight is None else self.weight.float(),
            None if self.bias is None else self.bias.float(),
            eps=self.eps,
        )


def joint_moments(x: Tensor, num_groups: int) -> Moments:
    """Mean and variance of each group of channels over a whole batch (B, C, ...)."""
    # Sample by sample: float32 copies of all would be twice the largest tensor.
    pairs = [torch.var_mean(sample.reshape(num_groups, -1).float(), dim=1, correction=0) for sample in x]
    variances, means = (torch.stack(part).double() for part in zip(*pairs, strict=True))
    mean = means.mean(dim=0)
    variance = (variances + (means - mean).square()).mean(dim=0)
    return mean.float(), variance.float()


@contextmanager
def shared_statistics(network: nn.Module, run_sample: Callable[[], object]) -> Iterator[None]:
    """Within it, the norms of a network have the statistics of a sample.

    Args:
        network: Encoder or decoder of a prepared VAE.
        run_sample: Runs the sample through the network, in the time batches of what follows.

    Raises:
        ValueError: If the network's norms cannot be told their statistics.
    """
    norms = [module for module in network.modules() if isinstance(module, SharedGroupNorm)]
    if not norms:
        raise ValueError("tiles share statistics only in a VAE that `prepare_vae` has prepared")
    try:
        for norm in norms:
            norm.measure()
        run_sample()
        for norm in norms:
            norm.use()
        yield
    finally:
        for norm in norms:
            norm.forget()


def spread_patches(frames: Tensor, grid: TileGrid, *, multiple: int = 1) -> Tensor:
    """Patches from all over the frames, as samples of a batch, together no larger than a tile.

    Args:
        frames: (B, C, F, H, W).
        grid: Tiles of these frames.
        multiple: Pixels of a latent pixel; places and sizes of patches are multiples.

    Returns:
        (patches * B, C, F, h, w).
    """
    rows, cols = (_spread_spans(axis, multiple) for axis in (grid.rows, grid.cols))
    return torch.cat([frames[..., row.slice, col.slice] for row in rows for col in cols])


def _spread_spans(tiles: tuple[Span, ...], multiple: int) -> list[Span]:
    """Evenly spread over an axis, together as long as one of its tiles at most."""
    length, tile = tiles[-1].stop // multiple, tiles[0].size // multiple
    size = min(max(tile // _PATCHES_A_SIDE, _SMALLEST_PATCH), tile)
    count = tile // size
    room = length - size
    starts = [room // 2] if count == 1 else [index * room // (count - 1) for index in range(count)]
    return [Span(start * multiple, (start + size) * multiple) for start in starts]
