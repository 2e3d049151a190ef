"""Objects as the processes see them that look into files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from jobs.storage import Storage
from media.sandbox import shared_sandbox

# Nothing is there: only sandboxed processes find what is mounted.
_ELSEWHERE = Path("/elsewhere")


@dataclass(frozen=True)
class _StoredContent:
    """An object that is read by ranges (`media.sandbox.Content`)."""

    storage: Storage
    key: str
    size_bytes: int
    version: str

    def read(self, offset: int, length: int) -> bytes:
        return self.storage.get_bytes(self.key, offset=offset, length=length, version=self.version)


@contextmanager
def readable_object(storage: Storage, key: str) -> Iterator[Path]:
    """A path at which sandboxed probes find an object. Where objects are no files, as much of it is fetched
    as they read.

    Raises:
        ObjectNotFoundError: If there is none.
        StorageError: If it cannot be read. The probe raises that too.
    """
    size_bytes, version = storage.identify(key)
    if storage.folder is not None:
        yield storage.folder / key
        return
    # Another path for each: several may look into one object at a time.
    path = _ELSEWHERE / token_hex(8) / key
    with shared_sandbox("probe").mounted(path, _StoredContent(storage, key, size_bytes, version)):
        yield path
