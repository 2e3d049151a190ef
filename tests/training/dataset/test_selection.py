"""Decisions from numbers alone: ranks, parts of long scenes, crops, repeated frames."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from training.dataset import DatasetConfig, LicenceBook, load_dataset_config
from training.dataset.config import SceneLimits
from training.dataset.measuring import share_repeated
from training.dataset.motion import plan_crop
from training.dataset.records import Box, Examination, SceneMeasures, ScenePart, SourceFacts
from training.dataset.scenes import plan_parts
from training.dataset.selection import decide
from training.errors import TrainingConfigError

WHOLE = Box(left=0, top=0, width=1280, height=720)


def part_of(number: int, sharpness: float, *, scene: int = 1, noise: float = 1.0) -> ScenePart:
    measures = SceneMeasures(
        contrast=50, sharpness=sharpness, fine_detail=0.6, blockiness=1.0, noise=noise, uneven=0, repeated=0,
        motion=1.0, peak_motion=2.0,
    )  # fmt: skip
    return ScenePart(
        scene=scene, part=number, num_parts=4, first_frame=0, num_frames=60, pts=0, start_seconds=0.0,
        measures=measures, moving=WHOLE, picture=WHOLE,
    )  # fmt: skip


def codes(parts: tuple[ScenePart, ...], **quality: float) -> list[str]:
    """The reasons of each part of a film, joined; empty for what is kept."""
    facts = SourceFacts(path="/film.mp4", sha256="0", width=1280, height=720, rate=25)
    examination = Examination(facts=facts, measured_with={}, num_frames=240, parts=parts)
    config = DatasetConfig.model_validate({"quality": quality})
    (source,) = decide([(facts, [], examination)], config)
    return [" ".join(reason.code for reason in part.reasons) for part in source.parts]


def test_the_best_parts_of_a_scene_are_taken() -> None:
    parts = tuple(part_of(n, sharpness) for n, sharpness in enumerate((300, 900, 500, 700), start=1))
    assert codes(parts, keep=1.0, clips_per_scene=2) == ["surplus", "", "surplus", ""]


def test_the_best_share_of_all_scenes_is_taken_by_all_measures() -> None:
    noisy = part_of(1, 900, scene=1, noise=5)
    good, fair, poor = part_of(1, 800, scene=2), part_of(1, 700, scene=3), part_of(1, 100, scene=4, noise=2)
    assert codes((noisy, good, fair, poor), keep=0.5) == ["rank", "", "", "rank"]
    assert codes((noisy, good, fair, poor), keep=1.0) == ["", "", "", ""]
    assert codes((poor,), keep=0.01) == [""]  # of any film something is left


def test_every_reason_against_a_scene_is_named() -> None:
    assert codes((part_of(1, 10, noise=9),)) == ["blurred noisy"]


@given(
    num_frames=st.integers(0, 500),
    cuts=st.sets(st.integers(1, 499), max_size=5),
    most=st.integers(8, 120),
    margin=st.integers(0, 3),
)
def test_parts_lie_inside_their_scenes_and_are_nearly_equal(
    num_frames: int, cuts: set[int], most: int, margin: int
) -> None:
    inside = sorted(cut for cut in cuts if cut < num_frames)
    parts = plan_parts(inside, num_frames, SceneLimits(max_frames=most, margin=margin))
    borders = [0, *inside, num_frames]
    covered = 0
    for part in parts:
        low, high = borders[part.scene - 1] + margin, borders[part.scene] - margin
        assert part.begin == part.end or low <= part.begin < part.end <= high
        assert part.end - part.begin <= most
        lengths = [other.end - other.begin for other in parts if other.scene == part.scene]
        assert max(lengths) - min(lengths) <= 1
        covered += part.end - part.begin
    scenes = (max(0, after - first - 2 * margin) for first, after in pairwise(borders))
    assert covered == sum(scenes)


boxes = st.builds(
    lambda left, top, width, height: Box(left=left, top=top, width=width, height=height),
    st.integers(0, 200), st.integers(0, 200), st.integers(1, 400), st.integers(1, 400),
)  # fmt: skip


@given(moving=boxes, picture=boxes, padding=st.integers(0, 64), min_side=st.integers(16, 300))
def test_crops_lie_in_the_picture_and_are_large_enough(
    moving: Box, picture: Box, padding: int, min_side: int
) -> None:
    crop = plan_crop(moving, picture, padding=padding, min_side=min_side)
    if min(picture.width, picture.height) < min_side:
        assert crop is None
        return
    assert crop is not None
    assert min(crop.width, crop.height) >= min_side
    assert picture.left <= crop.left
    assert crop.left + crop.width <= picture.left + picture.width
    assert picture.top <= crop.top
    assert crop.top + crop.height <= picture.top + picture.height


def test_crops_are_around_what_moves() -> None:
    moving = Box(left=600, top=300, width=100, height=50)
    crop = plan_crop(moving, WHOLE, padding=32, min_side=128)
    assert crop == Box(left=566, top=261, width=168, height=128)


def test_repeated_frames_are_told_from_pauses() -> None:
    film = np.full(120, 5.0)
    converted = film.copy()
    converted[::5] = 0.01
    slowed = np.zeros(120)
    slowed[::5] = 5.0
    pause = film.copy()
    pause[40:100] = 0.02
    assert share_repeated(film) == 0
    assert share_repeated(converted) == pytest.approx(0.2)
    assert share_repeated(slowed) > 0.75
    assert share_repeated(pause) < 0.06  # its ends alone


def test_limits_and_licences_that_make_no_sense_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("scenes: {max_frames: 60}\n")
    with pytest.raises(TrainingConfigError, match="at least twice"):
        load_dataset_config(path)
    path.write_text("'*.mp4': {license: CC0}\n")
    with pytest.raises(TrainingConfigError, match="license"):
        LicenceBook.read(path)
    path.write_text("'a/*.mp4': {licence: CC0-1.0}\n")
    book = LicenceBook.read(path, default="mine")
    assert [book.of(Path(name)).licence for name in ("/x/a/b.mp4", "/x/c/b.mp4")] == ["CC0-1.0", "mine"]


def test_documented_limits_are_those_that_are_built_in(tmp_path: Path) -> None:
    document = Path(__file__).parents[3] / "docs" / "datasets.md"
    path = tmp_path / "limits.yaml"
    path.write_text(document.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0])
    assert load_dataset_config(path) == load_dataset_config(None)
    assert set(yaml.safe_load(path.read_text())) == set(DatasetConfig.model_fields)
