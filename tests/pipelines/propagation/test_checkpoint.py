"""Checkpoints of the restorer are read as they were written, or refused with a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.errors import CheckpointError
from pipelines.propagation import PropagationDescription, load_propagation, save_propagation
from tests.pipelines.propagation.test_network import random_clip, tiny_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = tiny_network()
    description = PropagationDescription(
        name="tiny", network=network.config, training_steps=7, licence="Apache-2.0"
    )
    save_propagation(network, tmp_path / "tiny", description, dtype=torch.float32)
    return tmp_path / "tiny"


def test_a_checkpoint_restores_as_the_network_did(folder: Path) -> None:
    network, description = load_propagation(folder)
    assert description.training_steps == 7
    assert not network.training
    clip = random_clip(2)
    expected = tiny_network()(clip, scale=4)
    restored = network(clip, scale=4)
    assert torch.allclose(restored.frames, expected.frames, atol=1e-6)
    assert torch.allclose(restored.levels, expected.levels, atol=1e-6)


def test_others_may_read_it(folder: Path) -> None:
    (folder / "beside").touch()
    assert {file.stat().st_mode for file in folder.iterdir()} == {(folder / "beside").stat().st_mode}


def test_half_precision_files_are_half_as_large(folder: Path, tmp_path: Path) -> None:
    network, description = load_propagation(folder)
    save_propagation(network, tmp_path / "half", description, dtype=torch.float16)
    size, half = ((path / "propagation.safetensors").stat().st_size for path in (folder, tmp_path / "half"))
    assert half < 0.7 * size
    loaded, _ = load_propagation(tmp_path / "half")
    assert next(loaded.parameters()).dtype == torch.float32


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"propagation\.json cannot be read"):
        load_propagation(tmp_path)


def test_a_wrong_field_is_named(folder: Path) -> None:
    (folder / "propagation.json").write_text('{"name": "tiny", "chanels": 8}')
    with pytest.raises(CheckpointError, match="chanels"):
        load_propagation(folder)


def test_damaged_weights_are_named(folder: Path) -> None:
    (folder / "propagation.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_propagation(folder)
    (folder / "propagation.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_propagation(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    path = folder / "propagation.json"
    path.write_text(path.read_text().replace('"channels": 8', '"channels": 9'))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_propagation(folder)
