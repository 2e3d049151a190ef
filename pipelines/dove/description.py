"""A checkpoint's files, and `dovetail.json` for what diffusers' layout has no place for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import CheckpointError
from pipelines.planning.attention import FULL_ATTENTION, AttentionSettings
from pipelines.planning.patterns import RoutedAttention
from pipelines.planning.view import ViewSettings

EMBEDDED_FOLDER = Path(__file__).parent.parent / "checkpoints"
DESCRIPTION_NAME = "dovetail.json"
COMPONENT_PATTERNS = (
    "model_index.json",
    DESCRIPTION_NAME,
    "prompt_embeddings/*.safetensors",
    *(f"{part}/*.{ext}" for part in ("transformer", "vae", "scheduler") for ext in ("json", "safetensors")),
)
TEXT_PATTERNS = ("text_encoder/*.json", "text_encoder/*.safetensors", "tokenizer/*")


class CheckpointDescription(BaseModel):
    """Contents of `dovetail.json`; the defaults are those of the original DOVE, which has no such file.

    Attributes:
        name: Short name, shown to users.
        timestep: Timestep of the one-step rule.
        scale: Upscaling factor the checkpoint was trained for; informative where the VAE does not fix it.
        attention: Attention pattern it was trained with: a name, a pattern, or a list by layer.
        local_enhancement: Whether a gate stands before each layer's attention (STAR).
        view: A view of the whole frame that tiles were trained with (PatchVSR), or None.
        upsample: Interpolation that brings the source to the target size before encoding.
        training_steps: Optimiser steps it has seen.
        clip_length: Frames of the clips it was trained on; the planner's default chunk. None leaves it to
            the planner.
        licence: SPDX identifier or a sentence.
        source: Where the weights come from.
        sha256: Hex digests of weight files by path relative to the folder; checked when loading.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    name: str = "dove"
    timestep: int = Field(default=399, ge=0, lt=1000)
    scale: int = Field(default=4, ge=1, le=16)
    attention: AttentionSettings = FULL_ATTENTION
    local_enhancement: bool = False
    view: ViewSettings | None = None
    upsample: Literal["bilinear", "bicubic"] = "bilinear"
    training_steps: int = Field(default=0, ge=0)
    clip_length: int | None = Field(default=None, ge=1)
    licence: str = Field(default="", validation_alias=AliasChoices("licence", "license"))
    source: str = ""
    sha256: dict[str, str] = {}


def embedded_checkpoints() -> list[str]:
    """Names of the checkpoints that ship with the package, of whatever kind."""
    markers = ("model_index.json", "propagation.json")
    return sorted(path.parent.name for marker in markers for path in EMBEDDED_FOLDER.glob(f"*/{marker}"))


def read_description(folder: Path) -> CheckpointDescription:
    """Reads `dovetail.json`, or gives DOVE's defaults where there is none.

    Raises:
        CheckpointError: If the file is not valid JSON or has a wrong field.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        return CheckpointDescription(name=folder.name)
    try:
        return CheckpointDescription.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise CheckpointError(
            f"{path} is not a valid checkpoint description ({problems})", path=path
        ) from error


def verify_digests(folder: Path, description: CheckpointDescription) -> None:
    """Compares weight files with the digests of the description.

    Raises:
        CheckpointError: If a file is missing or differs.
    """
    for name, expected in description.sha256.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is listed in {DESCRIPTION_NAME} but missing", path=path)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != expected.lower():
            raise CheckpointError(
                f"{path} has SHA-256 {digest}, {DESCRIPTION_NAME} says {expected}: the file is damaged or "
                "was replaced; download the checkpoint again",
                path=path,
            )


def transformer_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the transformer's weight files, to which routes of heads belong."""
    digest = hashlib.sha256()
    for path in sorted((folder / "transformer").glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def verify_routes(folder: Path, description: CheckpointDescription) -> None:
    """Refuses a table of routed heads that was made for other weights.

    Raises:
        CheckpointError: If the table names another digest, or none.
    """
    routed = [layer for layer in description.attention.root if isinstance(layer, RoutedAttention)]
    if not routed:
        return
    digest = transformer_digest(folder)
    for layer in routed:
        if layer.weights_sha256 != digest:
            raise CheckpointError(
                f"the routed heads in {folder / DESCRIPTION_NAME} belong to weights with the digest "
                f"{layer.weights_sha256 or 'none'}, those beside it have {digest}: make the table again",
                path=folder / DESCRIPTION_NAME,
            )
