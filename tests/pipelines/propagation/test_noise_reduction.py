"""Noise of what stands still falls; what moves, changes or is clean stays as it is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipelines.propagation.motion import estimate_flow
from pipelines.propagation.noise_reduction import reduce_noise
from tests.pipelines.propagation.test_motion import texture

NOISE = 5 / 255


def noisy(clip: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return clip + NOISE * torch.randn(clip.shape, generator=generator)


def reduce(clip: torch.Tensor, *, noise: float = NOISE, body: int = 1) -> torch.Tensor:
    """Of one clip (F, 3, h, w), with motion found at a `body`-th of its size."""
    luma = F.avg_pool2d(clip.mean(dim=1, keepdim=True), body)
    flow = estimate_flow(luma[:-1], luma[1:])
    frames = reduce_noise(lambda index: clip[index : index + 1], flow[None], torch.tensor([noise]))
    return torch.cat(frames)


def panning(num_frames: int, *, speed: int) -> torch.Tensor:
    wide = texture(64, 80 + speed * num_frames).expand(1, 3, -1, -1)
    return torch.cat([wide[..., speed * index :][..., :80] for index in range(num_frames)])


@pytest.mark.parametrize("body", [1, 2])
@pytest.mark.parametrize("noise", [NOISE, NOISE / 2])  # as it is, and estimated too low
def test_noise_of_a_still_scene_falls(noise: float, body: int) -> None:
    clean = panning(9, speed=0)
    result = reduce(noisy(clean), noise=noise, body=body)
    left = (result - clean)[:, :, 8:-8, 8:-8].std(dim=(1, 2, 3))
    assert left.max() < NOISE / 1.8
    assert left[4] < NOISE / 2.2


def test_what_moves_stays_as_it_is() -> None:
    moving = panning(5, speed=3)
    assert (reduce(noisy(moving)) - noisy(moving)).abs().mean() < 0.05 * NOISE
    assert (reduce(moving) - moving).abs().max() < NOISE


def test_what_crosses_a_still_scene_leaves_no_trace() -> None:
    clip = panning(5, speed=0).clone()
    for index in range(5):
        clip[index, :, 20:36, 10 + 12 * index : 22 + 12 * index] = 1 - clip[index, :, 20:36, 10:22]
    result = reduce(noisy(clip))
    # Where it is, and where it was or will be; a window's border beside.
    around = (slice(None), slice(None), slice(22, 34))
    assert (result - clip)[around].abs().mean() <= (noisy(clip) - clip)[around].abs().mean()
    assert (result - clip)[:, :, 44:].std() < NOISE / 1.8


def test_a_cut_is_not_mixed() -> None:
    clip = torch.cat([panning(3, speed=0), 1 - panning(3, speed=0)])
    result = reduce(noisy(clip))
    apart = torch.cat([reduce(noisy(clip)[:3]), reduce(noisy(clip)[3:])])
    assert (result - apart).abs().mean() < 0.05 * NOISE


def test_clean_frames_come_back() -> None:
    still = panning(4, speed=0)
    assert torch.allclose(reduce(still, noise=0.0), still, atol=1e-6)
    assert torch.allclose(reduce(still, noise=-0.01), still, atol=1e-6)


def test_each_clip_of_a_batch_has_noise_of_its_own() -> None:
    clips = torch.stack([panning(4, speed=0), noisy(panning(4, speed=0))])
    flow = torch.zeros(2, 3, 2, 64, 80)
    frames = reduce_noise(lambda index: clips[:, index], flow, torch.tensor([0.0, NOISE]))
    assert torch.allclose(frames[1][0], clips[0, 1], atol=1e-6)
    assert (frames[1][1] - clips[0, 1]).std() < NOISE / 1.8


def test_one_frame_stays_as_it_is() -> None:
    frame = noisy(panning(1, speed=0))
    flow = torch.zeros(1, 0, 2, 64, 80)
    assert torch.equal(reduce_noise(lambda _: frame, flow, torch.tensor([NOISE]))[0], frame)
