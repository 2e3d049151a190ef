"""Names that customers give their files."""

from __future__ import annotations

_MAX_FILENAME = 255


def clean_filename(filename: str | None) -> str:
    """A customer's file name, for people to read: without folders and control characters."""
    name = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in name if c.isprintable()).strip()
    return name[-_MAX_FILENAME:] or "video"
