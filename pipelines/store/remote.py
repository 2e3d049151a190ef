"""A file that lies elsewhere, what is known of it, and whether a file here is that one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.store.errors import DigestMismatchError
from pipelines.store.records import StoredFile

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch, and what is known of it beforehand.

    Attributes:
        url: Its address.
        path: Where it belongs in the model's folder.
        size_bytes: Its size, if known.
        sha256: Its hex digest, if known.
        git_blob: Its id in git, if that is what is known.
        token: Sent to the host of `url` alone.
    """

    url: str
    path: str
    size_bytes: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def is_known(self) -> bool:
        """Whether its content can be told from any other."""
        return bool(self.sha256 or self.git_blob)


def check_file(file: RemoteFile, path: Path) -> StoredFile:
    """Size and digest of a file on the disk.

    Raises:
        DigestMismatchError: If they are not what they should be.
    """
    size = path.stat().st_size
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
            if file.git_blob:
                git_blob.update(chunk)
    for kind, expected, received in (
        ("SHA-256", file.sha256, sha256.hexdigest()),
        ("git id", file.git_blob, git_blob.hexdigest()),
    ):
        if expected and expected != received:
            raise DigestMismatchError(
                f"{file.path} has the {kind} {received}, expected was {expected}; nothing of it is kept",
                expected=expected,
                received=received,
            )
    return StoredFile(path=file.path, size_bytes=size, sha256=sha256.hexdigest())
