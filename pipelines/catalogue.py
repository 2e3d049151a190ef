"""What is said of models, read from their descriptions without loading them: no torch, no weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.dove.description import EMBEDDED_FOLDER, read_description
from pipelines.errors import CheckpointError

_DIFFUSION_MARKER, _PROPAGATION_MARKER = "model_index.json", "propagation.json"
_INTERPOLATIONS = ("bicubic", "lanczos")
_USUAL_SCALE = 4


@dataclass(frozen=True)
class DescribedModel:
    """A model as its description tells.

    Attributes:
        kind: What it is; "unknown" where there is nothing to read here.
        scale: Factor when a job gives none; the usual one where nobody says.
        licence: SPDX identifier, a sentence, or "".
        source: Where it comes from.
    """

    kind: Literal["diffusion", "propagation", "interpolation", "unknown"]
    scale: int = _USUAL_SCALE
    licence: str = ""
    source: str = ""


def describe_model(name: str) -> DescribedModel:
    """What can be known of a model before anything loads it.

    Args:
        name: As for `pipelines.loaders.load_model`: an embedded name or a folder is read, an interpolation
            is known, and of hub ids, weights files and pulled models nothing is said.

    Raises:
        CheckpointError: If its description cannot be read.
    """
    if name in _INTERPOLATIONS:
        return DescribedModel("interpolation", licence="none needed")
    folder = Path(name) if Path(name).is_dir() else EMBEDDED_FOLDER / name
    if (folder / _PROPAGATION_MARKER).is_file():
        return _propagation(folder / _PROPAGATION_MARKER)
    if (folder / _DIFFUSION_MARKER).is_file():
        found = read_description(folder)
        return DescribedModel("diffusion", found.scale, found.licence, found.source)
    return DescribedModel("unknown")


def _propagation(path: Path) -> DescribedModel:
    try:
        content = json.loads(path.read_bytes())
        scales = content.get("network", {}).get("scales", (_USUAL_SCALE,))
        return DescribedModel(
            "propagation", int(scales[-1]), content.get("licence", ""), content.get("source", "")
        )
    except (OSError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is not a valid description: {error}", path=path) from error
