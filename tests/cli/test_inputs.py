from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import UsageError
from cli.inputs import Job, expand_inputs, output_names, plan_jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mkv", "a.mp4", "a.mov", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def test_one_file_to_one_file(folder: Path) -> None:
    out = folder / "out.mp4"
    assert plan_jobs([str(folder / "b.mkv"), str(out)]) == [Job(folder / "b.mkv", out)]


def test_one_file_to_a_folder(folder: Path) -> None:
    jobs = plan_jobs([str(folder / "b.mkv"), f"{folder}/new/"])
    assert jobs == [Job(folder / "b.mkv", folder / "new" / "b.mp4")]
    assert (folder / "new").is_dir()


def test_a_folder_gives_its_videos_and_no_output_covers_another(folder: Path) -> None:
    jobs = plan_jobs([str(folder), str(folder / "out")])
    assert [job.source.name for job in jobs] == ["a.mov", "a.mp4", "b.mkv"]
    assert [job.destination.name for job in jobs] == ["a-mov.mp4", "a-mp4.mp4", "b.mp4"]


def test_a_pattern_gives_what_matches(folder: Path) -> None:
    sources, is_single = expand_inputs([str(folder / "a.*")])
    assert [source.name for source in sources] == ["a.mov", "a.mp4"]
    assert not is_single


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").touch()
    assert expand_inputs([str(tmp_path / "a[1].mp4")]) == ([tmp_path / "a[1].mp4"], True)


def test_a_list_on_stdin_is_read_line_by_line_and_doubles_count_once(folder: Path) -> None:
    lines = [f"{folder}/a.mp4\n", "\n", f"{folder}/with space.mkv\r\n", f"{folder}/a.mp4"]
    sources, _ = expand_inputs(["-"], stdin=lines)
    assert [source.name for source in sources] == ["a.mp4", "with space.mkv"]


def test_equal_names_from_several_folders_are_numbered() -> None:
    sources = [Path("x/A.mp4"), Path("y/a.mp4"), Path("z/a"), Path("z/a-2.mp4")]
    names = output_names(sources)
    assert names == ["A-mp4.mp4", "a-mp4-2.mp4", "a.mp4", "a-2.mp4"]
    assert len({name.casefold() for name in names}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["only-one"], "IN"),
        (["a.mkv", "out.avi"], "should end in .mp4"),
        (["a.mkv", "b.mkv", "out.mp4"], "several inputs need a folder"),
        (["nothing-*.mkv", "out/"], "no file matches"),
        (["-", "out/"], "stdin is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        plan_jobs(arguments)


def test_an_input_is_never_replaced(folder: Path) -> None:
    with pytest.raises(UsageError, match="would replace an input"):
        plan_jobs([str(folder / "a.mp4"), str(folder / "b.mkv"), str(folder)])
    with pytest.raises(UsageError, match="would replace an input"):
        plan_jobs([str(folder / "a.mp4"), str(folder / "a.mp4")])
