"""From the arguments IN... OUT to pairs of an input file and an output file."""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.errors import UsageError
from cli.listed_names import read_names
from media.containers import OUTPUT_SUFFIXES
from media.derived_names import fitted_name
from media.errors import MediaError
from media.picture_files import (
    PICTURE_SUFFIXES,
    SOURCE_SUFFIXES,
    is_frame_pattern,
    is_picture_name,
    is_sequence_pattern,
    is_still,
    numbered_pictures,
    pictures_of_folder,
    still_suffix,
)

STDIN = "-"

# For folders only; a file that is named is tried whatever it is called.
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avc", ".avi", ".dif", ".divx", ".dv", ".evo", ".f4v",
    ".flv", ".gif", ".h264", ".h265", ".h26l", ".hevc", ".ism", ".ismv", ".ivf", ".m1v", ".m2p", ".m2t",
    ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mpe",
    ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogm", ".ogv", ".ogx", ".psp", ".qt",
    ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vob", ".vro", ".webm", ".wmv", ".wtv", ".y4m",
})  # fmt: skip


@dataclass(frozen=True)
class FilePair:
    """An input and where its output goes.

    Attributes:
        source: A file, or what `pictures` were named by: a pattern, or their folder.
        destination: The output.
        pictures: The frames of the video, where it is to be made of pictures.
    """

    source: Path
    destination: Path
    pictures: tuple[Path, ...] = ()


def pair_files(
    arguments: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    takes_pictures: bool = False,
    on_skip: Callable[[Path], None] = lambda path: None,
) -> list[FilePair]:
    """Pairs inputs with outputs; makes the output folder if there is to be one.

    Args:
        arguments: Inputs (files, folders, glob patterns, numbered pictures such as "%04d.png", "-" for a
            list on stdin), then the output: a name ending in .mp4 or, for a still, like a picture; or a
            folder.
        stdin: Read for "-"; None is this process's.
        takes_pictures: Whether stills may become stills, and pictures the frames of a video.
        on_skip: Told what lies in a named folder and is not taken.

    Raises:
        UsageError: If there is no input or output, or an output would replace an input.
    """
    *inputs, output = arguments
    if not inputs:
        raise UsageError("give at least one input and the output: dovetail upscale IN... OUT")
    pictures = _pictures_of_video(inputs, output) if takes_pictures else ()
    if pictures:
        return [FilePair(Path(inputs[0]), Path(output), pictures)]
    sources, is_single = expand_inputs(inputs, stdin=stdin, takes_pictures=takes_pictures, on_skip=on_skip)
    if is_single and not is_folder_name(output):
        pairs = [FilePair(sources[0], _output_name(output, sources[0], takes_pictures=takes_pictures))]
    else:
        folder = _output_folder(output)
        names = output_names(sources, takes_pictures=takes_pictures)
        pairs = [FilePair(source, folder / name) for source, name in zip(sources, names, strict=True)]
    _refuse_to_replace_inputs(pairs)
    return pairs


def _pictures_of_video(inputs: Sequence[str], output: str) -> tuple[Path, ...]:
    """The pictures that are to be the frames of one video: a numbered series, or a folder with nothing else
    where the output is a video; else none."""
    if len(inputs) != 1:
        return ()
    if is_sequence_pattern(inputs[0]):
        if is_folder_name(output) or not _is_video_output(output):
            raise UsageError(
                f"the pictures {inputs[0]} become one video: {output!r} should end in "
                f"{', '.join(OUTPUT_SUFFIXES)} or %06d.png"
            )
        try:
            return numbered_pictures(inputs[0])
        except MediaError as error:
            raise UsageError(str(error)) from error
    if Path(inputs[0]).is_dir() and not is_folder_name(output) and _is_video_output(output):
        return pictures_of_folder(Path(inputs[0])) or ()
    return ()


def expand_inputs(
    inputs: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    takes_pictures: bool = False,
    on_skip: Callable[[Path], None] = lambda path: None,
) -> tuple[list[Path], bool]:
    """Finds the input files; of folders the videos, and the pictures where they are taken.

    Args:
        inputs: As for `pair_files`, without the output.
        stdin: As for `pair_files`.
        takes_pictures: As for `pair_files`.
        on_skip: As for `pair_files`; hidden files are passed over in silence.

    Returns:
        The files, each once, and whether they were named as exactly one file.

    Raises:
        UsageError: If a folder, pattern or list has no files.
    """
    sources: list[Path] = []
    for name in inputs:
        if name == STDIN:
            found = read_names(stdin or sys.stdin.buffer)
        elif Path(name).is_dir():
            suffixes = VIDEO_SUFFIXES | SOURCE_SUFFIXES if takes_pictures else VIDEO_SUFFIXES
            entries = sorted(path for path in Path(name).iterdir() if not path.name.startswith("."))
            found = []
            for path in entries:
                if path.suffix.lower() in suffixes and path.is_file():
                    found.append(path)
                else:
                    on_skip(path)
            _require(
                found, f"the folder {name} has no {'videos or pictures' if takes_pictures else 'video files'}"
            )
        elif not Path(name).exists() and glob.has_magic(name):
            names = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            found = [Path(found) for found in sorted(names) if Path(found).is_file()]
            _require(found, f"no file matches {name}")
        else:
            found = [Path(name)]
        sources += found
    is_single = len(inputs) == 1 and sources == [Path(inputs[0])]
    return list(dict.fromkeys(sources)), is_single


def output_names(sources: Sequence[Path], *, takes_pictures: bool = False) -> list[str]:
    """A file name for each input, all different even where case does not count.

    "a.mkv" gives "a.mp4"; where "a.mov" is there too, "a-mkv.mp4" and "a-mov.mp4"; equal names from several
    folders are numbered. Stills keep their ending where we write it.
    """
    stems = Counter(source.stem.casefold() for source in sources)
    names: list[str] = []
    taken: set[str] = set()
    here = Path()  # whose longest name is that of nearly all folders
    for source in sources:
        base = source.stem
        if stems[base.casefold()] > 1:
            base = f"{source.stem}-{source.suffix.lstrip('.')}" if source.suffix else source.stem
        suffix = still_suffix(source) if takes_pictures and is_still(source) else ".mp4"
        name, number = fitted_name(base, suffix, folder=here), 1
        while name.casefold() in taken:
            number += 1
            name = fitted_name(base, f"-{number}{suffix}", folder=here)
        taken.add(name.casefold())
        names.append(name)
    return names


def is_folder_name(output: str) -> bool:
    """Whether an output argument means a folder: it is one, or it ends like one."""
    return output.endswith(("/", "\\")) or Path(output).is_dir()


def _is_video_output(output: str, *, takes_pictures: bool = True) -> bool:
    path = Path(output)
    return path.suffix.lower() in OUTPUT_SUFFIXES or (takes_pictures and is_frame_pattern(path))


def _output_name(output: str, source: Path, *, takes_pictures: bool) -> Path:
    """The output of one input, a still or a video."""
    path = Path(output)
    if _is_video_output(output, takes_pictures=takes_pictures):
        return path
    endings = [*OUTPUT_SUFFIXES]
    if takes_pictures:
        endings.append("%06d.png")
        if is_still(source):
            if is_picture_name(path):
                return path
            endings += sorted(PICTURE_SUFFIXES)
    raise UsageError(
        f"the output {output!r} should end in {', '.join(endings)}, or in / if it is meant to be a folder"
    )


def _output_folder(output: str) -> Path:
    folder = Path(output)
    if (_is_video_output(output) or is_picture_name(folder)) and not folder.is_dir():
        raise UsageError(f"several inputs need a folder for their outputs, {output!r} is a file name")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{output!r} is a file; several inputs need a folder for their outputs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder


def _refuse_to_replace_inputs(pairs: Sequence[FilePair]) -> None:
    sources = {pair.source.resolve() for pair in pairs}
    for pair in pairs:
        if pair.destination.resolve() in sources:
            raise UsageError(
                f"the output {pair.destination} would replace an input; choose another name or folder"
            )


def _require(found: list[Path], message: str) -> None:
    if not found:
        raise UsageError(message)
