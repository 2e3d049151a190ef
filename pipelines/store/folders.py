"""The store: a folder with one folder per pulled model. Models appear whole and vanish whole.

```
NAME/store.json, NAME/...     a model
.partial/NAME/SOURCE/         what has come so far of a pull
.replaced/NAME/               the model that a pull is replacing, or that is being removed
.locks/NAME                   held by who changes the model
```
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.store.errors import DamagedModelError, NotPulledError, folder_error
from pipelines.store.names import check_name, is_name
from pipelines.store.records import RECORD_NAME, StoredFile, StoredModel, read_record

_logger = logging.getLogger(__name__)


class ModelStore:
    """Pulled models in a folder, which is made when the first one comes.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Names of all pulled models, damaged ones too.

        Raises:
            StoreFolderError: If the folder cannot be read.
        """
        return _names_in(self.folder)

    def unfinished(self) -> dict[str, int]:
        """Bytes on the disk of pulls that did not end, by the model's name.

        Raises:
            StoreFolderError: If the folder cannot be read.
        """
        partial = self.folder / ".partial"
        sizes = {name: _size_of(partial / name) for name in _names_in(partial)}
        return {name: size for name, size in sizes.items() if size}

    def path(self, name: str) -> Path:
        """Where a model of that name is, if there is one.

        Raises:
            ModelNameError: If no model can have that name.
        """
        return self.folder / check_name(name)

    def read(self, name: str) -> StoredModel:
        """What is known about a model.

        Raises:
            NotPulledError: If there is none of that name.
            DamagedModelError: If its record cannot be read.
        """
        if not is_name(name) or not self.path(name).is_dir():
            known = ", ".join(self.names()) or "none"
            raise NotPulledError(f"no model {name!r} was pulled into {self.folder}; there are: {known}")
        return read_record(self.path(name))

    def verify(self, name: str) -> list[str]:
        """Reads a model's files again and compares them with what was pulled.

        Returns:
            A line about each file that is missing, changed or was added; none if all is well.

        Raises:
            NotPulledError: If there is none of that name.
            DamagedModelError: If its record cannot be read.
        """
        record, folder = self.read(name), self.path(name)
        problems = []
        for file in record.files:
            if problem := _problem_of(folder / file.path, file):
                problems.append(f"{file.path} {problem}")
        added = files_in(folder) - {file.path for file in record.files} - {RECORD_NAME}
        return problems + [f"{path} was not pulled" for path in sorted(added)]

    def remove(self, name: str) -> None:
        """Deletes a model, and what has come of an unfinished pull of that name. Needs the lock.

        Raises:
            NotPulledError: If there is neither.
            StoreFolderError: If it cannot be deleted.
        """
        if name not in self.names() and name not in self.unfinished():
            self.read(name)
        try:
            self._put_aside(name)
            _delete(self.folder / ".partial" / name)
            _delete(self.folder / ".replaced" / name)
        except OSError as error:
            raise folder_error(error, self.folder) from error

    def partial_folder(self, name: str, source: str) -> Path:
        """Makes the folder for what comes of a pull; another source of the same name has another one.

        Raises:
            ModelNameError: If no model can have that name.
            StoreFolderError: If it cannot be made.
        """
        key = hashlib.sha256(source.encode()).hexdigest()[:16]
        folder = self.folder / ".partial" / check_name(name) / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder_error(error, folder) from error
        return folder

    def install(self, partial: Path, record: StoredModel) -> None:
        """Gives a pulled folder its name, at once and only when all is on the disk. Needs the lock.

        Files that the record does not list are deleted first; a model of that name is replaced.

        Raises:
            StoreFolderError: If it cannot be done.
        """
        try:
            for path in files_in(partial) - {file.path for file in record.files}:
                (partial / path).unlink()
            with (partial / RECORD_NAME).open("w", encoding="utf-8") as file:
                file.write(record.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
                _sync_folder(folder)
            self._put_aside(record.name)
            partial.rename(self.path(record.name))
            _sync_folder(self.folder)
            _delete(self.folder / ".replaced" / record.name)
            _delete(self.folder / ".partial" / record.name)
        except OSError as error:
            raise folder_error(error, self.folder) from error

    @contextmanager
    def locked(self, name: str, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the right to change a model of that name, among all processes.

        Args:
            name: Of the model.
            on_wait: Called when somebody else has it, before waiting.

        Raises:
            ModelNameError: If no model can have that name.
            StoreFolderError: If the store's folder cannot be written.
        """
        path = self.folder / ".locks" / check_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("a")
        except OSError as error:
            raise folder_error(error, path) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                _logger.warning("%s has no locks (%s): pull one model at a time", self.folder, error.strerror)
            self._bring_back(name)
            yield

    def _put_aside(self, name: str) -> None:
        if self.path(name).is_dir():
            aside = self.folder / ".replaced" / name
            aside.parent.mkdir(exist_ok=True)
            _delete(aside)
            self.path(name).rename(aside)

    def _bring_back(self, name: str) -> None:
        """Undoes what a process that died left half done."""
        aside = self.folder / ".replaced" / name
        try:
            if aside.is_dir() and not self.path(name).exists() and (aside / RECORD_NAME).is_file():
                aside.rename(self.path(name))
            _delete(aside)
        except OSError as error:
            raise folder_error(error, aside) from error


def find_pulled(name: str, *, folder: Path) -> Path | None:
    """Finds a pulled model: the folder of a checkpoint, or the file of a network.

    Digests are not computed, sizes are compared.

    Args:
        name: As given to `--model`.
        folder: Of the store; need not exist.

    Raises:
        DamagedModelError: If a model of that name was pulled and is not whole any more.
    """
    store = ModelStore(folder)
    if not is_name(name) or not store.path(name).is_dir():
        return None
    record, place = store.read(name), store.path(name)
    for file in record.files:
        path = place / file.path
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise DamagedModelError(
                f"{path} of the pulled model {name!r} is missing or cut; 'dovetail models verify {name}' "
                "says more, pulling it again with --overwrite mends it",
                path=path,
            )
    return place if record.kind == "checkpoint" else place / record.files[0].path


def files_in(folder: Path) -> set[str]:
    """Paths of all files in a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if is_name(path.name) and path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise folder_error(error, folder) from error


def _size_of(folder: Path) -> int:
    return sum((folder / path).lstat().st_size for path in files_in(folder))


def _problem_of(path: Path, pulled: StoredFile) -> str | None:
    """In what a file is not the one that was pulled."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != pulled.size_bytes:
                return f"has {size} bytes, pulled were {pulled.size_bytes}"
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None if digest == pulled.sha256 else f"has SHA-256 {digest}, pulled was {pulled.sha256}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(folder: Path) -> None:
    """Deletes a folder if it is there; of a link to one, only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
