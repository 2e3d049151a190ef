"""The network of dovetail-nano 2: a plain convolutional restorer that carries what it saw along motion.

Features of each frame pass through residual blocks of 3x3 convolutions, first on their own, then with the
state of the next frame (backward through the clip), then with that of the previous one (forward), as in
BasicVSR (Chan et al. 2021). Everything runs at a quarter of the output size; one convolution and a pixel
shuffle render the residual to bicubic interpolation. What stands still is averaged over time before, since
its neighbours differ by noise alone (`noise_reduction`). For factors below 4 the input is rearranged to that
size first, so that time depends on the size of the output. Without neighbours the same weights restore a
still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.propagation.conditioning import (
    DegradationEstimator,
    Modulation,
    check_strength,
    with_strength,
)
from pipelines.propagation.interpolation import enlarge
from pipelines.propagation.layers import (
    MOST_FROM_NEXT,
    MOST_FROM_PREVIOUS,
    SLOPE,
    Conv3x3,
    blocks,
    modulate,
    shrink_,
    trusted,
)
from pipelines.propagation.motion import estimate_flow, match_confidence, warp
from pipelines.propagation.noise_reduction import reduce_noise

SCALES = (1, 2, 3, 4)
SMALLEST_SIDE = 16


class PropagationConfig(BaseModel):
    """Sizes of the network.

    Attributes:
        channels: Width of the body.
        feature_blocks: Residual blocks on each frame alone.
        backward_blocks: Blocks with the state of the next frame.
        forward_blocks: Blocks with the state of the previous frame.
        scales: Factors it has an entry for; 1, 2 and 4 share an exit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(default=48, ge=1)
    feature_blocks: int = Field(default=2, ge=0)
    backward_blocks: int = Field(default=2, ge=1)
    forward_blocks: int = Field(default=2, ge=1)
    scales: tuple[int, ...] = Field(default=SCALES, min_length=1)

    @field_validator("scales")
    @classmethod
    def _scales_are_known(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if set(value) - set(SCALES) or len(set(value)) != len(value):
            raise ValueError(f"scales must be different ones of {SCALES}, got {value}")
        return value


@dataclass(frozen=True)
class Restored:
    """Frames and what was found in the input.

    Attributes:
        frames: (B, F, 3, H, W), about [0, 1], not clamped.
        levels: (B, 3), estimated noise, blur and compression in the units of `LEVEL_UNITS`.
    """

    frames: torch.Tensor
    levels: torch.Tensor


class PropagationNet(nn.Module):
    """Restores and enlarges a clip.

    Args:
        config: Sizes.
    """

    def __init__(self, config: PropagationConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.estimator = DegradationEstimator()
        self.modulation = Modulation(channels, num_parts=3)
        self.heads = nn.ModuleDict(
            {str(s): Conv3x3(3 * unshuffle_ratio(s) ** 2, channels) for s in config.scales}
        )
        self.feature_blocks = blocks(config.feature_blocks, channels)
        # The blocks behind a fusion see the neighbourhood; it need not.
        self.backward_fusion = nn.Conv2d(channels, channels, 1)
        self.backward_blocks = blocks(config.backward_blocks, channels)
        self.forward_fusion = nn.Conv2d(channels, channels, 1)
        self.forward_blocks = blocks(config.forward_blocks, channels)
        self.conv_mid: nn.Conv2d = Conv3x3(channels, channels)
        self.tails = nn.ModuleDict(
            {str(r): Conv3x3(channels, 3 * r**2) for r in shuffle_ratios(config.scales)}
        )
        # A new network gives bicubic interpolation, nearly, and pays no attention to neighbours.
        for tail in self.tails.values():
            shrink_(cast(nn.Conv2d, tail), 0.1)
        for fusion in (self.backward_fusion, self.forward_fusion):
            shrink_(fusion, 0.0)

    def forward(
        self,
        clip: torch.Tensor,
        *,
        scale: int,
        strength: float | None = None,
        levels: torch.Tensor | None = None,
    ) -> Restored:
        """Restores a clip, with gradients. `pipelines.propagation.streamed` does it in less memory.

        Args:
            clip: (B, F, 3, h, w), float32, [0, 1]; F at least 1, sides at least 16.
            scale: One of the configuration's factors.
            strength: How strongly noise and compression are cleaned, 0 (as clean input) to 1 (as the worst
                input known from training); None for what is estimated. The blur is only estimated.
            levels: (B, 3), float32, of noise, blur and compression in their units, where something else has
                estimated them; None estimates them here, and once more where frames were averaged.

        Raises:
            InvalidOptionError: If there is no such factor, or the strength is outside [0, 1].
            UnsupportedSizeError: If the clip has no frame or is too small.
        """
        self._check(clip, scale)
        check_strength(strength)
        batch_size, num_frames, _, height, width = clip.shape
        found = self._estimate(clip) if levels is None else levels
        cleaned = with_strength(found, strength)
        luma = unshuffle_clip(clip, unshuffle_ratio(scale)).mean(dim=2, keepdim=True).float()
        to_next = motion(luma[:, :-1], luma[:, 1:])
        if num_frames > 1:
            source = clip
            clip = torch.stack(
                reduce_noise(lambda index: source[:, index].float(), to_next[0], cleaned[:, 0] / 255), dim=1
            )
            if levels is None:
                cleaned = with_strength(self._estimate(clip), strength)
        modulation = self.modulation(cleaned)
        entry = unshuffle_clip(clip, unshuffle_ratio(scale))
        # On a CPU, inference is faster with channels last (0.85 of the time), training in float32 without.
        is_half = torch.is_autocast_enabled(clip.device.type)
        layout = torch.contiguous_format if self.training and not is_half else torch.channels_last
        entry = entry.flatten(0, 1).contiguous(memory_format=layout)
        skip = self.heads[str(scale)](entry)
        per_frame = modulation.repeat_interleave(num_frames, dim=0)
        features = self.feature_blocks(modulate(skip, per_frame[:, 0]))
        states = list(as_clips(features, batch_size).unbind(1))
        states = self._propagate_backward(states, to_next, modulation[:, 1])
        to_previous = motion(luma[:, 1:], luma[:, :-1])
        states = self._propagate_forward(states, to_previous, modulation[:, 2])
        hidden = torch.stack(states, dim=1).flatten(0, 1).contiguous(memory_format=layout)
        hidden = F.leaky_relu_(self.conv_mid(hidden).add_(skip), SLOPE)
        ratio = shuffle_ratio(scale)
        residual = F.pixel_shuffle(self.tails[str(ratio)](hidden), ratio)
        frames = residual[..., : height * scale, : width * scale].float() + enlarge(clip, scale).flatten(0, 1)
        return Restored(as_clips(frames, batch_size), found)

    @torch.no_grad()
    def start_scale(self, scale: int) -> None:
        """Makes an entry and an exit start as those of x4, which is trained first.

        The entry sees the mean of the pixels that it covers; the exit renders the same residual on its grid.
        From random entries, a body with trained gains and its loops through time would run away.
        """
        first = cast(nn.Conv2d, self.heads["4"])
        entry = cast(nn.Conv2d, self.heads[str(scale)])
        area = unshuffle_ratio(scale) ** 2
        entry.weight.copy_(first.weight.repeat_interleave(area, dim=1) / area)
        cast(torch.Tensor, entry.bias).copy_(cast(torch.Tensor, first.bias))
        ratio = shuffle_ratio(scale)
        last, end = (cast(nn.Conv2d, self.tails[str(r)]) for r in (4, ratio))
        if ratio != 4:
            end.weight.copy_(resample_exit(last.weight, ratio))
            cast(torch.Tensor, end.bias).copy_(resample_exit(cast(torch.Tensor, last.bias), ratio))

    @torch.no_grad()
    def _estimate(self, clip: torch.Tensor) -> torch.Tensor:
        """The estimator's levels; the body must not bend them to its ends."""
        return cast(torch.Tensor, self.estimator(clip))

    def _propagate_backward(
        self,
        states: list[torch.Tensor],
        to_next: tuple[torch.Tensor, torch.Tensor],
        modulation: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Blocks from the last frame to the first, each with the state of the frame after it."""
        flow, confidence = to_next
        carried: torch.Tensor | None = None
        out: list[torch.Tensor] = []
        for index in reversed(range(len(states))):
            x = states[index]
            if carried is not None:
                fused = self.backward_fusion(warp(carried, flow[:, index]) * confidence[:, index])
                x = x + trusted(fused, x, most=MOST_FROM_NEXT)
            carried = self.backward_blocks(modulate(x, modulation))
            out.append(carried)
        return out[::-1]

    def _propagate_forward(
        self,
        states: list[torch.Tensor],
        to_previous: tuple[torch.Tensor, torch.Tensor],
        modulation: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Blocks from the first frame to the last, each with the state of the frame before it."""
        flow, confidence = to_previous
        carried: torch.Tensor | None = None
        out: list[torch.Tensor] = []
        for index, x in enumerate(states):
            if carried is not None:
                fused = self.forward_fusion(warp(carried, flow[:, index - 1]) * confidence[:, index - 1])
                x = x + trusted(fused, x, most=MOST_FROM_PREVIOUS)
            carried = self.forward_blocks(modulate(x, modulation))
            out.append(carried)
        return out

    def _check(self, clip: torch.Tensor, scale: int) -> None:
        if scale not in self.config.scales:
            raise InvalidOptionError(f"scale must be one of {self.config.scales}, got {scale}")
        if clip.ndim != 5 or clip.shape[2] != 3 or clip.shape[1] < 1 or min(clip.shape[-2:]) < SMALLEST_SIDE:
            raise UnsupportedSizeError(
                f"a clip must be (B, F, 3, h, w) with a frame and sides of at least {SMALLEST_SIDE}, got "
                f"{tuple(clip.shape)}"
            )


def unshuffle_ratio(scale: int) -> int:
    """Input pixels along a side of a body pixel; x3 does not divide 4 and runs at its input's size."""
    return {1: 4, 2: 2, 3: 1, 4: 1}[scale]


def shuffle_ratio(scale: int) -> int:
    """Output pixels along a side of a body pixel."""
    return scale * unshuffle_ratio(scale)


def shuffle_ratios(scales: tuple[int, ...]) -> list[int]:
    """The different ratios; factors of the same one share their exit, for they render the same grid."""
    return sorted({shuffle_ratio(scale) for scale in scales})


def resample_exit(weight: torch.Tensor, ratio: int) -> torch.Tensor:
    """(3 * 4 * 4, ...) -> (3 * ratio^2, ...): the grid of sub-pixels averaged to another one."""
    grid = weight.reshape(3, 4, 4, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(ratio, ratio), mode="area").permute(0, 2, 3, 1)
    return grid.reshape(3 * ratio**2, *weight.shape[1:])


def unshuffle_clip(clip: torch.Tensor, ratio: int) -> torch.Tensor:
    """(B, F, 3, h, w) -> (B, F, 3 * ratio^2, h / ratio, w / ratio), around 0; sides extended to multiples."""
    height, width = clip.shape[-2:]
    frames = F.pad(clip.flatten(0, 1), (0, -width % ratio, 0, -height % ratio), mode="replicate")
    return as_clips(F.pixel_unshuffle(frames - 0.5, ratio), len(clip))


@torch.no_grad()
def motion(reference: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow and confidence of pairs of frames (B, P, 1, h, w): (B, P, 2, h, w) and (B, P, 1, h, w)."""
    if not reference.shape[1]:
        return reference, reference
    a, b = reference.flatten(0, 1), other.flatten(0, 1)
    flow = estimate_flow(a, b)
    return as_clips(flow, len(reference)), as_clips(match_confidence(a, b, flow), len(reference))


def as_clips(frames: torch.Tensor, batch_size: int) -> torch.Tensor:
    """(B * F, ...) -> (B, F, ...)."""
    return frames.reshape(batch_size, -1, *frames.shape[1:])
