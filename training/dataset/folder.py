"""The folder of a data set: what lies where, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from training.dataset.records import Examination, SourceFacts
from training.errors import DatasetDiskFullError, DatasetFolderError

CLIPS = "video"
"""Where `dovetail train` looks for videos."""
DECISIONS = "decisions.jsonl"
_EXAMINED, _PARTIAL = "examined", "partial"
_OUR_CLIP = re.compile(r".+-[0-9a-f]{12}\.mkv")


class DatasetFolder:
    """A folder that data sets are built into.

    Args:
        root: New, empty, or of an earlier build.

    Raises:
        DatasetFolderError: If it holds something else, or cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clips, self._examined = root / CLIPS, root / _EXAMINED
        self._partial = self._examined / _PARTIAL
        if root.exists() and not root.is_dir():
            raise DatasetFolderError(f"{root} is a file; a data set needs a folder")
        if root.is_dir() and any(root.iterdir()) and not self._examined.is_dir():
            raise DatasetFolderError(
                f"{root} holds other things than a data set of this command; name a new or empty folder"
            )
        with reported_disk_errors(root):
            # First, as it is what a folder of ours is known by.
            self._examined.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()
            self.clips.mkdir(exist_ok=True)

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Gives a name to write to; the file gets its own when the block ends without an error."""
        partial = self._partial / path.name
        with reported_disk_errors(path):
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            path.parent.mkdir(exist_ok=True)
            partial.replace(path)

    def load_examination(self, facts: SourceFacts) -> Examination | None:
        """What an earlier build found in a file; None where there is nothing, or of another version."""
        try:
            return Examination.model_validate_json(self._record(facts).read_bytes())
        except (OSError, ValidationError):
            return None

    def save_examination(self, examination: Examination, thumbnails: Mapping[str, bytes]) -> None:
        """Keeps what was found in a file. The record comes last: with it, all is there."""
        for name, jpeg in thumbnails.items():
            with self.writing(self.thumbnail(examination.facts, name)) as path:
                path.write_bytes(jpeg)
        with self.writing(self._record(examination.facts)) as path:
            path.write_text(examination.model_dump_json(indent=1), encoding="utf-8")

    def thumbnail(self, facts: SourceFacts, name: str) -> Path:
        """Where the picture of a part lies."""
        return self._record(facts).with_suffix("") / name

    def remove_other_clips(self, names: set[str]) -> int:
        """Removes clips of earlier builds that are not named. Files of others stay.

        Returns:
            How many there were.
        """
        old = [p for p in self.clips.iterdir() if _OUR_CLIP.fullmatch(p.name) and p.name not in names]
        for path in old:
            path.unlink()
        return len(old)

    def _record(self, facts: SourceFacts) -> Path:
        return self._examined / f"{hashlib.sha256(facts.path.encode()).hexdigest()[:16]}.json"


@contextmanager
def reported_disk_errors(path: Path) -> Iterator[None]:
    """Says of an error of the disk where it was.

    Raises:
        DatasetDiskFullError: If there is no room.
        DatasetFolderError: For every other error of the disk.
    """
    try:
        yield
    except OSError as error:
        kind = DatasetDiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else DatasetFolderError
        raise kind(f"cannot write {path}: {error.strerror or error}") from error
