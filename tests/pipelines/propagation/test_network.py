"""The propagating restorer: sizes, factors, neighbours, conditioning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.propagation import SCALES, PropagationConfig, PropagationNet
from pipelines.propagation.conditioning import DegradationEstimator
from pipelines.propagation.interpolation import enlarge
from pipelines.propagation.layers import Conv3x3
from tests.pipelines.propagation.test_motion import texture


def tiny_network(*, is_trained: bool = True, seed: int = 0) -> PropagationNet:
    """A small network; `is_trained` moves what starts at zero or small."""
    torch.manual_seed(seed)
    network = PropagationNet(
        PropagationConfig(channels=8, feature_blocks=1, backward_blocks=1, forward_blocks=1)
    ).eval()
    if is_trained:
        with torch.no_grad():
            for fusion in (network.backward_fusion, network.forward_fusion, *network.tails.values()):
                fusion.weight.normal_(0, 0.1)
    return network.requires_grad_(False)


def random_clip(num_frames: int, height: int = 20, width: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.rand(1, num_frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 16, 16), (2, 21, 35), (3, 19, 18)])
def test_any_size_comes_out_enlarged(scale: int, num_frames: int, height: int, width: int) -> None:
    restored = tiny_network()(random_clip(num_frames, height, width), scale=scale)
    assert restored.frames.shape == (1, num_frames, 3, height * scale, width * scale)
    assert restored.levels.shape == (1, 3)


@pytest.mark.parametrize("scale", SCALES)
def test_a_new_network_is_nearly_interpolation(scale: int) -> None:
    clip = random_clip(2)
    restored = tiny_network(is_trained=False)(clip, scale=scale)
    assert (restored.frames - enlarge(clip, scale)).abs().mean() < 0.05


def test_a_batch_is_restored_as_its_clips_are_alone() -> None:
    network = tiny_network()
    clips = torch.cat([random_clip(3, seed=1), random_clip(3, seed=2)])
    together = network(clips, scale=4).frames
    alone = torch.cat([network(clip[None], scale=4).frames for clip in clips])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_frame_sees_both_neighbours() -> None:
    network = tiny_network()
    clip = random_clip(5)
    restored = network(clip, scale=4).frames
    for changed in (0, 4):
        other = clip.clone()
        other[:, changed] = 1 - other[:, changed]
        difference = (network(other, scale=4).frames - restored).abs().flatten(2).amax(-1)[0]
        assert (difference > 1e-6).all(), changed


def test_a_new_network_does_not_see_neighbours() -> None:
    network = tiny_network(is_trained=False)
    network.estimator.requires_grad_(False)
    clip = random_clip(3)
    together = network(clip, scale=4).frames
    alone = network(clip.transpose(0, 1), scale=4).frames.transpose(0, 1)
    assert torch.allclose(together, alone, atol=1e-6)


def test_gradients_reach_the_neighbours_path_from_its_zero_start() -> None:
    network = tiny_network(is_trained=False).requires_grad_(True)
    network(random_clip(3), scale=4).frames.square().mean().backward()
    for fusion in (network.backward_fusion, network.forward_fusion):
        assert fusion.weight.grad is not None
        assert fusion.weight.grad.abs().max() > 0


def test_a_longer_chunk_keeps_frames_that_are_far_from_its_end() -> None:
    network = tiny_network()
    clip = random_clip(12)
    whole, part = network(clip, scale=4).frames, network(clip[:, :9], scale=4).frames
    differences = (whole[:, :9] - part).abs().flatten(2).amax(-1)[0]
    assert differences[0] < differences[8]


def test_conditioning_is_the_identity_at_the_start() -> None:
    network = tiny_network()
    clip = random_clip(2)
    estimated = network(clip, scale=4).frames
    for strength in (0.0, 0.5, 1.0):
        assert torch.equal(network(clip, scale=4, strength=strength).frames, estimated)


def test_strength_counts_once_the_modulation_is_trained() -> None:
    network = tiny_network()
    with torch.no_grad():
        network.modulation.out.weight.normal_(0, 0.3)
    clip = random_clip(2)
    weak, strong = (network(clip, scale=4, strength=strength).frames for strength in (0.0, 1.0))
    assert (weak - strong).abs().max() > 1e-4


@pytest.mark.parametrize("level", range(3))
def test_the_body_is_told_noise_blur_and_compression(level: int) -> None:
    network = tiny_network()
    torch.nn.init.normal_(network.modulation.out.weight)
    levels = torch.tensor([[2.0, 0.1, 0.3]])
    other = levels.clone()
    other[0, level] += 0.3
    assert not torch.equal(network.modulation(other), network.modulation(levels))


def test_levels_beyond_those_of_training_count_as_its_worst() -> None:
    network = tiny_network()
    torch.nn.init.normal_(network.modulation.out.weight)
    worst, beyond = (
        network.modulation(torch.tensor([levels])) for levels in ([15.0, 0.6, 1.5], [40.0, 2.0, 9.0])
    )
    assert torch.equal(beyond, worst)
    none, below = (network.modulation(torch.tensor([levels])) for levels in ([0.0, 0, 0], [-3.0, 0, -0.2]))
    assert torch.equal(below, none)


def test_under_autocast_convolutions_repeat_the_border_in_its_dtype() -> None:
    conv, x = Conv3x3(4, 5), torch.rand(1, 4, 7, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(x), rtol=0.02, atol=0.02)


def test_the_estimate_does_not_depend_on_brightness() -> None:
    network = tiny_network()
    clip = random_clip(2) * 0.4
    levels = network(clip, scale=4).levels
    assert torch.allclose(network(clip + 0.3, scale=4).levels, levels, atol=1e-4)


def test_the_estimate_of_a_clip_is_of_the_statistics_of_its_frames() -> None:
    estimator = DegradationEstimator()
    clip = random_clip(3)
    each = torch.cat([estimator.statistics(frame[None]) for frame in clip[0]])
    assert torch.allclose(estimator.levels(each.mean(dim=0, keepdim=True)), estimator(clip), atol=1e-5)


def test_the_estimate_keeps_its_bits_under_autocast() -> None:
    estimator = DegradationEstimator()
    clip = random_clip(2)
    with torch.autocast("cpu", torch.bfloat16):
        found = estimator(clip)
    assert torch.equal(found, estimator(clip))


def test_the_body_does_not_teach_the_estimator() -> None:
    network = tiny_network().requires_grad_(True)
    torch.nn.init.normal_(network.modulation.out.weight)
    network(random_clip(2), scale=4).frames.square().mean().backward()
    assert all(weight.grad is None for weight in network.estimator.parameters())


def test_a_restorer_with_one_factor_refuses_others() -> None:
    network = PropagationNet(PropagationConfig(channels=8, scales=(4,)))
    with pytest.raises(InvalidOptionError, match=r"\(4,\), got 2"):
        network(random_clip(1), scale=2)


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(InvalidOptionError, match="from 0 to 1"):
        tiny_network()(random_clip(1), scale=4, strength=strength)


@pytest.mark.parametrize("shape", [(1, 1, 3, 15, 20), (1, 0, 3, 20, 20), (1, 2, 4, 20, 20), (2, 3, 20, 20)])
def test_a_clip_that_cannot_be_restored_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedSizeError, match="at least 16"):
        tiny_network()(torch.zeros(shape), scale=4)


@pytest.mark.parametrize("scales", [(), (5,), (4, 4)])
def test_impossible_factors_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        PropagationConfig(scales=scales)


def test_arithmetic_stays_within_its_budget() -> None:
    """At most half a million multiplications for each LR pixel at x4, the estimator and motion left out."""
    network = PropagationNet(PropagationConfig())
    parts = [
        network.heads["4"], network.feature_blocks, network.backward_fusion, network.backward_blocks,
        network.forward_fusion, network.forward_blocks, network.conv_mid, network.tails["4"],
    ]  # fmt: skip
    weights = sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 4)
    assert weights < 500_000


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_interpolation_is_torchs_bicubic(scale: int) -> None:
    clip = random_clip(2)
    expected = F.interpolate(clip[0], scale_factor=scale, mode="bicubic", align_corners=False)
    torch.testing.assert_close(enlarge(clip, scale)[0], expected, rtol=0, atol=1e-5)
    assert torch.equal(enlarge(clip, 1), clip)


def test_interpolation_stays_in_float32_under_autocast() -> None:
    clip = random_clip(1)
    with torch.autocast("cpu", torch.bfloat16):
        within = enlarge(clip, 4)
    assert torch.equal(within, enlarge(clip, 4))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_factor_starts_as_x4_on_averaged_pixels(scale: int) -> None:
    network = tiny_network()
    ratio = 4 // scale if scale != 3 else 1
    network.start_scale(scale)
    small = random_clip(1)
    clip = small.repeat_interleave(ratio, -1).repeat_interleave(ratio, -2)
    residual = network(clip, scale=scale).frames - enlarge(clip, scale)
    wanted = network(small, scale=4).frames - enlarge(small, 4)
    size = residual.shape[-2:]
    assert torch.allclose(F.interpolate(wanted[0], size=size, mode="area"), residual[0], atol=1e-4)


@torch.no_grad()
def test_a_previous_frame_adds_no_more_than_a_frame_has() -> None:
    torch.manual_seed(0)
    network = PropagationNet(PropagationConfig(channels=8, scales=(4,))).eval()
    torch.nn.init.eye_(network.forward_fusion.weight[..., 0, 0]).mul_(4)
    wide = texture(32, 48 + 24).expand(-1, 3, -1, -1)
    clip = torch.cat([wide[..., index : index + 48] for index in range(24)])
    strongest: list[float] = []
    network.forward_blocks.register_forward_hook(
        lambda _, __, state: strongest.append(float(torch.linalg.vector_norm(state, dim=1).max()))
    )
    network(clip[None], scale=4)
    assert max(strongest) < 2 * strongest[0]  # 3.3 times with the limit of the next frame, a billion without
