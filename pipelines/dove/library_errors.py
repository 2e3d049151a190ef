"""Errors of the libraries that read checkpoints, as one of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from pipelines.errors import CheckpointError

T = TypeVar("T")


def guarded(path: Path, load: Callable[[], T]) -> T:
    """Runs a loader of diffusers or transformers; they raise many kinds for a bad file.

    Args:
        path: The file or folder that is read.
        load: Reads it.

    Raises:
        CheckpointError: If that fails; it names the path.
    """
    try:
        return load()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot load {path}: {error}", path=path) from error
