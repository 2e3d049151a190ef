"""Whether files are what their names say, judged by their first and last bytes. Nothing in them is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipelines.store.errors import ContentError

# torch.save wrote bare pickles until 1.6, a zip file since then.
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def check_weights(path: Path) -> None:
    """Checks a file of weights.

    Raises:
        ContentError: If it is empty, cut, a web page or anything else.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if path.suffix.lower() == ".safetensors":
        problem = _safetensors_problem(path)
    elif head.startswith(b"PK"):
        problem = None if zipfile.is_zipfile(path) else "its end is missing"
    else:
        problem = None if head.startswith(_PICKLES) else "torch did not write it"
    if problem and head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        problem = "it is a web page: the address of the file itself is needed"
    if problem:
        raise ContentError(f"{path.name} is no whole file of weights: {problem}")


def check_json(path: Path) -> None:
    """Checks a JSON file that must hold an object.

    Raises:
        ContentError: If it does not.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ContentError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ContentError(f"{path.name} must hold a JSON object, got {type(content).__name__}")


def _safetensors_problem(path: Path) -> str | None:
    try:
        with safe_open(path, framework="numpy"):
            return None
    except (SafetensorError, OSError) as error:
        return str(error)
