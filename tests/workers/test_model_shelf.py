"""Models under the names that jobs use."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import WorkerSettings
from pipelines.loaders import load_model
from pipelines.model import Model
from workers.model_shelf import ModelShelf, ModelUnavailableError
from workers.process import with_settings


def test_a_model_has_the_name_that_jobs_use_wherever_it_lies() -> None:
    shelf = ModelShelf({"house": "lanczos", "bicubic": "bicubic"}, load=load_model)
    first, second = shelf.describe()[::-1]
    assert (first.name, first.kind, first.is_default, second.name) == (
        "house", "interpolation", True, "bicubic",
    )  # fmt: skip
    model = shelf.get("house")
    assert model is shelf.get(), "loaded once"
    assert model.name == "house"
    with pytest.raises(ModelUnavailableError, match="'lanczos'; there are house, bicubic"):
        shelf.get("lanczos")


def test_models_are_loaded_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {
        "device": "cuda:1",
        "dtype": "bfloat16",
        "attention_backend": "cudnn",
        "quantize": "int8",
        "use_compile": True,
        "use_offload": True,
        "models_dir": Path("/models"),
    }
    for name, value in told.items():
        monkeypatch.setenv(f"DOVETAIL_{name.removesuffix('_backend').upper()}", str(value))
    found: dict[str, Any] = {}

    def load(name: str, **options: Any) -> Model:
        found.update(options)
        return load_model(name)

    with_settings(load, WorkerSettings())("bicubic")
    assert found == told
    assert found.keys() <= inspect.signature(load_model).parameters.keys()
