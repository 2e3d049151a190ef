"""Descriptions that are read without loading models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.catalogue import DescribedModel, describe_model
from pipelines.dove.description import embedded_checkpoints
from pipelines.errors import CheckpointError
from pipelines.interpolation import METHODS
from pipelines.loaders import load_model


@pytest.mark.parametrize("name", [*embedded_checkpoints(), *METHODS])
def test_a_description_says_what_the_loaded_model_says(name: str) -> None:
    card = load_model(name, device="cpu").card
    assert describe_model(name) == DescribedModel(card.kind, card.scale, card.licence, card.source)


def test_nothing_is_said_of_what_lies_elsewhere() -> None:
    assert describe_model("someone/model-on-the-hub").kind == "unknown"


def test_a_damaged_description_is_told(tmp_path: Path) -> None:
    (tmp_path / "propagation.json").write_text('{"network": {"scales": []}}')
    with pytest.raises(CheckpointError, match=r"propagation\.json"):
        describe_model(str(tmp_path))


def test_descriptions_are_read_without_torch() -> None:
    code = (
        "import sys; from pipelines.catalogue import describe_model; "
        "describe_model('dovetail-dit-nano'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
