"""Motion-adaptive temporal noise reduction: what stands still is averaged over time, then restored.

Each pixel has a recursive mean, once forward and once backward through the chunk, which takes in a frame by
how far it stands still and differs from the mean by no more than noise (temporal filters of this kind: Dubois
and Sabri 1984, IEEE Trans. Commun. 32(7)). States that the network carries count where something moves
(`match_confidence`); this is for where nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.propagation.motion import box_mean

# Motion, in pixels of the source, from which on nothing is averaged. Noise alone moves single windows of the
# flow by half a pixel, but not always to the same side: hence its mean over many.
_LEAST_MOTION = 1.0
_FLOW_WINDOW = 31
# Frames that a mean is of, in each direction: twice as many would halve what is left of the noise again, and
# whatever is wrong would be seen for as long.
_MOST_FRAMES = 8
# Squared differences beside those of noise: up to the first a frame counts fully, from the second on not at
# all. A difference that the pixels of a window share is seldom noise, though that of codecs is not white.
_FULL_RATIO, _NO_RATIO = 1.0, 3.0
_WINDOW = 5
_SHARED_SHARE = _WINDOW**2 / 8
# Noise that a codec has not smoothed is seen in the quietest quarter of the frame, more than this many times
# the estimate is motion.
_QUIET_SHARE = 0.25
_MOST_OF_ESTIMATE, _MOST_BESIDE = 2.5, 0.5 / 255
_LEAST_VARIANCE = 1e-7

FrameAt = Callable[[int], Tensor]
"""A frame of each of B clips by its number: (B, 3, h, w), float32, [0, 1], on the device of all else."""


@torch.no_grad()
def reduce_noise(frame_at: FrameAt, flow: Tensor, noise: Tensor) -> list[Tensor]:
    """Averages what stands still.

    Args:
        frame_at: Gives the frames.
        flow: (B, F - 1, 2, h', w'), from each frame but the last to the next one, in pixels of that size,
            which may be smaller than the frames.
        noise: (B,), estimated standard deviation of the noise in [0, 1].

    Returns:
        F frames (B, 3, h, w). What moves or changes is as it was.
    """
    last = flow.shape[1]
    height, width = frame_at(0).shape[-2:]
    still = [_stillness(part, (height, width)) for part in flow.unbind(1)]
    variance = _noise_variance(frame_at, last + 1, noise.clamp(min=0))
    forward = list(_recursive_means(map(frame_at, range(last + 1)), still, variance))
    backward = _recursive_means(map(frame_at, range(last, -1, -1)), still[::-1], variance)
    for index, (mean, count) in zip(range(last, -1, -1), backward, strict=True):
        other, other_count = forward[index]
        # Both means have this frame.
        total = other.mul_(other_count).addcmul_(mean, count).sub_(frame_at(index))
        total.div_(other_count.add_(count).sub_(1))
    return [mean for mean, _ in forward]


def _stillness(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 2, h', w') -> (B, 1, h, w): 1 where nothing moves, falling to 0."""
    mean_flow = box_mean(flow, _FLOW_WINDOW)
    motion = torch.hypot(mean_flow[:, :1], mean_flow[:, 1:])
    still = (1 - motion * (size[0] / flow.shape[-2] / _LEAST_MOTION)).clamp_(min=0)
    if still.shape[-2:] != size:
        still = F.interpolate(still, size=size, mode="bilinear", align_corners=False)
    return still


def _noise_variance(frame_at: FrameAt, num_frames: int, noise: Tensor) -> Tensor:
    """(B, 1, 1, 1), for clips of noise (B,): at least as estimated, more where all of the clip shows more."""
    seen, before = torch.zeros_like(noise), frame_at(0)
    for index in range(1, num_frames):
        after = frame_at(index)
        difference = (after - before).square_().mean(dim=1, keepdim=True)
        before = after
        windows = F.avg_pool2d(difference, 8, ceil_mode=True, count_include_pad=False).flatten(1)
        seen += windows.quantile(_QUIET_SHARE, dim=1) / 2 / (num_frames - 1)
    most = _MOST_OF_ESTIMATE * noise + _MOST_BESIDE
    variance = torch.maximum(noise, torch.minimum(seen.sqrt(), most)).square().clamp(min=_LEAST_VARIANCE)
    return variance[:, None, None, None]


def _recursive_means(
    frames: Iterable[Tensor], still: Iterable[Tensor], variance: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each frame the mean up to it, and of how many frames (B, 1, h, w) that is."""
    rest = iter(frames)
    mean = next(rest)
    count = torch.ones_like(mean[:, :1])
    yield mean.clone(), count
    for frame, stillness in zip(rest, still, strict=True):
        known = _share(frame - mean, variance * (1 + 1 / count)).mul_(stillness).mul_(count)
        known.clamp_(max=_MOST_FRAMES - 1)
        count = 1 + known
        mean = (known * mean).add_(frame).div_(count)
        yield mean, count


def _share(difference: Tensor, variance: Tensor) -> Tensor:
    """How far a difference (B, 3, h, w) may be noise: (B, 1, h, w) in [0, 1]."""
    power = box_mean(difference.square().mean(dim=1, keepdim=True), _WINDOW)
    shared = box_mean(difference.mean(dim=1, keepdim=True), _WINDOW).square_().mul_(_SHARED_SHARE)
    ratio = torch.maximum(power, shared).div_(variance)
    return (_NO_RATIO - ratio).div_(_NO_RATIO - _FULL_RATIO).clamp_(0, 1)
