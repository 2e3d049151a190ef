"""The stand-ins for torchvision's functions."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from pipelines.errors import BackendUnavailableError
from pipelines.per_frame.importing import import_spandrel
from pipelines.per_frame.torchvision_functions import (
    InterpolationMode,
    normalize,
    rotate,
    torchvision_or_stand_in,
)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    image = torch.tensor([[[0.5, 1.0]], [[0.0, 0.25]], [[1.0, 0.75]]])
    expected = torch.tensor([[[0.0, 1.0]], [[-1.0, 0.0]], [[1.0, 0.0]]])
    result = normalize(image, [0.5, 0.25, 0.75], [0.5, 0.25, 0.25])
    assert torch.equal(result, expected)
    assert not torch.equal(image, expected)
    assert torch.equal(normalize(image[None], [0.5, 0.25, 0.75], [0.5, 0.25, 0.25])[0], expected)
    assert normalize(image, [0.5, 0.25, 0.75], [0.5, 0.25, 0.25], inplace=True) is image
    assert torch.equal(image, expected)


def test_normalize_takes_no_integers_and_no_zero_deviation() -> None:
    with pytest.raises(TypeError, match="uint8"):
        normalize(torch.zeros(3, 2, 2, dtype=torch.uint8), [0.5], [0.5])
    with pytest.raises(ValueError, match="zero"):
        normalize(torch.zeros(3, 2, 2), [0.5, 0.5, 0.5], [0.5, 0.0, 0.5])


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mode", [InterpolationMode.NEAREST, InterpolationMode.BILINEAR])
def test_rotate_turns_counter_clockwise(turns: int, mode: InterpolationMode) -> None:
    image = torch.arange(50.0).reshape(1, 2, 5, 5)
    turned = rotate(image, 90.0 * turns, interpolation=mode)
    torch.testing.assert_close(turned, torch.rot90(image, turns, (2, 3)))


def test_rotate_keeps_the_size_and_fills_with_zeros() -> None:
    turned = rotate(torch.ones(1, 4, 8), 90.0)
    assert turned.shape == (1, 4, 8)
    assert torch.equal(turned[0, 0], torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0]))


def test_a_torchvision_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with torchvision_or_stand_in():
        assert sys.modules[names[-1]] is modules[names[-1]]


def test_the_stand_in_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # what Python itself does to forbid an import
    with torchvision_or_stand_in():
        from torchvision.transforms.functional import rotate as found  # type: ignore[import-not-found]
    assert found is rotate
    assert sys.modules["torchvision"] is None
    assert "torchvision.transforms.functional" not in sys.modules


def test_every_architecture_of_spandrel_can_be_imported() -> None:
    spandrel = import_spandrel()
    known = {support.architecture.id for support in spandrel.MAIN_REGISTRY}
    assert len(known) >= 40
    assert known >= {"Compact", "SPAN", "ESRGAN", "SwinIR", "DAT", "HAT", "RGT", "DRCT", "CRAFT", "OmniSR"}
    assert known >= {"PLKSR", "LaMa", "RestoreFormer"}


def test_without_spandrel_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'dovetail-vsr\[networks\]'"):
        import_spandrel()
