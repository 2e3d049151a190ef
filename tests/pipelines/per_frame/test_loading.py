"""Weights files: what is read, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pipelines.errors import BackendUnavailableError, CheckpointError
from pipelines.loaders import load_model
from pipelines.per_frame import loading
from pipelines.per_frame.importing import import_spandrel
from pipelines.per_frame.loading import WEIGHTS_SUFFIXES, load_network
from pipelines.per_frame.model import PerFrameModel
from tests.pipelines.per_frame.networks import save_network

CPU = torch.device("cpu")


def load(path: Path, **options: Any) -> PerFrameModel:
    return load_network(path, device=CPU, **options)


@pytest.mark.parametrize("suffix", WEIGHTS_SUFFIXES)
def test_every_suffix_is_read(suffix: str, tmp_path: Path) -> None:
    path = save_network("compact", tmp_path / f"network{suffix}")
    model = load(path)
    assert (model.card.kind, model.card.scale, model.card.native_scales) == ("per_frame", 4, (4,))
    assert model.card.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.name == f"network{suffix}"


def test_the_card_says_what_is_known(tmp_path: Path) -> None:
    path = save_network("span", tmp_path / "span.safetensors")
    model = load(path, name="my span", licence="MIT")
    assert (model.card.name, model.card.licence, model.card.source) == ("my span", "MIT", "SPAN")
    assert load(path).card.licence == "unknown"


def test_other_weights_have_another_identity(tmp_path: Path) -> None:
    first, second = (load(save_network("span", tmp_path / f"{seed}.pth", seed)) for seed in (0, 1))
    assert first.identity() != second.identity()


def test_a_model_by_its_path_is_called_so(tmp_path: Path) -> None:
    name = str(save_network("span", tmp_path / "SPAN.PTH"))
    model = load_model(name, device="cpu", dtype="float32")
    assert isinstance(model, PerFrameModel)
    assert model.name == name


class Malice:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(suffix: str, is_zip: bool, tmp_path: Path) -> None:
    path, target = tmp_path / f"evil{suffix}", tmp_path / "made"
    if is_zip:
        torch.save({"weight": Malice(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Malice(target)}))
    with pytest.raises(CheckpointError, match="more than tensors") as caught:
        load(path)
    assert caught.value.path == path
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_program_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"program{suffix}"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(nn.Conv2d(3, 3, 3)).save(path)
    with pytest.raises(CheckpointError, match="TorchScript"):
        load(path)


@pytest.mark.parametrize("suffix", WEIGHTS_SUFFIXES)
@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_damaged_file_is_refused(suffix: str, kept: int, tmp_path: Path) -> None:
    path = save_network("compact", tmp_path / f"network{suffix}")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights file .*gone\.pth"):
        load(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        load_model(str(tmp_path / "gone.safetensors"))
    with pytest.raises(CheckpointError, match=r"end in \.safetensors"):
        load(tmp_path / "network.onnx")


def test_an_unknown_architecture_is_refused_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"4 tensors: 0\.bias, .*known are .*SPAN"):
        load(path)


def test_weights_that_do_not_fit_their_architecture_are_refused(tmp_path: Path) -> None:
    path = save_network("compact", tmp_path / "network.pth")
    state = torch.load(path)
    state.pop("body.2.bias")
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="state dict"):
        load(path)


@pytest.mark.parametrize(("channels", "words"), [(4, "alpha"), (1, "grey")])
def test_networks_for_other_than_rgb_are_refused(channels: int, words: str, tmp_path: Path) -> None:
    import_spandrel()
    from spandrel.architectures.Compact import Compact

    network = Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=1, upscale=2)
    path = tmp_path / "network.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(CheckpointError, match=rf"{words}: {channels} channels in"):
        load(path)


@pytest.mark.parametrize("purpose", ["Inpainting", "FaceSR"])
def test_networks_for_other_tasks_are_refused(purpose: str, tmp_path: Path) -> None:
    descriptor = SimpleNamespace(
        purpose=purpose, architecture=SimpleNamespace(name="LaMa"), input_channels=3, output_channels=3
    )
    with pytest.raises(CheckpointError, match=f"LaMa.* for {purpose}"):
        loading._check_descriptor(descriptor, tmp_path / "network.pth")


def test_without_spandrel_a_weights_file_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_network("compact", tmp_path / "network.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(BackendUnavailableError, match="networks"):
        load(path)
