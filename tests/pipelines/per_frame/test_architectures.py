"""Our own architectures: found by their state dicts' names, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipelines.errors import CheckpointError
from pipelines.per_frame.architectures.catanet import CATANet, PatchAttention, TokenAggregation, patch_starts
from pipelines.per_frame.architectures.cfsr import CFSR, merge_edge_kernels
from pipelines.per_frame.architectures.dlgsanet import (
    DLGSANet,
    DynamicConv,
    _GlobalBlock,
    _Group,
    _LocalBlock,
    window_starts,
)
from pipelines.per_frame.architectures.imdn import IMDN, HalfSizeIMDN, RealTimeIMDN
from pipelines.per_frame.architectures.registration import OWN_ARCHITECTURES
from pipelines.per_frame.importing import import_spandrel
from pipelines.per_frame.loading import load_network
from pipelines.planning.frame_plan import FramePlan
from tests.pipelines.per_frame.networks import RECIPES


def _dlgsanet() -> nn.Module:
    group = _Group(16, [_LocalBlock(16, 32, 2, 7), _GlobalBlock(16, 32, 2, 48)])
    return DLGSANet(3, 16, [group], 4)


def _catanet() -> nn.Module:
    block = nn.Sequential(TokenAggregation(16, 8, 32, 16, 5), PatchAttention(16, 8, 32, 16, 5))
    return CATANet(3, 16, [block], 4)


NETWORKS = {
    "IMDN": (lambda: IMDN(3, 64, 2, is_adaptive=False), 2, "IMDB6.cca.conv_du.2.bias"),
    "IMDN_AS": (lambda: IMDN(3, 64, 4, is_adaptive=True), 1, "fea_conv.2.weight"),
    "IMDN_RTC": (lambda: RealTimeIMDN(3, 12, 5, 2), 2, "model.1.sub.4.c5.weight"),
    "IMDN_RTE": (lambda: HalfSizeIMDN(3, 20, 4), 2, "block6.c7.weight"),
    "CFSR": (lambda: CFSR(3, 12, 24, 9, [1, 1], 3), 3, "layers.1.blocks.0.attn.a.2.lkb_reparam.weight"),
    "DLGSANet": (_dlgsanet, 4, "deep_feature_extraction.0.body.1.norm4.body.bias"),
    "CATANet": (_catanet, 4, "blocks.0.1.layer.1.fn.dwconv.depthwise_conv.0.bias"),
}


def make(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name][0]()
    means = {key: value for key, value in network.named_buffers() if key.endswith("means")}
    for value in means.values():
        value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_is_found_by_its_names_and_gives_its_network(name: str, tmp_path: Path) -> None:
    network = make(name)
    _, scale, key = NETWORKS[name]
    assert key in network.state_dict()
    torch.save(network.state_dict(), tmp_path / "network.pth")
    model = load_network(tmp_path / "network.pth", device=torch.device("cpu"), dtype="float32")
    assert (model.card.source, model.card.scale) == (name.removesuffix("_AS"), scale)
    clip = noise(1, 3, 32, 40)
    with torch.inference_mode():
        expected = network(clip).clamp(0, 1)
    result = next(iter(model.restore(clip, (32 * scale, 40 * scale), FramePlan())))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_no_other_architecture_is_taken_for_ours(name: str) -> None:
    state = RECIPES[name].make().state_dict()
    assert not any(own.detect(state) for own in OWN_ARCHITECTURES)


@pytest.mark.parametrize("name", NETWORKS)
def test_spandrel_takes_ours_for_no_other(name: str) -> None:
    spandrel, state = import_spandrel(), make(name).state_dict()
    found = [support.architecture.id for support in spandrel.MAIN_REGISTRY if support.detect(state)]
    assert found == [name.removesuffix("_AS")]


def test_edge_kernels_of_training_are_added_up() -> None:
    names = ("sobel_x", "sobel_y", "laplacian")
    state = {"m.pos.weight": noise(4, 1, 3, 3), "m.pos.bias": noise(4)}
    for name in names:
        state |= {f"m.scale_{name}": noise(4, 1, 1, 1), f"m.mask_{name}": noise(4, 1, 3, 3)}
        state[f"m.{name}_bias"] = noise(4)
    merged = merge_edge_kernels(state)
    assert set(merged) == {"m.pos.weight", "m.pos.bias"}
    features = noise(1, 4, 6, 6)

    def convolve(weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.conv2d(features, weight, bias, padding=1, groups=4)

    expected = convolve(state["m.pos.weight"], state["m.pos.bias"])
    for name in names:
        expected += convolve(state[f"m.scale_{name}"] * state[f"m.mask_{name}"], state[f"m.{name}_bias"])
    torch.testing.assert_close(convolve(merged["m.pos.weight"], merged["m.pos.bias"]), expected)


def test_a_dynamic_convolution_with_one_kernel_is_a_convolution() -> None:
    layer = DynamicConv(8, 2, 3)
    nn.init.zeros_(layer.conv2[0].weight)
    kernels = layer.conv2[0].bias.detach().reshape(2, 1, 3, 3).repeat_interleave(4, 0)
    features = noise(1, 8, 6, 7)
    expected = nn.functional.conv2d(features, kernels, padding=1, groups=8)
    with torch.no_grad():
        torch.testing.assert_close(layer(features), expected)


def test_windows_and_patches_cover_every_pixel() -> None:
    assert window_starts(40, 48) == [0]
    assert window_starts(101, 48) == [0, 27, 53]
    for length in range(16, 80):
        starts, factors = patch_starts(length, 16)
        hits = torch.zeros(length)
        for start in starts:
            hits[start : start + 16] += 1
        weighted = hits * torch.tensor(factors)
        assert bool((weighted[hits < 3] == 1).all())
        assert bool((weighted[hits == 3] == 0.75).all())


def test_an_untrained_catanet_is_refused(tmp_path: Path) -> None:
    state = make("CATANet").state_dict() | {"blocks.0.0.initted": torch.tensor(False)}
    torch.save(state, tmp_path / "network.pth")
    with pytest.raises(CheckpointError, match="not trained"):
        load_network(tmp_path / "network.pth", device=torch.device("cpu"))
