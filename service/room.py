"""Room on the disk where files arrive: checked while they do, since not every sender says how much comes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from jobs.errors import StorageFullError
from jobs.storage_folder import require_disk_room
from service.context import ServiceContext

# Between two looks at the disk; so much of the reserve one sender can take.
_LOOK_BYTES = 8 << 20


class GuardedFile:
    """Writes what arrives, as long as there is room.

    Args:
        context: Of the process.
        file: Where it goes; closed with this.
    """

    def __init__(self, context: ServiceContext, file: BinaryIO) -> None:
        self._context, self._file = context, file
        self._num_bytes = self._next_look = 0

    def write(self, data: bytes | memoryview) -> None:
        """Appends.

        Raises:
            StorageFullError: If there is no room.
        """
        self._num_bytes += len(data)
        if self._num_bytes > self._next_look:
            check_incoming_room(self._context, len(data))
            self._next_look = self._num_bytes + _LOOK_BYTES
        with reported_full():
            self._file.write(data)

    def close(self) -> None:
        """Ends the file.

        Raises:
            StorageFullError: If the last bytes find no room.
        """
        with reported_full():
            self._file.close()


def check_incoming_room(context: ServiceContext, num_bytes: int) -> None:
    """Makes sure that so many bytes may arrive: also where objects do not lie on this disk.

    Raises:
        StorageFullError: If they would not leave the reserve free.
    """
    require_disk_room(context.incoming_dir, num_bytes, min_free_bytes=context.settings.min_free_bytes)
    context.storage.check_room(num_bytes)


@contextmanager
def reported_full() -> Iterator[None]:
    """Says which errors of the disk mean that it is full.

    Raises:
        StorageFullError: If it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError("no room for more of this upload") from error
        raise
