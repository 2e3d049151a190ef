"""The restorer's body in 8 bits: arithmetic, ranges, and when a model has it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.errors import InvalidOptionError
from pipelines.loaders import load_model
from pipelines.propagation import PropagationDescription, PropagationNet, save_propagation
from pipelines.propagation.layers import Conv3x3
from pipelines.propagation.model import PropagationModel
from pipelines.propagation.quantized import (
    Int8Conv,
    body_convolutions,
    can_quantize,
    measure_ranges,
    quantize_body,
)
from tests.pipelines.propagation.test_model import make_clip, make_network, restore

pytestmark = pytest.mark.skipif(not can_quantize(torch.device("cpu")), reason="8 bits are for x86 processors")


def ranges_of(network: PropagationNet) -> dict[str, tuple[float, float]]:
    with torch.inference_mode():
        return measure_ranges(
            network, [functools.partial(network, make_clip(3)[None], scale=scale) for scale in (1, 2, 3, 4)]
        )


def save(folder: Path, *, has_ranges: bool = True) -> str:
    network = make_network()
    description = PropagationDescription(
        name="tiny", network=network.config, activation_ranges=ranges_of(network) if has_ranges else {}
    )
    save_propagation(network, folder, description, dtype=torch.float32)
    return str(folder)


def load(name: str, **options: Any) -> PropagationModel:
    model = load_model(name, device="cpu", **options)
    assert isinstance(model, PropagationModel)
    return model


@given(
    seed=st.integers(0, 2**16),
    channels=st.sampled_from([(3, 5), (8, 8), (48, 48)]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    low=st.floats(-9, 0),
    high=st.floats(0.1, 9),
)
def test_a_convolution_is_that_of_the_nearest_codes(
    seed: int, channels: tuple[int, int], size: tuple[int, int], low: float, high: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    conv = Conv3x3(*channels)
    with torch.no_grad():
        for weight in conv.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    # Some of it beyond the range, which is cut off.
    x = torch.randn(2, channels[0], *size, generator=generator) * (high - low) / 2
    found = Int8Conv(conv, low, high)(x).double()

    step = (high - low) * 0.85 / 127
    zero = round(-low * 0.85 / step)
    places = x / step + (zero + 0.5)
    # Halfway between two codes both are nearest, and processors round to one or the other.
    assume((places - places.round()).abs().min() > 2e-5)
    codes = places.clamp(0, 127).floor().double() - zero
    nearest = x.double().clamp(-zero * step, (127 - zero) * step)
    assert (codes * step - nearest).abs().max() <= step * 0.501
    weight_steps = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True) / 127
    weights = (conv.weight.detach() / weight_steps).round().double()
    expected = F.conv2d(F.pad(codes, (1, 1, 1, 1), mode="replicate"), weights)
    assert conv.bias is not None
    bias = conv.bias.detach().double().reshape(1, -1, 1, 1)
    expected = expected * step * weight_steps.reshape(1, -1, 1, 1) + bias
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_ranges_are_means_of_what_a_convolution_was_given_and_nothing_stays_behind() -> None:
    network = make_network()
    given_to: list[torch.Tensor] = []
    hook = network.conv_mid.register_forward_pre_hook(lambda _, given: given_to.append(given[0].clone()))
    found = ranges_of(network)
    hook.remove()
    assert set(found) == {name for name, _ in body_convolutions(network)}
    low = np.mean([min(0.0, float(x.min())) for x in given_to])
    high = np.mean([max(0.0, float(x.max())) for x in given_to])
    assert found["conv_mid"] == pytest.approx((low, high))
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_the_embedded_model_restores_nearly_the_same_frames_in_8_bits() -> None:
    clip = make_clip(3, 48, 64)
    exact = restore(load("dovetail-nano-2", dtype="float32"), clip, (192, 256))
    found = restore(load("dovetail-nano-2", quantize="int8"), clip, (192, 256))
    difference = (found - exact).abs()
    assert 0 < difference.mean() < 1 / 255
    assert difference.max() < 12 / 255


def test_tiles_in_8_bits_agree_as_they_do_in_float32(tmp_path: Path) -> None:
    clip, name = make_clip(3, 64, 80), save(tmp_path / "tiny")
    model = load(name, quantize="int8")
    whole, tiled = restore(model, clip, (256, 320)), restore(model, clip, (256, 320), tile=128)
    assert (tiled - whole).abs().max() < 2e-3


def test_8_bits_are_the_default_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    name = save(tmp_path / "tiny")
    plain = load(name, quantize="none").card.fingerprint
    assert load(name, dtype="float32").card.fingerprint == plain
    assert load(name, dtype="float32", quantize="int8").card.fingerprint == f"{plain}+int8"
    assert load(name, dtype="bfloat16", quantize="int8").card.fingerprint == plain
    # A processor with bfloat16 would take that.
    assert load(name, quantize="int8").card.fingerprint == f"{plain}+int8"
    # float32 is what "auto" means on a processor without bfloat16.
    by_default = load(name)
    is_float32 = by_default.dtype == torch.float32
    assert by_default.card.fingerprint == plain + ("+int8" if is_float32 else "")


def test_a_checkpoint_without_ranges_stays_as_it_is(tmp_path: Path) -> None:
    name = save(tmp_path / "tiny", has_ranges=False)
    model = load(name, quantize="int8")
    assert "+" not in model.card.fingerprint
    assert model.dtype == load(name, quantize="none").dtype


def test_a_quantisation_that_does_not_exist_is_refused_by_every_kind(tmp_path: Path) -> None:
    for name in (save(tmp_path / "tiny"), "bicubic"):
        with pytest.raises(InvalidOptionError, match="'int3' does not exist; choose one of auto, none, int8"):
            load_model(name, device="cpu", quantize=cast(Any, "int3"))


def test_a_range_that_is_missing_is_named() -> None:
    network = make_network()
    ranges = ranges_of(network)
    del ranges["conv_mid"]
    with pytest.raises(KeyError, match="conv_mid"):
        quantize_body(network, ranges)
