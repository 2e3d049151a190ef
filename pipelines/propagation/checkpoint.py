"""Checkpoints of the propagating restorer: `propagation.json` and one safetensors file, no diffusers."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipelines.errors import CheckpointError
from pipelines.propagation.network import PropagationConfig, PropagationNet

DESCRIPTION_NAME = "propagation.json"
WEIGHTS_NAME = "propagation.safetensors"


class PropagationDescription(BaseModel):
    """Contents of `propagation.json`.

    Attributes:
        name: Short name, shown to users.
        network: Sizes.
        training_steps: Optimiser steps behind the weights.
        licence: SPDX identifier.
        source: Where the weights come from.
        activation_ranges: Least and largest input of each convolution of the body on samples of the training,
            for arithmetic in 8 bits; empty where nobody measured them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    network: PropagationConfig = PropagationConfig()
    training_steps: int = Field(default=0, ge=0)
    licence: str = ""
    source: str = ""
    activation_ranges: dict[str, tuple[float, float]] = {}


def save_propagation(
    network: PropagationNet, folder: Path, description: PropagationDescription, *, dtype: torch.dtype
) -> None:
    """Writes a checkpoint folder; the weights in `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().to(dtype).contiguous() for key, value in network.state_dict().items()}
    # Not `save_file`, whose files only their owner may read: workers have users of their own.
    (folder / WEIGHTS_NAME).write_bytes(save(state, metadata={"format": "pt"}))
    (folder / DESCRIPTION_NAME).write_text(description.model_dump_json(indent=2) + "\n")


def load_propagation(
    folder: Path, *, dtype: torch.dtype = torch.float32
) -> tuple[PropagationNet, PropagationDescription]:
    """Reads a checkpoint, ready for inference.

    Args:
        folder: Of the checkpoint.
        dtype: Of the convolutions; what estimates degradations, which costs nothing, stays in float32.

    Raises:
        CheckpointError: If a file is missing or damaged, or the weights do not fit the description.
    """
    description = read_description(folder)
    path = folder / WEIGHTS_NAME
    network = PropagationNet(description.network)
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}", path=path) from error
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {DESCRIPTION_NAME}: {error}", path=path) from error
    for name, part in network.named_children():
        if name not in ("estimator", "modulation"):
            part.to(dtype)
    return network.eval().requires_grad_(False), description


def read_description(folder: Path) -> PropagationDescription:
    """Reads `propagation.json`.

    Raises:
        CheckpointError: If it is missing, or has a wrong field.
    """
    path = folder / DESCRIPTION_NAME
    try:
        return PropagationDescription.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}", path=path) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"{path} is not a valid description ({problems})", path=path) from error
