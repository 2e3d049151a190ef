"""What can be submitted: local files, uploads, URLs."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, cast

from dovetail_client.errors import TransferError
from dovetail_client.models import Upload

Source = str | os.PathLike[str] | BinaryIO | Upload
"""A `Path` is a local file. Text is a URL if it has "://", an upload if it looks like an upload's id, else a
local file. Besides, an open binary file, and what `upload` returned."""

DEFAULT_FILENAME = "video"
SPOOLED_BYTES = 8 * 2**20

_UPLOAD_ID = re.compile(r"upl_[0-9a-hjkmnp-tv-z]{26}")


def remote_source(source: Source) -> dict[str, str] | None:
    """How a request names a source that needs no upload; None for a local file."""
    if isinstance(source, Upload):
        return {"type": "upload", "upload_id": source.id}
    if isinstance(source, str) and "://" in source:
        return {"type": "url", "url": source}
    if isinstance(source, str) and _UPLOAD_ID.fullmatch(source):
        return {"type": "upload", "upload_id": source}
    return None


class LocalFile:
    """Bytes on this machine that can be read at any place.

    Args:
        source: A path, or a binary file from its present position. What cannot seek is copied to a temporary
            file first, since an upload must know its size and may have to go back.
        filename: What the service shall call it; by default its own name.

    Raises:
        TypeError: If it is nothing that can be read.
        OSError: If it cannot be read.
    """

    def __init__(self, source: Source, filename: str | None = None) -> None:
        self._is_owned = True
        if isinstance(source, str | os.PathLike):
            self._file: BinaryIO = Path(source).open("rb")  # noqa: SIM115 - see close()
        elif isinstance(source, Upload) or not hasattr(source, "read"):
            raise TypeError(f"a path or an open binary file is needed here, not {source!r}")
        elif source.seekable():
            self._file, self._is_owned = source, False
        else:
            self._file = _spool(source)
        self._start = self._file.tell()
        self.size_bytes = self._file.seek(0, os.SEEK_END) - self._start
        self.filename = filename or _name_of(source)

    def read_at(self, offset: int, num_bytes: int) -> bytes:
        """Reads bytes; fewer only at the end."""
        self._file.seek(self._start + offset)
        return self._file.read(num_bytes)

    def piece(
        self, offset: int, num_bytes: int, algorithm: Literal["md5", "sha256"]
    ) -> tuple[bytearray, str]:
        """Reads bytes that are to be sent.

        Returns:
            As many as are wanted or left, and their digest in Base64.

        Raises:
            TransferError: If the file has become shorter meanwhile.
        """
        end = min(offset + num_bytes, self.size_bytes)
        content = self.read_at(offset, end - offset)
        if len(content) < end - offset:
            raise TransferError(f"{self.filename} has become shorter than {end} bytes meanwhile")
        digest = hashlib.new(algorithm, content, usedforsecurity=False).digest()
        return bytearray(content), base64.b64encode(digest).decode()

    def close(self) -> None:
        """Closes what was opened here; a file that was given open stays so."""
        if self._is_owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def id_of(thing: Any) -> str:
    """The id of a job, batch or upload that is given as such or by its id.

    Raises:
        TypeError: If it is neither.
        ValueError: If the id could not be one.
    """
    found = thing if isinstance(thing, str) else getattr(thing, "id", None)
    if not isinstance(found, str):
        raise TypeError(f"an object with an id, or an id, is needed here, not {thing!r}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", found):
        raise ValueError(f"{found!r} is no id; ids look like job_01k4...")
    return found


def _spool(source: BinaryIO) -> BinaryIO:
    spooled = tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES)  # noqa: SIM115 - LocalFile closes it
    shutil.copyfileobj(source, spooled, 2**20)
    spooled.seek(0)
    return cast(BinaryIO, spooled)


def _name_of(source: Source) -> str:
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    # Files of descriptors have numbers for names.
    return (Path(name).name if isinstance(name, str | os.PathLike) else "") or DEFAULT_FILENAME
