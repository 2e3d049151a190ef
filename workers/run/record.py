"""What an unfinished run remembers on disk, so that another process can continue it.

The work folder `<output>.dovetail` lies beside the output and holds finished segments and `run.json`.
The file is replaced as a whole after each segment: whatever kills the process, it describes segments that
exist.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.values import Value
from media.derived_names import beside
from workers.errors import DiskFullError, OutputFolderError, is_disk_full

RECORD_NAME = "run.json"
RECORD_VERSION = 2

# Enough to notice another file of the same size; a whole film would take minutes to read.
_DIGEST_BYTES = 1 << 20


class InputIdentity(Value):
    """Tells one input file from another without reading all of it.

    Attributes:
        size_bytes: Size.
        mtime_ns: Time of the last change.
        sha256: Digest of the first and last MiB.
    """

    size_bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> InputIdentity:
        """Looks at a file.

        Raises:
            OSError: If it cannot be read.
        """
        status = path.stat()
        digest = hashlib.sha256()
        with path.open("rb") as file:
            digest.update(file.read(_DIGEST_BYTES))
            if status.st_size > _DIGEST_BYTES:
                file.seek(max(_DIGEST_BYTES, status.st_size - _DIGEST_BYTES))
                digest.update(file.read(_DIGEST_BYTES))
        return cls(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest.hexdigest())


class ResumePoint(Value):
    """Where to go on after a segment.

    Frames that two chunks share at the border are made again from both, so the first chunk may begin before
    it. The cut detector compares with the frame before, so reading may begin before that.

    Attributes:
        next_frame: Number of the first frame of the next segment.
        chunk_frame: Number of the frame where the first chunk begins, at most `next_frame`.
        read_frame: Number of the frame where reading begins, at most `chunk_frame`.
        read_pts: Its pts.
        cut_history: State of the cut detector after that frame.
    """

    next_frame: int
    chunk_frame: int
    read_frame: int
    read_pts: int
    cut_history: tuple[float, ...] = ()


class SegmentRecord(Value):
    """A finished segment.

    Attributes:
        names: Files in the work folder: the video, and the comparison video if there is one.
        num_frames: Frames in it.
        first_pts: Pts of the first frame.
        end_pts: End of the last frame.
        resume: Where the next segment begins; None after the last one.
    """

    names: tuple[str, ...]
    num_frames: int
    first_pts: int
    end_pts: int
    resume: ResumePoint | None


class RunRecord(Value):
    """Contents of `run.json`.

    Attributes:
        version: Of this layout.
        input: The input file.
        options: Everything that shapes the output, by name, as JSON values.
        plan: Chunks and tiles of the run; a continued run keeps them whatever memory is free then.
        encoding: The encoder's complete settings, which another version of the program may choose
            differently.
        segments: Finished segments in order.
    """

    version: int = RECORD_VERSION
    input: InputIdentity
    options: dict[str, Any]
    plan: dict[str, Any]
    encoding: dict[str, Any]
    segments: tuple[SegmentRecord, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all segments are there and only the join is left."""
        return bool(self.segments) and self.segments[-1].resume is None

    @property
    def num_frames(self) -> int:
        """Frames in finished segments."""
        return sum(segment.num_frames for segment in self.segments)

    def with_segment(self, segment: SegmentRecord) -> RunRecord:
        return self.model_copy(update={"segments": (*self.segments, segment)})

    def differences(self, other: RunRecord) -> list[str]:
        """What keeps `other` from being continued as this run: one line per value. Segments and plan do not
        count."""
        found = [
            f"the input's {name} was {_show(name, before)} and is {_show(name, after)}"
            for name, before, after in changed_values(self.input.model_dump(), other.input.model_dump())
        ]
        for what, mine, others in (
            ("option", self.options, other.options),
            ("encoder setting", self.encoding, other.encoding),
        ):
            found += [
                f"{what} {name} was {before!r} and is {after!r}"
                for name, before, after in changed_values(mine, others)
            ]
        return found

    def save(self, folder: Path) -> None:
        """Writes the file, all or nothing.

        Raises:
            DiskFullError: If there is no room.
            OutputFolderError: If it cannot be written for another reason.
        """
        path = folder / RECORD_NAME
        part = beside(path, ".part")
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(self.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            error_class = DiskFullError if is_disk_full(error) else OutputFolderError
            raise error_class(f"cannot write {path}: {error.strerror or error}") from error


def load_record(folder: Path) -> RunRecord | None:
    """Reads the record of a work folder; None if it has none (the run died before its first segment).

    Raises:
        OutputFolderError: If the file is damaged, of another version or cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputFolderError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        record = RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise OutputFolderError(
            f"{path} is damaged or from another version ({error.error_count()} problems); start again with "
            "--overwrite"
        ) from error
    if record.version != RECORD_VERSION:
        raise OutputFolderError(
            f"{path} has version {record.version}, this program continues version {RECORD_VERSION}; "
            "start again with --overwrite"
        )
    return record


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value before and value after, for each that differs; None where one is absent."""
    names = [*before, *(name for name in after if name not in before)]
    return [
        (name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    ]


def _show(name: str, value: Any) -> str:
    return f"{value[:12]}..." if name == "sha256" else str(value)
