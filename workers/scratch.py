"""A folder for a worker's files of the moment. What a killed worker left is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "worker-"
_LOCK_NAME = "lock"


def scratch_base(base: Path | None) -> Path:
    """Where the folders of all of this user's workers are, if nothing else is said."""
    return base or Path(tempfile.gettempdir()) / f"dovetail-{os.getuid()}"


@contextmanager
def own_folder(base: Path | None) -> Iterator[Path]:
    """Makes a folder for this process alone, and removes it afterwards.

    Args:
        base: Where; None is the system's folder for temporary files.

    Raises:
        OSError: If it cannot be made.
    """
    base = scratch_base(base)
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_left(base)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        with (folder / _LOCK_NAME).open("w") as lock:
            # The kernel drops it when the process dies, however it dies; and it says nothing wrong where
            # several containers share the folder, as a process id would.
            with contextlib.suppress(OSError):  # a file system without locks; nothing left is removed there
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _LOCK_NAME).exists():
                continue  # another process took it for a left one before it was locked
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def _remove_left(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK_NAME).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, just being made, somebody else's, or nothing tells
