"""CATANet, "Efficient Content-Aware Token Aggregation for Lightweight Image SR" (arXiv 2503.06896).

Each token goes to the nearest of a few learned centres; attention runs inside groups of tokens sorted by
centre (IASA), to the centres themselves (IRCA), and in overlapping patches (LRSA).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.per_frame.architectures.description import (
    BuiltNetwork,
    OwnArchitecture,
    StateDict,
    count,
    has_all,
    shuffle_scale,
)

_NUM_HEADS = 4
# Not in the weights: sides of the patches, from block to block, and tokens of a group times centres.
_PATCH_SIDES = (16, 20, 24, 28)
_PATCH_OVERLAP = 2
_GROUP_TIMES_CENTRES = 4096
# A patch has to fit, and the first two groups of the largest kind (256 tokens).
_MIN_SIDE = 28


def _heads(tokens: Tensor) -> Tensor:
    """(..., N, C) to (..., heads, N, C / heads)."""
    return torch.unflatten(tokens, -1, (_NUM_HEADS, -1)).transpose(-3, -2)


def _merge_heads(tokens: Tensor) -> Tensor:
    return tokens.transpose(-3, -2).flatten(-2)


class GroupAttention(nn.Module):
    """IASA: sorted tokens attend to their group and the next one, and to all centres."""

    def __init__(self, channels: int, key_channels: int, group_size: int) -> None:
        super().__init__()
        self._group_size = group_size
        self.to_q = nn.Linear(channels, key_channels, bias=False)
        self.to_k = nn.Linear(channels, key_channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor, order: Tensor, centre_keys: Tensor, centre_values: Tensor) -> Tensor:
        """Attends.

        Args:
            tokens: (B, N, C).
            order: (B, N) indices that sort them by centre.
            centre_keys: (heads, M, K / heads).
            centre_values: (heads, M, C / heads).
        """
        batch, num_tokens, _ = tokens.shape
        size = min(num_tokens, self._group_size)
        num_missing = -num_tokens % size
        index = order[..., None].expand_as(tokens)
        given = tokens.gather(1, index)
        mirrored = given.flip(1)
        queries = torch.cat((given, mirrored[:, :num_missing]), dim=1)
        queries = _heads(torch.unflatten(self.to_q(queries), 1, (-1, size)))
        context = torch.cat((given, mirrored[:, : num_missing + size]), dim=1)
        keys, values = (
            _heads(layer(context).unfold(1, 2 * size, size).transpose(-2, -1))
            for layer in (self.to_k, self.to_v)
        )
        num_groups = queries.shape[1]
        centre_keys, centre_values = (
            centre.expand(batch, num_groups, *centre.shape) for centre in (centre_keys, centre_values)
        )
        attended = F.scaled_dot_product_attention(queries, keys, values)
        attended = attended + F.scaled_dot_product_attention(queries, centre_keys, centre_values)
        sorted_result = _merge_heads(attended).flatten(1, 2)[:, :num_tokens]
        result: Tensor = self.proj(torch.empty_like(tokens).scatter(1, index, sorted_result))
        return result


class _CentreProjection(nn.Module):
    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(channels, key_channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)

    def forward(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        return _heads(self.to_k(centres)), _heads(self.to_v(centres))


class _DepthwiseConv(nn.Module):
    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.depthwise_conv = nn.Sequential(conv, nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.depthwise_conv(features)
        return result


class ConvFeedForward(nn.Module):
    """Two linear layers with a depthwise convolution between them; (B, H, W, C)."""

    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = _DepthwiseConv(hidden, kernel_size)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.gelu(self.fc1(features))
        mixed = self.dwconv(hidden.movedim(-1, 1)).movedim(1, -1)
        result: Tensor = self.fc2(hidden + mixed)
        return result


class _Normed(nn.Module):
    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fn = layer

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.fn(self.norm(features))
        return result


class TokenAggregation(nn.Module):
    """TAB: attention between tokens that are alike, wherever they are; (B, C, H, W)."""

    means: Tensor

    def __init__(
        self, channels: int, key_channels: int, hidden: int, num_centres: int, kernel_size: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mlp = _Normed(channels, ConvFeedForward(channels, hidden, kernel_size))
        self.irca_attn = _CentreProjection(channels, key_channels)
        self.iasa_attn = GroupAttention(channels, key_channels, _GROUP_TIMES_CENTRES // num_centres)
        self.register_buffer("means", torch.zeros(num_centres, channels))
        self.register_buffer("initted", torch.tensor(True))
        self.conv1x1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.norm(features.flatten(2).mT)
        likeness = F.normalize(tokens, dim=-1) @ F.normalize(self.means, dim=-1).mT
        # Stable: tokens of one centre stay in the order of the image, on any device.
        order = likeness.argmax(dim=-1).argsort(dim=-1, stable=True)
        attended = self.iasa_attn(tokens, order, *self.irca_attn(self.means))
        features = features + self.conv1x1(torch.unflatten(attended.mT, -1, features.shape[-2:]))
        last = features.movedim(1, -1)
        result: Tensor = (last + self.mlp(last)).movedim(-1, 1)
        return result


class _Attention(nn.Module):
    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, key_channels, bias=False)
        self.to_k = nn.Linear(channels, key_channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (_heads(layer(tokens)) for layer in (self.to_q, self.to_k, self.to_v))
        result: Tensor = self.proj(_merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return result


def patch_starts(length: int, side: int) -> tuple[list[int], list[float]]:
    """Where patches begin along an axis, and what their sum is multiplied by at each place.

    Each patch halves what it shares with the one before it, so places under three patches (at the end of some
    lengths) count 3/4: the networks were trained so.
    """
    step = side - _PATCH_OVERLAP
    starts: list[int] = []
    factors = [1.0] * length
    for regular in range(0, length + step - side, step):
        start = min(regular, length - side)
        if starts:
            for place in range(start, regular + _PATCH_OVERLAP):
                factors[place] /= 2
        starts.append(start)
    return starts, factors


class PatchAttention(nn.Module):
    """LRSA: attention inside overlapping patches; (B, C, H, W)."""

    def __init__(self, channels: int, key_channels: int, hidden: int, side: int, kernel_size: int) -> None:
        super().__init__()
        self._side = side
        self.layer = nn.ModuleList(
            (
                _Normed(channels, _Attention(channels, key_channels)),
                _Normed(channels, ConvFeedForward(channels, hidden, kernel_size)),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        side, (height, width) = self._side, features.shape[-2:]
        (rows, row_factors), (cols, col_factors) = patch_starts(height, side), patch_starts(width, side)
        total = torch.zeros_like(features)
        for top in rows:
            band = [features[..., top : top + side, left : left + side] for left in cols]
            tokens = torch.cat(band).flatten(2).mT
            patches = torch.unflatten((tokens + attention(tokens)).mT, -1, (side, side)).chunk(len(cols))
            for left, patch in zip(cols, patches, strict=True):
                total[..., top : top + side, left : left + side] += patch
        total *= total.new_tensor(row_factors)[:, None] * total.new_tensor(col_factors)
        last = total.movedim(1, -1)
        result: Tensor = (last + feed_forward(last)).movedim(-1, 1)
        return result


class CATANet(nn.Module):
    """The network.

    Args:
        image_channels: Of input and output.
        channels: Inside.
        blocks: Pairs of `TokenAggregation` and `PatchAttention`.
        scale: 1 to 4; 4 is two steps of 2.
    """

    def __init__(self, image_channels: int, channels: int, blocks: list[nn.Module], scale: int) -> None:
        super().__init__()
        self._scale = scale
        self.first_conv = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.mid_convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in blocks)
        self._steps = {1: (), 4: (("upconv1", 2), ("upconv2", 2))}.get(scale, (("upconv", scale),))
        for name, factor in self._steps:
            self.add_module(name, nn.Conv2d(channels, channels * factor**2, 3, padding=1))
        self.last_conv = nn.Conv2d(channels, image_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.first_conv(image)
        features = shallow
        for block, conv in zip(self.blocks, self.mid_convs, strict=True):
            features = features + conv(block(features))
        features = features + shallow
        for name, factor in self._steps:
            features = F.leaky_relu(F.pixel_shuffle(self.get_submodule(name)(features), factor), 0.1)
        base = image
        if self._scale != 1:
            base = F.interpolate(image, scale_factor=self._scale, mode="bilinear", align_corners=False)
        result: Tensor = self.last_conv(features) + base
        return result


def _build(state_dict: StateDict) -> BuiltNetwork:
    channels, image_channels = state_dict["first_conv.weight"].shape[:2]
    if "upconv1.weight" in state_dict:
        scale = 4
    else:
        scale = shuffle_scale(state_dict["upconv.weight"], channels) if "upconv.weight" in state_dict else 1
    key_channels = state_dict["blocks.0.0.irca_attn.to_k.weight"].shape[0]
    hidden = state_dict["blocks.0.0.mlp.fn.fc1.weight"].shape[0]
    kernel_size = state_dict["blocks.0.0.mlp.fn.dwconv.depthwise_conv.0.weight"].shape[-1]

    def make_block(index: int) -> nn.Module:
        if not bool(state_dict[f"blocks.{index}.0.initted"]):
            raise ValueError("these weights have no token centres: the network was not trained")
        num_centres = state_dict[f"blocks.{index}.0.means"].shape[0]
        side = _PATCH_SIDES[index % len(_PATCH_SIDES)]
        return nn.Sequential(
            TokenAggregation(channels, key_channels, hidden, num_centres, kernel_size),
            PatchAttention(channels, key_channels, hidden, side, kernel_size),
        )

    blocks = [make_block(index) for index in range(count(state_dict, "blocks.{}.0.means"))]
    network = CATANet(image_channels, channels, blocks, scale)
    # Rounding decides which centre a token goes to, so half precision gives other groups.
    return BuiltNetwork(network, state_dict, scale, image_channels, minimum=_MIN_SIDE, is_half_good=False)


ARCHITECTURES = (
    OwnArchitecture(
        "CATANet",
        has_all("first_conv.weight", "blocks.0.0.irca_attn.to_k.weight", "blocks.0.1.layer.0.fn.to_q.weight"),
        _build,
    ),
)
