"""A data set of films of all kinds: what becomes of each, what is written, and going on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from media import probe
from media.frame import Frame
from media.info import MediaInfo
from media.reader import VideoReader
from tests.training.dataset.conftest import pan, texture, write_film
from training.config import DataConfig
from training.data import SourceLibrary
from training.dataset import DatasetConfig, DatasetSummary, LicenceBook, build_dataset
from training.dataset.licences import Licence
from training.dataset.metadata import look_at
from training.errors import DatasetFolderError, TrainingDataError
from training.video_coding import decode_frames
from workers.run.access import IN_THIS_PROCESS, MediaAccess

NO_LICENCES = LicenceBook(Licence(), {})

EXPECTED = {
    "blurred.mkv": {"blurred"},
    "blocky.mkv": {"blocky"},
    "static.mkv": {"static"},
    "uneven.mkv": {"uneven"},
    "barred.mkv": {"small"},
    "hdr.mkv": {"hdr"},
    "short.mkv": {"short"},
    "damaged.mp4": {"damaged"},
    "copy.mkv": {"duplicate"},
    "still.png": {"still"},
    "notes.txt": {"unreadable_input"},
    "sound.wav": {"no_video"},
}
"""Reasons that a film is dropped for."""


def build(sources: Path, out: Path, config: DatasetConfig, **arguments: Any) -> DatasetSummary:
    arguments = {"licences": NO_LICENCES, "access": IN_THIS_PROCESS} | arguments
    return build_dataset([sources], out, config=config, **arguments)


def read_decisions(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]


def reasons_of(decisions: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Codes of all reasons, of a file and of its scenes, by its name."""
    found: dict[str, set[str]] = {}
    for entry in decisions[1:]:
        codes = found.setdefault(Path(entry["source"]).name, set())
        codes.update(reason["code"] for reason in entry["reasons"])
    return found


@pytest.fixture(scope="module")
def built(
    footage: Path, small_limits: DatasetConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DatasetSummary]:
    out = tmp_path_factory.mktemp("data-set") / "out"
    licences = LicenceBook(Licence(), {"two_*.mkv": Licence(licence="CC0-1.0", provenance="made here")})
    return out, build(footage, out, small_limits, licences=licences)


def test_every_film_is_decided_on_with_a_reason(footage: Path, built: tuple[Path, DatasetSummary]) -> None:
    out, summary = built
    found = reasons_of(read_decisions(out))
    assert set(found) == {path.name for path in footage.rglob("*") if path.is_file()}
    assert found.pop("two_scenes.mkv") == set()
    for name, codes in EXPECTED.items():
        assert codes <= found[name], (name, found[name])
    assert all(found.values())
    assert summary.num_sources == len(found) + 1
    assert (summary.num_clips, summary.num_written, summary.num_unlicensed) == (2, 2, 0)


def test_decisions_have_numbers_limits_and_provenance(built: tuple[Path, DatasetSummary]) -> None:
    out, _ = built
    head, *entries = read_decisions(out)
    assert head["limits"]["metadata"]["min_side"] == 96
    sources = {Path(e["source"]).name: e for e in entries if e["kind"] == "source"}
    assert (sources["two_scenes.mkv"]["licence"], sources["two_scenes.mkv"]["provenance"]) == (
        "CC0-1.0",
        "made here",
    )
    assert sources["blurred.mkv"]["licence"] is None
    assert all(len(source["facts"]["sha256"]) == 64 for source in sources.values())
    scenes = [e for e in entries if e["kind"] == "scene"]
    assert {e["decision"] for e in scenes} == {"kept", "dropped"}
    for scene in scenes:
        assert (scene["decision"] == "kept") == (not scene["reasons"]) == (scene["clip"] is not None)
        assert set(scene["measures"]) >= {"sharpness", "fine_detail", "blockiness", "noise", "peak_motion"}
    kept = [e for e in scenes if e["decision"] == "kept"]
    assert {e["clip"] for e in kept} == {path.name for path in (out / "video").iterdir()}


def test_clips_are_the_frames_of_their_scenes(footage: Path, built: tuple[Path, DatasetSummary]) -> None:
    out, _ = built
    info = probe(footage / "two_scenes.mkv")
    frames = [frame.image for frame in VideoReader(info).frames()]
    kept = [entry for entry in read_decisions(out) if entry.get("clip")]
    assert [(entry["first_frame"], entry["num_frames"]) for entry in kept] == [(2, 26), (32, 26)]
    for entry in kept:
        clip = decode_frames(out / "video" / entry["clip"], 1000)
        crop = entry["crop"]
        rows = slice(crop["top"], crop["top"] + crop["height"])
        columns = slice(crop["left"], crop["left"] + crop["width"])
        assert len(clip) == entry["num_frames"]
        for image, stored in zip(frames[entry["first_frame"] :], clip, strict=False):
            levels = (image[:, rows, columns] * 255).round().permute(1, 2, 0).numpy()
            assert np.array_equal(levels, stored)


def test_training_reads_the_folder_as_it_is(built: tuple[Path, DatasetSummary]) -> None:
    out, summary = built
    library = SourceLibrary(out, DataConfig(hr_size=64))
    assert len(library.videos) == 2
    assert summary.memory_bytes == sum(video.nbytes for video in library.videos)
    assert library.sample(np.random.default_rng(0), 3).shape == (3, 3, 64, 64)


def test_contact_sheet_shows_what_was_kept_first(built: tuple[Path, DatasetSummary]) -> None:
    _, summary = built
    (sheet,) = summary.sheets
    with Image.open(sheet) as picture:
        frame_color, last_color = picture.getpixel((9, 9)), picture.getpixel((9 + 4 * 328, 9))
    assert isinstance(frame_color, tuple)
    assert isinstance(last_color, tuple)
    assert frame_color[1] > frame_color[0]  # green
    assert last_color[0] > last_color[1]  # red


def counting(access: MediaAccess, opened: list[str], *, fail_after: int | None = None) -> MediaAccess:
    """Notes which files are read; after so many of them, is interrupted in the middle of one."""

    class Reader(VideoReader):
        def __init__(self, info: MediaInfo, **options: Any) -> None:
            super().__init__(info, **options)
            opened.append(info.path.name)

        def frames(self, **position: Any) -> Iterator[Frame]:
            for number, frame in enumerate(super().frames(**position)):
                if fail_after is not None and len(opened) > fail_after and number == 5:
                    raise KeyboardInterrupt
                yield frame

    return replace(access, open_reader=Reader)


@pytest.fixture
def two_films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for name, seed in (("a", 21), ("b", 22)):
        write_film(folder / f"{name}.mkv", pan(texture(seed), 20))
    return folder


@pytest.mark.parametrize("fail_after", [1, 3])
def test_an_interrupted_build_goes_on_with_what_is_missing(
    two_films: Path, small_limits: DatasetConfig, tmp_path: Path, fail_after: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    build(two_films, whole, small_limits)
    opened: list[str] = []
    interrupted = counting(IN_THIS_PROCESS, opened, fail_after=fail_after)
    with pytest.raises(KeyboardInterrupt):
        build(two_films, out, small_limits, access=interrupted)
    assert {path.suffix for path in (out / "video").iterdir()} <= {".mkv"}  # nothing half written
    before, opened = opened, []
    build(two_films, out, small_limits, access=counting(IN_THIS_PROCESS, opened))
    assert opened == ["a.mkv", "b.mkv", "a.mkv", "b.mkv"][fail_after:]
    assert before[:fail_after] + opened == ["a.mkv", "b.mkv", "a.mkv", "b.mkv"]
    assert read_decisions(out) == read_decisions(whole)
    for clip in (whole / "video").iterdir():
        assert (out / "video" / clip.name).read_bytes() == clip.read_bytes()


def test_other_limits_read_nothing_anew_and_remove_what_they_refuse(
    two_films: Path, small_limits: DatasetConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(two_films, out, small_limits)
    others = out / "video" / "somebody-elses.mkv"
    others.write_bytes(b"kept")
    half = small_limits.model_copy(update={"quality": small_limits.quality.model_copy(update={"keep": 0.5})})
    opened: list[str] = []
    summary = build(two_films, out, half, access=counting(IN_THIS_PROCESS, opened))
    assert opened == []
    assert (summary.num_clips, summary.num_removed) == (1, 1)
    assert others.exists()
    assert "rank" in set().union(*reasons_of(read_decisions(out)).values())


def test_a_changed_film_is_read_again(two_films: Path, small_limits: DatasetConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(two_films, out, small_limits)
    write_film(two_films / "a.mkv", pan(texture(23), 20))
    os.utime(two_films / "a.mkv", (1, 1))
    opened: list[str] = []
    build(two_films, out, small_limits, access=counting(IN_THIS_PROCESS, opened))
    assert opened == ["a.mkv", "a.mkv"]  # to measure it, and for its clip


def test_a_film_that_vanishes_is_dropped_and_no_error(
    two_films: Path, small_limits: DatasetConfig, tmp_path: Path
) -> None:
    def probe_and_remove(path: Path) -> MediaInfo:
        info = probe(path)
        if path.name == "a.mkv":
            path.unlink()
        return info

    access = replace(IN_THIS_PROCESS, probe=probe_and_remove)
    summary = build(two_films, tmp_path / "out", small_limits, access=access)
    assert summary.num_clips == 1
    assert reasons_of(read_decisions(tmp_path / "out"))["a.mkv"] == {"damaged"}
    assert look_at(two_films / "a.mkv", probe).error_code == "unreadable_input"


def test_folders_of_others_and_missing_sources_are_refused(
    two_films: Path, small_limits: DatasetConfig, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetFolderError, match="holds other things"):
        build(two_films, taken, small_limits)
    with pytest.raises(TrainingDataError, match="does not exist"):
        build(tmp_path / "nowhere", tmp_path / "out", small_limits)
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "out").exists()


def test_command_builds_in_a_sandbox_and_names_what_is_wrong(two_films: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("metadata: {min_side: 4000, min_frames: 12}\n")
    out = tmp_path / "out"
    arguments = ["dataset", "build", str(two_films), str(out), "--config", str(limits)]
    built = CliRunner().invoke(app, [*arguments, "--min-side", "96", "--keep", "1", "--licence", "CC0-1.0"])
    assert built.exit_code == 0, built.output
    assert "2 clips of 2 scenes, from 2 of 2 sources" in built.stdout
    assert {e["licence"] for e in read_decisions(out) if e["kind"] == "source"} == {"CC0-1.0"}
    limits.write_text("metadata: {min_sides: 4000}\n")
    broken = CliRunner().invoke(app, arguments)
    assert broken.exit_code == 2
    assert "min_sides" in broken.stderr
