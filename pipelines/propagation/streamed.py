"""The restorer frame by frame: the weights and the result of `PropagationNet.forward`, up to rounding.

A long chunk of large frames takes one state a frame and what a single frame needs: motion is found pair by
pair, the entry's features are made twice instead of being kept (at most a twentieth of the work), and frames
leave as soon as they are rendered. 16 frames to 720p take 0.29 GB in float32, where training's pass takes
1.26 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.propagation.conditioning import frames_seen
from pipelines.propagation.layers import MOST_FROM_NEXT, MOST_FROM_PREVIOUS, SLOPE, modulate, trusted
from pipelines.propagation.motion import estimate_flow, match_confidence, warp
from pipelines.propagation.network import PropagationNet, shuffle_ratio, unshuffle_clip, unshuffle_ratio
from pipelines.propagation.noise_reduction import FrameAt


def estimate_levels(network: PropagationNet, frame_at: FrameAt, num_frames: int) -> Tensor:
    """Noise, blur and compression of a chunk: (1, 3), float32, in the units of `LEVEL_UNITS`."""
    estimator = network.estimator
    statistics = torch.cat([estimator.statistics(frame_at(index)) for index in frames_seen(num_frames)])
    return estimator.levels(statistics.mean(dim=0, keepdim=True))


def find_motion(frame_at: FrameAt, num_frames: int, *, scale: int) -> Tensor:
    """Motion between neighbouring frames, at the size the body works at.

    Args:
        frame_at: The frames.
        num_frames: How many, at least 1.
        scale: Factor that they are restored by.

    Returns:
        (2, num_frames - 1, 3, h, w), float32: from each frame but the last to the next one, and back; flow in
        body pixels (x, y) and the confidence in it, (0, 1].
    """
    before = _luma(frame_at(0), scale)
    motion = before.new_empty(2, num_frames - 1, 3, *before.shape[-2:])
    for index in range(num_frames - 1):
        after = _luma(frame_at(index + 1), scale)
        reference, other = torch.cat([before, after]), torch.cat([after, before])
        flow = motion[:, index, :2]
        flow.copy_(estimate_flow(reference, other))
        motion[:, index, 2:] = match_confidence(reference, other, flow)
        before = after
    return motion


def stream_residuals(
    network: PropagationNet,
    frame_at: FrameAt,
    *,
    scale: int,
    modulation: Tensor,
    motion: Tensor,
) -> Iterator[Tensor]:
    """Renders what a chunk has more than its interpolation.

    Args:
        network: With convolutions of any dtype.
        frame_at: The frames, or a part of each that begins on a body pixel.
        scale: One of the network's factors.
        modulation: (1, 3, 2, C), from `network.modulation`.
        motion: Of the frames or of that part, from `find_motion`.

    Yields:
        For each frame in order (1, 3, h * scale, w * scale), dtype of the convolutions, about [-1, 1].
    """
    head = network.heads[str(scale)]
    ratio = shuffle_ratio(scale)
    tail = network.tails[str(ratio)]
    dtype = cast(nn.Conv2d, tail).weight.dtype
    gains = modulation.to(dtype).unbind(1)
    num_frames = motion.shape[1] + 1

    def enter(index: int) -> Tensor:
        entry = unshuffle_clip(frame_at(index)[None], unshuffle_ratio(scale)).flatten(0, 1)
        return cast(Tensor, head(entry.to(dtype, memory_format=torch.channels_last)))

    states: list[Tensor] = []
    for index in reversed(range(num_frames)):
        x = network.feature_blocks(modulate(enter(index), gains[0]))
        if states:
            fused = network.backward_fusion(_carried(states[-1], motion[0, index]))
            x = x + trusted(fused, x, most=MOST_FROM_NEXT)
        states.append(network.backward_blocks(modulate(x, gains[1])))
    state: Tensor | None = None
    for index in range(num_frames):
        x = states.pop()
        if state is not None:
            fused = network.forward_fusion(_carried(state, motion[1, index - 1]))
            x = x + trusted(fused, x, most=MOST_FROM_PREVIOUS)
        state = cast(Tensor, network.forward_blocks(modulate(x, gains[2])))
        hidden = F.leaky_relu_(network.conv_mid(state).add_(enter(index)), SLOPE)
        height, width = frame_at(index).shape[-2:]
        yield F.pixel_shuffle(tail(hidden), ratio)[..., : height * scale, : width * scale]


def _luma(frame: Tensor, scale: int) -> Tensor:
    """(1, 3, h, w) -> (1, 1, h, w) of the body, as `PropagationNet` sees motion."""
    return unshuffle_clip(frame[None], unshuffle_ratio(scale)).mean(dim=2)


def _carried(state: Tensor, motion: Tensor) -> Tensor:
    """A neighbour's state, moved to where it belongs and faded out where it does not match."""
    return warp(state, motion[None, :2]) * motion[None, 2:].to(state.dtype)
