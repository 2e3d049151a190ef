"""The source's sound for the growing stream. Imported in the sandbox, so it imports little itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from media.growing.audio import extract_audio
from media.info import MediaInfo


def extract(
    source: MediaInfo, destination: Path, start_seconds: Fraction | None, duration_seconds: Fraction | None
) -> dict[str, Any] | None:
    """Writes the sound.

    Returns:
        Index of the file, as JSON values; None (and no file) where there is no sound.
    """
    written = extract_audio(
        source, destination, start_seconds=start_seconds, duration_seconds=duration_seconds
    )
    return None if written is None else written.index.to_dict()
