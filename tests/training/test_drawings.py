"""Drawn pictures: new ones each time, the same from the same seed, with hard edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import textured_picture
from training.config import DataConfig
from training.data import SourceLibrary
from training.drawings import draw_picture


def hardest_edge(picture: np.ndarray) -> float:
    """The largest step between neighbours, in 8-bit levels."""
    return float(np.abs(np.diff(picture.astype(int), axis=1)).max())


def test_a_picture_is_a_function_of_its_seed() -> None:
    first, again, other = (draw_picture(np.random.default_rng(seed), 96) for seed in (1, 1, 2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_drawn_over_a_photograph_covers_a_part_of_it() -> None:
    photo = textured_picture(0, 96, 96)
    covered = [(draw_picture(np.random.default_rng(seed), 96, photo) != photo).mean() for seed in range(12)]
    assert max(covered) > 0.2
    # Without a lens's softness, what lies beside the drawing is the photograph.
    assert min(covered) < 0.5


def test_a_photograph_that_is_too_small_is_left_out() -> None:
    drawn = draw_picture(np.random.default_rng(5), 96, textured_picture(0, 64, 200))
    assert np.array_equal(drawn, draw_picture(np.random.default_rng(5), 96))


def test_edges_are_hard() -> None:
    """Most pictures have a step of a third of the range from one pixel to the next."""
    steps = [hardest_edge(draw_picture(np.random.default_rng(seed), 128)) for seed in range(20)]
    assert np.median(steps) > 85


@pytest.mark.parametrize(("probability", "num_known"), [(0.0, 30), (1.0, 0)])
def test_a_share_of_the_pictures_is_drawn(training_data: Path, probability: float, num_known: int) -> None:
    library = SourceLibrary(training_data, DataConfig(hr_size=48, drawn_probability=probability))
    known = {np.array(Image.open(path)).tobytes() for path in (training_data / "images").glob("*")}
    rng = np.random.default_rng(0)
    assert sum(library.picture(rng).tobytes() in known for _ in range(30)) == num_known
