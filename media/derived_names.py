"""Names of files that belong to another one and lie beside it, no longer than the file system takes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

# Of nearly all file systems, in bytes; encrypted folders take 143.
_USUAL_LIMIT = 255
_DIGEST_LENGTH = 8


def beside(path: Path, ending: str) -> Path:
    """The file that belongs to `path` and is called like it, with an ending behind.

    Where that is too long, a digest stands for the end of the name: always the same one for a name, so that
    what a killed process left is found again.
    """
    return path.with_name(fitted_name(path.name, ending, folder=path.parent))


def fitted_name(stem: str, ending: str, *, folder: Path) -> str:
    """`stem + ending`, or less of the stem and a digest of it where that is too long for a folder."""
    limit = _longest_name(folder)
    if len(os.fsencode(stem + ending)) <= limit:
        return stem + ending
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:_DIGEST_LENGTH]
    kept = stem
    while kept and len(os.fsencode(f"{kept}~{digest}{ending}")) > limit:
        kept = kept[:-1]
    return f"{kept}~{digest}{ending}"


def _longest_name(folder: Path) -> int:
    """In bytes."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # no such folder yet, no such system
        return _USUAL_LIMIT
