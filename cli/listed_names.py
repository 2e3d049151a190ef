"""Names of files on stdin: one on each line, or with a NUL behind each, as `find -print0` writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from cli.errors import UsageError

_BLOCK_BYTES = 1 << 16
# No list has them: control characters other than tabs and line ends, a name of no letters before a NUL, and
# the first words of the one kind of raw video that begins as text.
_NO_LIST = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f]|\A\0|\0\0|\AYUV4MPEG2 ")


def read_names(stream: BinaryIO) -> list[Path]:
    """Reads a list to its end; a file of another kind is noticed at its start.

    Raises:
        UsageError: If it is no list of names, or an empty one.
    """
    content = bytearray()
    while block := stream.read(_BLOCK_BYTES):
        content += block
        if _NO_LIST.search(content, max(0, len(content) - len(block) - 1)):
            raise UsageError(
                "stdin holds no list of names but something like a video, which is read from a file only: "
                "give its name; - reads names, one per line or each with a NUL behind it"
            )
    is_nul_separated = b"\0" in content
    names = (
        content.split(b"\0") if is_nul_separated else [line.rstrip(b"\r") for line in content.split(b"\n")]
    )
    found = [Path(os.fsdecode(bytes(name))) for name in names if name.strip()]
    if not found:
        raise UsageError("the list on stdin is empty; write one path per line")
    return found
