"""Building a data set: look at all files, read those that may be good, decide, write the clips.

Each file's record and each clip is whole once it has its name, so a build that was interrupted goes on with
what is missing; a film that was being read is read from its start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from media.errors import MediaError
from training.dataset.access import SourceAccess
from training.dataset.clips import clip_name, write_clip
from training.dataset.config import DatasetConfig
from training.dataset.contact_sheet import Tile, draw_sheets, part_tile, source_tile
from training.dataset.decisions import decision_lines
from training.dataset.examining import examine, measured_with, thumbnail_name
from training.dataset.folder import DECISIONS, DatasetFolder
from training.dataset.licences import LicenceBook
from training.dataset.metadata import look_at
from training.dataset.records import Examination, Reason, SourceFacts
from training.dataset.selection import PartDecision, PartKey, SourceDecision, decide, source_reasons
from training.errors import TrainingDataError

_SHEET = "contact-sheet"


@dataclass(frozen=True)
class DatasetSummary:
    """What a build has made.

    Attributes:
        num_sources: Files that were looked at.
        num_read: Files that were read, now or in an earlier build.
        num_scenes: Parts of scenes that were decided on.
        num_clips: Of these, kept.
        num_written: Of these, written now; the others were there.
        num_removed: Clips of an earlier build that are no longer chosen.
        num_unlicensed: Clips of sources whose licence nobody has said.
        memory_bytes: What `dovetail train` holds of them in memory.
        sheets: Pages of the contact sheet.
    """

    num_sources: int
    num_read: int
    num_scenes: int
    num_clips: int
    num_written: int
    num_removed: int
    num_unlicensed: int
    memory_bytes: int
    sheets: tuple[Path, ...]


def build_dataset(
    sources: Sequence[Path],
    out: Path,
    *,
    config: DatasetConfig,
    licences: LicenceBook,
    access: SourceAccess,
    on_progress: Callable[[str], None] = lambda line: None,
) -> DatasetSummary:
    """Makes a folder that `dovetail train --data` reads; goes on where an earlier build was interrupted.

    Args:
        sources: Files, and folders that are searched through.
        out: The folder of the data set.
        config: The limits.
        licences: What is said of sources.
        access: How files are read.
        on_progress: Told a line now and then.

    Raises:
        TrainingDataError: If there is no file.
        DatasetFolderError: If the folder holds something else, or cannot be written to.
    """
    paths = list_sources(sources, out)
    folder = DatasetFolder(out)
    cv2.setNumThreads(1)  # the reader's process takes the other cores
    read = _read_all(paths, folder, config, access, on_progress)
    decisions = decide(read, config)
    decisions, clips, num_written = _write_clips(decisions, folder, access, on_progress)
    num_removed = folder.remove_other_clips(set(clips.values()))
    with folder.writing(out / DECISIONS) as path, path.open("w", encoding="utf-8") as file:
        file.writelines(decision_lines(decisions, config, licences, clips))
    sheets = _write_sheets(decisions, folder)
    kept = [part for source in decisions for part in source.parts if part.is_kept]
    return DatasetSummary(
        num_sources=len(decisions),
        num_read=sum(source.examination is not None for source in decisions),
        num_scenes=sum(len(source.parts) for source in decisions),
        num_clips=len(kept),
        num_written=num_written,
        num_removed=num_removed,
        num_unlicensed=sum(not licences.of(Path(part.source)).licence for part in kept),
        memory_bytes=sum(_memory_bytes(part) for part in kept),
        sheets=sheets,
    )


def list_sources(sources: Sequence[Path], out: Path) -> list[Path]:
    """All files, each once, by absolute path; without hidden ones and those of the data set itself.

    Raises:
        TrainingDataError: If one that is named is missing, or there is none.
    """
    found: dict[Path, None] = {}
    own = out.resolve()
    for source in sources:
        if not source.exists():
            raise TrainingDataError(f"{source} does not exist; name video files, or folders with them")
        candidates = sorted(source.rglob("*")) if source.is_dir() else [source]
        for path in candidates:
            absolute = path.resolve()
            is_hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
            if absolute.is_file() and not is_hidden and not absolute.is_relative_to(own):
                found.setdefault(absolute)
    if not found:
        raise TrainingDataError(f"there is no file in {', '.join(map(str, sources))}")
    return list(found)


def _read_all(
    paths: Sequence[Path],
    folder: DatasetFolder,
    config: DatasetConfig,
    access: SourceAccess,
    on_progress: Callable[[str], None],
) -> list[tuple[SourceFacts, list[Reason], Examination | None]]:
    """What is known of all files; reads those that earlier builds have not."""
    seen: dict[str, str] = {}
    read: list[tuple[SourceFacts, list[Reason], Examination | None]] = []
    for number, path in enumerate(paths, start=1):
        facts = look_at(path, access.probe)
        reasons = source_reasons(facts, config, seen)
        label = f"[{number}/{len(paths)}] {path.name}"
        if reasons:
            on_progress(f"{label}: dropped, {', '.join(reason.code for reason in reasons)}")
            read.append((facts, reasons, None))
            continue
        examination = folder.load_examination(facts)
        if examination is None or not _still_holds(examination, facts, config):
            examination, thumbnails = examine(facts, config, access)
            folder.save_examination(examination, thumbnails)
            on_progress(f"{label}: {examination.num_frames} frames, {len(examination.parts)} parts of scenes")
        else:
            on_progress(f"{label}: read before")
        read.append((facts, reasons, examination))
    return read


def _still_holds(examination: Examination, facts: SourceFacts, config: DatasetConfig) -> bool:
    return examination.facts == facts and dict(examination.measured_with) == measured_with(config)


def _write_clips(
    decisions: Sequence[SourceDecision],
    folder: DatasetFolder,
    access: SourceAccess,
    on_progress: Callable[[str], None],
) -> tuple[list[SourceDecision], dict[PartKey, str], int]:
    """Writes what is missing; what can no longer be read is dropped after all."""
    clips: dict[PartKey, str] = {}
    num_written = 0
    written: list[SourceDecision] = []
    for source in decisions:
        parts: list[PartDecision] = []
        for part in source.parts:
            if part.crop is None:
                parts.append(part)
                continue
            name = clip_name(source.facts, part.part, part.crop)
            try:
                if not (folder.clips / name).exists():
                    with folder.writing(folder.clips / name) as path:
                        write_clip(path, source.facts, part.part, part.crop, access)
                    num_written += 1
                    on_progress(f"wrote {name}")
            except MediaError as error:
                reason = Reason(step="writing", code="changed", text=str(error))
                parts.append(replace(part, reasons=(reason,), crop=None))
                continue
            clips[part.key] = name
            parts.append(part)
        written.append(replace(source, parts=tuple(parts)))
    return written, clips, num_written


def _write_sheets(decisions: Sequence[SourceDecision], folder: DatasetFolder) -> tuple[Path, ...]:
    tiles: list[Tile] = []
    for source in decisions:
        if not source.parts:
            tiles.append(source_tile(source))
        for decision in source.parts:
            name = thumbnail_name(decision.part.scene, decision.part.part)
            tiles.append(part_tile(source, decision, folder.thumbnail(source.facts, name)))
    for old in folder.root.glob(f"{_SHEET}-*.png"):
        old.unlink()
    sheets = []
    for number, sheet in enumerate(draw_sheets(tiles), start=1):
        destination = folder.root / f"{_SHEET}-{number:02d}.png"
        with folder.writing(destination) as path:
            sheet.save(path)
        sheets.append(destination)
    return tuple(sheets)


def _memory_bytes(part: PartDecision) -> int:
    assert part.crop is not None
    return 3 * part.crop.width * part.crop.height * part.part.num_frames
