"""Models under the names that jobs use."""

from __future__ import annotations

import pytest

from pipelines.loaders import load_model
from workers.model_shelf import ModelShelf, ModelUnavailableError


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
