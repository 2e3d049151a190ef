"""Which dtype a network computes in, and what it makes of frames there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.devices import DtypeName
from pipelines.errors import CheckpointError, InvalidOptionError
from pipelines.per_frame import precision
from pipelines.per_frame.loading import _read_descriptor, load_network
from pipelines.per_frame.model import PerFrameModel
from pipelines.per_frame.network import Network, as_network
from pipelines.per_frame.precision import choose_network_dtype
from tests.pipelines.per_frame.networks import save_network

CPU = torch.device("cpu")


def restore(model: PerFrameModel, height: int, width: int) -> torch.Tensor:
    clip = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    scale = int(model.card.scale or 1)
    size = height * scale, width * scale
    plan = model.plan(num_frames=1, size=(height, width), out_size=size)
    return next(iter(model.restore(clip, size, plan)))


def test_a_dtype_that_the_network_cannot_is_refused(tmp_path: Path) -> None:
    path = save_network("rcan", tmp_path / "rcan.pth")
    with pytest.raises(
        InvalidOptionError, match="RCAN networks run in float32, bfloat16 or auto, got 'float16'"
    ):
        load_network(path, device=CPU, dtype="float16")


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("compact", "cuda", torch.bfloat16),
        ("rcan", "cuda", torch.bfloat16),
        ("compact", "cpu", torch.float32),
    ],
)
def test_auto_is_what_device_and_network_can(
    name: str, device: str, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    descriptor = _read_descriptor(save_network(name, tmp_path / "network.pth"))
    auto: DtypeName = "auto"
    assert choose_network_dtype(descriptor, auto, torch.device(device)) is expected
    descriptor.supports_bfloat16 = False
    if device == "cuda":
        half = torch.float16 if descriptor.supports_half else torch.float32
        assert choose_network_dtype(descriptor, auto, torch.device(device)) is half


@pytest.mark.parametrize("name", ["compact", "swinir", "drct", "rgt", "hat"])
def test_networks_with_and_without_windows_run_in_the_dtypes_that_they_allow(
    name: str, tmp_path: Path
) -> None:
    path = save_network(name, tmp_path / "network.pth")
    exact, rounded = load_network(path, device=CPU, dtype="float32"), list[PerFrameModel]()
    dtypes: tuple[DtypeName, ...] = ("bfloat16", "float16")
    for dtype in dtypes:
        with suppress(InvalidOptionError):  # it does not allow this one
            rounded.append(load_network(path, device=CPU, dtype=dtype))
    assert rounded
    assert all(model.identity()["dtype"] in dtypes for model in rounded)
    # No multiple of any window, so that masks of shifted ones are made as the network runs.
    expected = restore(exact, 41, 58)
    for model in rounded:
        torch.testing.assert_close(restore(model, 41, 58), expected, rtol=0, atol=3e-2)


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16, whichever there is."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


@pytest.mark.usefixtures("fast_bfloat16")
def test_a_network_that_is_too_far_off_in_16_bits_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_network("span", tmp_path / "network.pth")
    assert load_network(path, device=CPU).dtype == torch.bfloat16
    monkeypatch.setattr(precision, "_MAX_ERROR", 1e-9)
    model = load_network(path, device=CPU)
    assert model.dtype == torch.float32
    assert "it computes in float32, bfloat16 is not for it" in model.card.notes
    # The weights are those of the file, not rounded ones.
    exact = load_network(path, device=CPU, dtype="float32")
    assert torch.equal(restore(model, 24, 32), restore(exact, 24, 32))
    # Who asks for 16 bits gets them.
    assert load_network(path, device=CPU, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.usefixtures("fast_bfloat16")
def test_a_network_that_fails_in_16_bits_computes_in_float32_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def float32_only(descriptor: Any, **options: Any) -> Network:
        network = as_network(descriptor, **options)

        def run(image: torch.Tensor) -> torch.Tensor:
            if descriptor.dtype != torch.float32:
                raise RuntimeError("expected scalar type Float")
            return network(image)

        return run

    monkeypatch.setattr(precision, "as_network", float32_only)
    path = save_network("span", tmp_path / "network.pth")
    assert load_network(path, device=CPU).dtype == torch.float32
    with pytest.raises(CheckpointError, match=r"SPAN\) fails on a small image: expected scalar type Float"):
        load_network(path, device=CPU, dtype="bfloat16")
