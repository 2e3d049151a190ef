"""Files that a process opened before it gave up the right to open them, read by their old paths.

A child of root becomes another user, who may not go where the input lies; without Landlock nothing else may
be left to it. So it opens its inputs first. Demuxers, Pillow and our own code open them by path, some again
and again at places of their own, and a descriptor has one place: each opening here is a view of the
descriptor with its own. The paths themselves are answered by the three functions that everything in `media`
comes through; where a path can be opened after all, they do what they always did.
"""

import builtins
import errno
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class HandedFiles:
    """Descriptors of files, opened now.

    Args:
        paths: Absolute; folders, and what cannot be opened, are passed over.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._descriptors: dict[str, int] = {}
        self._absent: set[str] = set()
        for path in paths:
            if not path.exists():
                self._absent.add(str(path))
            elif path.is_file() and str(path) not in self._descriptors:
                self._descriptors[str(path)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        return len(self._descriptors)

    def answer_paths(self) -> None:
        """From now on, open these files by their paths whoever this process is."""
        import av

        av_module: Any = av
        plain_open, plain_stat, plain_av_open = builtins.open, os.stat, av_module.open

        def open_handed(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            try:
                return plain_open(file, mode, *arguments, **options)
            except PermissionError:
                descriptor = self._find(file)
                if descriptor is None or mode != "rb":
                    raise
            return io.BufferedReader(_View(descriptor, os.fspath(file)))

        def stat_handed(path: Any, **options: Any) -> os.stat_result:
            try:
                return plain_stat(path, **options)
            except PermissionError:
                descriptor = self._find(path)
                if descriptor is None:
                    raise
            return os.fstat(descriptor)

        def av_open_handed(file: Any, mode: str | None = None, **options: Any) -> Any:
            descriptor = self._find(file)
            if descriptor is not None and mode in (None, "r") and not os.access(file, os.R_OK):
                return plain_av_open(_View(descriptor, str(file)), mode, **options)
            return plain_av_open(file, mode, **options)

        builtins.open = io.open = open_handed
        os.stat = stat_handed
        av_module.open = av_open_handed

    def _find(self, path: Any) -> int | None:
        if not isinstance(path, (str, Path)):
            return None
        if str(path) in self._absent:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._descriptors.get(str(path))


class _View(io.RawIOBase):
    """One opening of a descriptor."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: os.fstat(self._descriptor).st_size,
        }
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position
