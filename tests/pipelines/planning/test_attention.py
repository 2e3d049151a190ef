"""Attention as descriptions have it, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.planning.attention import AttentionSettings
from pipelines.planning.kinds import shape_from_json, shape_to_json
from pipelines.planning.shapes import DiffusionShape

ROUTED = {
    "pattern": "routed",
    "heads": [["global", "window"], ["frame", "window"]],
    "window": [3, 3, 3],
    "tile": [1, 2, 2],
}
WINDOW = {"pattern": "window", "window": [4, 6]}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("full", {"pattern": "full"}),
        ("window", {"pattern": "window", "window": [8, 8]}),
        ({"window": [8, 8]}, {"pattern": "full"}),
        # what training wrote before there was a union
        ({"pattern": "full", "window": [8, 8]}, {"pattern": "full"}),
        (WINDOW, WINDOW),
        (["full", WINDOW], [{"pattern": "full"}, WINDOW]),
        ("units", {"pattern": "units", "unit": 5, "inside": {"pattern": "full"}}),
        (
            {"pattern": "units", "unit": 4, "inside": "window"},
            {"pattern": "units", "unit": 4, "inside": {"pattern": "window", "window": [8, 8]}},
        ),
    ],
)
def test_every_form_is_read_and_the_shortest_complete_one_written(given: Any, written: Any) -> None:
    settings = AttentionSettings.model_validate(given)
    assert settings.model_dump(mode="json") == written
    assert AttentionSettings.model_validate(written) == settings


@pytest.mark.parametrize(
    "given",
    [
        "none",
        [],
        3,
        {"window": [0, 8]},
        {"pattern": "full", "window": "x"},
        {"pattern": "window", "size": 8},
        {"pattern": "units", "unit": 0},
        {"pattern": "units", "inside": "units"},
        {"pattern": "units", "inside": "linear"},
    ],
)
def test_what_does_not_exist_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        AttentionSettings.model_validate(given)


def test_costs_are_those_of_the_pattern_or_of_the_mean_layer() -> None:
    grid = (5, 10, 3)
    costs = [
        ("full", 150),
        (WINDOW, 5 * 4 * 3),
        (["full", WINDOW, WINDOW], (150 + 2 * 60) / 3),
        ({"pattern": "window+global", "window": [4, 6], "pool": 4}, 5 * 4 * 3 + 5 * 3 * 1),
        ({"pattern": "sparse", "window": [2, 4, 8], "num_similar": 2}, 3 * 2 * 4 * 3),
        # a tile of 2 rows and a row beyond on both sides
        ({"pattern": "routed", "heads": [["window"]], "window": [3, 3, 3], "tile": [1, 2, 2]}, 3 * 4 * 3),
        (ROUTED, (150 + 30 + 2 * 36) / 4),
        ({"pattern": "linear", "blocks": [1, 2, 3]}, 64 + 6**2 * 64 / 300),
        ({"pattern": "units", "unit": 2}, 2 * 10 * 3),
        ({"pattern": "units", "unit": 7, "inside": WINDOW}, 5 * 4 * 3),
    ]
    for form, keys in costs:
        assert AttentionSettings.model_validate(form).keys_per_token(grid, 64) == pytest.approx(keys), form


def test_tables_are_bound_to_weights_wherever_they_are() -> None:
    settings = AttentionSettings.model_validate(["full", ROUTED])
    bound = settings.bound_to("abc").model_dump(mode="json")
    assert [layer.get("weights_sha256") for layer in bound] == [None, "abc"]


def test_attention_travels_with_the_shape() -> None:
    shape = DiffusionShape(
        "cogvideox",
        vae_channels=4,
        hidden_size=32,
        attention=AttentionSettings.model_validate(["full", WINDOW]),
    )
    assert shape_from_json(shape_to_json(shape)) == shape
