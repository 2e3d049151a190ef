"""Files that a process may not or cannot open, read by their paths all the same.

A child of root becomes another user, who may not go where the input lies; without Landlock nothing else may
be left to it. So it opens its inputs first. Demuxers, Pillow and our own code open them by path, some again
and again at places of their own, and a descriptor has one place: each opening here is a view of the
descriptor with its own. Files that lie elsewhere (`_served_files.py`) are read the same way. The paths
themselves are answered by the three functions that everything in `media` comes through; where a path can be
opened after all, they do what they always did.
"""

import builtins
import errno
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from media.sandbox._served_files import ServedFile


class HandedFiles:
    """Files by path, opened now.

    Args:
        paths: Absolute; folders, and what cannot be opened, are passed over.
        served: Files that lie elsewhere, by the paths they are to have.
    """

    def __init__(self, paths: Iterable[Path], served: Mapping[Path, ServedFile]) -> None:
        self._opened: dict[str, _OpenedFile] = {}
        self._served = {str(path): file for path, file in served.items()}
        self._absent: set[str] = set()
        for path in paths:
            if not path.exists():
                self._absent.add(str(path))
            elif path.is_file() and str(path) not in self._opened:
                self._opened[str(path)] = _OpenedFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def __len__(self) -> int:
        return len(self._opened)

    def answer_paths(self) -> None:
        """From now on, open these files by their paths whoever this process is."""
        import av

        av_module: Any = av
        plain_open, plain_stat, plain_av_open = builtins.open, os.stat, av_module.open

        def open_handed(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            found: _File | None = self._find_served(file)
            if found is None:
                try:
                    return plain_open(file, mode, *arguments, **options)
                except PermissionError:
                    found = self._find_opened(file)
                    if found is None or mode != "rb":
                        raise
            return io.BufferedReader(_View(found, os.fspath(file)))

        def stat_handed(path: Any, **options: Any) -> os.stat_result:
            found: _File | None = self._find_served(path)
            if found is None:
                try:
                    return plain_stat(path, **options)
                except PermissionError:
                    found = self._find_opened(path)
                    if found is None:
                        raise
            return found.stat()

        def av_open_handed(file: Any, mode: str | None = None, **options: Any) -> Any:
            found: _File | None = self._find_served(file)
            if found is None and mode in (None, "r"):
                opened = self._find_opened(file)
                found = opened if opened is not None and not os.access(file, os.R_OK) else None
            if found is not None:
                return plain_av_open(_View(found, str(file)), mode, **options)
            return plain_av_open(file, mode, **options)

        builtins.open = io.open = open_handed
        os.stat = stat_handed
        av_module.open = av_open_handed

    def _find_served(self, path: Any) -> ServedFile | None:
        return self._served.get(str(path)) if isinstance(path, (str, Path)) else None

    def _find_opened(self, path: Any) -> "_OpenedFile | None":
        if not isinstance(path, (str, Path)):
            return None
        if str(path) in self._absent:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._opened.get(str(path))


class _OpenedFile:
    """A file as a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, buffer: Any, position: int) -> int:
        return os.preadv(self._descriptor, [buffer], position)

    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)


_File: TypeAlias = _OpenedFile | ServedFile


class _View(io.RawIOBase):
    """One opening of a file, with a place of its own."""

    def __init__(self, file: _File, name: str) -> None:
        self.name = name
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.read_into(buffer, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._file.stat().st_size,
        }
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position
