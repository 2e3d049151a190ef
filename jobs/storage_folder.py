"""Files of a storage that is a folder: whole and on the disk, or not there; and the room for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import StorageFullError
from jobs.syncing import make_synced_folder, sync


@contextmanager
def placing(target: Path, *, is_movable: bool = False) -> Iterator[Path]:
    """A place for the file that becomes `target` at the end of the block, on the disk and whole.

    Args:
        target: Where it goes; its folder is made.
        is_movable: Whether the file is the only one of its content, and stays where it is after an error.
    """
    part = target.with_name(f".{target.name}.part")
    make_synced_folder(target.parent)
    try:
        yield part
        sync(part)
        part.replace(target)
        sync(target.parent)
    except BaseException:
        if not is_movable:
            part.unlink(missing_ok=True)
        raise


def require_disk_room(folder: Path, num_bytes: int, *, min_free_bytes: int) -> None:
    """Makes sure that so many bytes fit on a folder's disk.

    Args:
        folder: On the disk.
        num_bytes: That are to be written.
        min_free_bytes: Room that is not to be used.

    Raises:
        StorageFullError: If they do not.
    """
    free = shutil.disk_usage(folder).free
    if free - num_bytes < min_free_bytes:
        raise StorageFullError(
            f"the storage has {free >> 20} MiB left, {min_free_bytes >> 20} MiB of them reserved; "
            f"{num_bytes >> 20} MiB more do not fit"
        )
