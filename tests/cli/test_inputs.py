from __future__ import annotations

import io
import os
from pathlib import Path

import av
import pytest

from cli.errors import UsageError
from cli.inputs import VIDEO_SUFFIXES, FilePair, expand_inputs, output_names, pair_files
from media._open import _FORMATS

SOUND_OR_PICTURE = {
    *(".isma", ".m4a", ".m4b", ".mka", ".flac", ".mks"),
    *(".avif", ".heic", ".heif", ".mpo"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mkv", "a.mp4", "a.mov", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def test_one_file_to_one_file(folder: Path) -> None:
    out = folder / "out.mp4"
    assert pair_files([str(folder / "b.mkv"), str(out)]) == [FilePair(folder / "b.mkv", out)]


def test_one_file_to_a_folder(folder: Path) -> None:
    pairs = pair_files([str(folder / "b.mkv"), f"{folder}/new/"])
    assert pairs == [FilePair(folder / "b.mkv", folder / "new" / "b.mp4")]
    assert (folder / "new").is_dir()


def test_a_folder_gives_its_videos_and_no_output_covers_another(folder: Path) -> None:
    pairs = pair_files([str(folder), str(folder / "out")])
    assert [pair.source.name for pair in pairs] == ["a.mov", "a.mp4", "b.mkv"]
    assert [pair.destination.name for pair in pairs] == ["a-mov.mp4", "a-mp4.mp4", "b.mp4"]


def test_a_pattern_gives_what_matches(folder: Path) -> None:
    sources, is_single = expand_inputs([str(folder / "a.*")])
    assert [source.name for source in sources] == ["a.mov", "a.mp4"]
    assert not is_single


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").touch()
    assert expand_inputs([str(tmp_path / "a[1].mp4")]) == ([tmp_path / "a[1].mp4"], True)


def test_a_list_on_stdin_is_read_line_by_line_and_doubles_count_once(folder: Path) -> None:
    lines = f"{folder}/a.mp4\n\n{folder}/with space.mkv\r\n{folder}/a.mp4".encode()
    sources, _ = expand_inputs(["-"], stdin=io.BytesIO(lines))
    assert [source.name for source in sources] == ["a.mp4", "with space.mkv"]


def test_a_list_on_stdin_may_have_nuls_and_any_names() -> None:
    names = [b"a\nb.mp4", b" c.mp4 ", "\u00e9.mkv".encode(), b"\xff.mp4"]
    sources, _ = expand_inputs(["-"], stdin=io.BytesIO(b"\0".join(names) + b"\0"))
    assert [os.fsencode(source) for source in sources] == names


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x20ftypisom\0\0\2\0",
        b"\x1aE\xdf\xa3\x01\0",
        b"RIFF\x10\x20\x30\0AVI LIST",
        b"G@\0\x10\0\0\xb0\x0d",
        b"YUV4MPEG2 W64 H48 F25:1\nFRAME\n" + bytes(range(32, 127)),
        b"OggS\0\2\0\0",
        b"FLV\x01\5\0\0\0\x09",
        b"\0\0\1\xba",
    ],
)
def test_a_video_on_stdin_is_refused_at_its_start(head: bytes) -> None:
    stream = io.BytesIO(head + bytes(1 << 20))
    with pytest.raises(UsageError, match="no list of names"):
        expand_inputs(["-"], stdin=stream)
    assert stream.tell() <= 1 << 16


def test_a_folder_takes_all_that_a_probe_opens_and_names_the_rest(folder: Path) -> None:
    skipped: list[Path] = []
    (folder / "sub").mkdir()
    sources, _ = expand_inputs([str(folder)], on_skip=skipped.append)
    assert [source.name for source in sources] == ["a.mov", "a.mp4", "b.mkv"]
    assert [path.name for path in skipped] == ["notes.txt", "sub"]
    for name in _FORMATS.split(","):
        if name in ("mp3", "aac", "y4m"):  # sound; another name of yuv4mpegpipe
            continue
        extensions = {f".{extension}" for extension in av.ContainerFormat(name, "r").extensions}
        assert extensions - VIDEO_SUFFIXES <= SOUND_OR_PICTURE


def test_names_of_outputs_fit_the_file_system(tmp_path: Path) -> None:
    long = ["x" * 252 + ".ts", "x" * 252 + ".qt", "\u00fc" * 126 + ".rm", "y" * 251 + ".mp4"]
    names = output_names([Path(name) for name in long])
    assert len(set(names)) == 4
    assert names[3] == long[3]
    for name in names:
        (tmp_path / name).touch()
        assert name.endswith(".mp4")


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
        (["-"], "IN"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        pair_files(arguments, stdin=io.BytesIO())


def test_an_input_is_never_replaced(folder: Path) -> None:
    with pytest.raises(UsageError, match="would replace an input"):
        pair_files([str(folder / "a.mp4"), str(folder / "b.mkv"), str(folder)])
    with pytest.raises(UsageError, match="would replace an input"):
        pair_files([str(folder / "a.mp4"), str(folder / "a.mp4")])
