"""From the arguments IN... OUT to pairs of an input file and an output file."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import UsageError

STDIN = "-"

# For folders only; a file that is named is tried whatever it is called.
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".ivf",
    ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu",
    ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
})  # fmt: skip


@dataclass(frozen=True)
class Job:
    """An input and where its output goes."""

    source: Path
    destination: Path


def plan_jobs(arguments: Sequence[str], *, stdin: Iterable[str] = ()) -> list[Job]:
    """Pairs inputs with outputs; makes the output folder if there is to be one.

    Args:
        arguments: Inputs (files, folders, glob patterns, "-" for a list on stdin), then the output: a name
            ending in .mp4, or a folder.
        stdin: Lines to read for "-".

    Raises:
        UsageError: If there is no input or output, or an output would replace an input.
    """
    *inputs, output = arguments
    if not inputs:
        raise UsageError("give at least one input and the output: dovetail upscale IN... OUT")
    sources, is_single = expand_inputs(inputs, stdin=stdin)
    if is_single and not is_folder_name(output):
        jobs = [Job(sources[0], _mp4_name(output))]
    else:
        folder = _output_folder(output)
        jobs = [
            Job(source, folder / name) for source, name in zip(sources, output_names(sources), strict=True)
        ]
    _refuse_to_replace_inputs(jobs)
    return jobs


def expand_inputs(inputs: Sequence[str], *, stdin: Iterable[str] = ()) -> tuple[list[Path], bool]:
    """Finds the input files.

    Returns:
        The files, each once, and whether they were named as exactly one file.

    Raises:
        UsageError: If a folder, pattern or list has no files.
    """
    sources: list[Path] = []
    for name in inputs:
        if name == STDIN:
            found = [Path(line.rstrip("\r\n")) for line in stdin if line.strip()]
            _require(found, "the list on stdin is empty; write one path per line")
        elif Path(name).is_dir():
            found = sorted(path for path in Path(name).iterdir() if _is_video_name(path))
            _require(found, f"the folder {name} has no video files")
        elif not Path(name).exists() and glob.has_magic(name):
            names = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            found = [Path(found) for found in sorted(names) if Path(found).is_file()]
            _require(found, f"no file matches {name}")
        else:
            found = [Path(name)]
        sources += found
    is_single = len(inputs) == 1 and sources == [Path(inputs[0])]
    return list(dict.fromkeys(sources)), is_single


def output_names(sources: Sequence[Path]) -> list[str]:
    """A file name for each input, all different even where case does not count.

    "a.mkv" gives "a.mp4"; where "a.mov" is there too, "a-mkv.mp4" and "a-mov.mp4"; equal names from several
    folders are numbered.
    """
    stems = Counter(source.stem.casefold() for source in sources)
    names: list[str] = []
    taken: set[str] = set()
    for source in sources:
        base = source.stem
        if stems[base.casefold()] > 1:
            base = f"{source.stem}-{source.suffix.lstrip('.')}" if source.suffix else source.stem
        name, number = f"{base}.mp4", 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}.mp4"
        taken.add(name.casefold())
        names.append(name)
    return names


def is_folder_name(output: str) -> bool:
    """Whether an output argument means a folder: it is one, or it ends like one."""
    return output.endswith(("/", "\\")) or Path(output).is_dir()


def _mp4_name(output: str) -> Path:
    path = Path(output)
    if path.suffix.lower() != ".mp4":
        raise UsageError(
            f"the output is an MP4 file: {output!r} should end in .mp4, or in / if it is meant to be a folder"
        )
    return path


def _output_folder(output: str) -> Path:
    folder = Path(output)
    if folder.suffix.lower() == ".mp4" and not folder.is_dir():
        raise UsageError(f"several inputs need a folder for their outputs, {output!r} is a file name")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{output!r} is a file; several inputs need a folder for their outputs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder


def _refuse_to_replace_inputs(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.destination.resolve() in sources:
            raise UsageError(
                f"the output {job.destination} would replace an input; choose another name or folder"
            )


def _is_video_name(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _require(found: list[Path], message: str) -> None:
    if not found:
        raise UsageError(message)
