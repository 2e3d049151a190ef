"""From a checkpoint's name to its components: folders, the embedded checkpoint, the Hugging Face hub.

A checkpoint is a diffusers folder (`model_index.json transformer/ vae/ scheduler/`) with
`prompt_embeddings/<sha256 of the prompt>.safetensors` and optionally `dovetail.json`. The original DOVE,
CogVideoX-2B, 5B and 1.5-5B folders load as they are. Only safetensors are read.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder
from pipelines.dove.attention import ADDED_MODULES, transformer_class
from pipelines.dove.description import (
    COMPONENT_PATTERNS,
    DESCRIPTION_NAME,
    EMBEDDED_FOLDER,
    TEXT_PATTERNS,
    CheckpointDescription,
    embedded_checkpoints,
    read_description,
    verify_digests,
    verify_routes,
)
from pipelines.dove.library_errors import guarded
from pipelines.dove.prompts import load_prompt
from pipelines.errors import CheckpointError

logger = logging.getLogger(__name__)

VAE_CLASSES: dict[str, Any] = {
    "AutoencoderKLCogVideoX": diffusers.AutoencoderKLCogVideoX,
    "SpaceToDepthAutoencoder": SpaceToDepthAutoencoder,
}
SCHEDULER_CLASSES: dict[str, Any] = {
    "CogVideoXDDIMScheduler": diffusers.CogVideoXDDIMScheduler,
    "CogVideoXDPMScheduler": diffusers.CogVideoXDPMScheduler,
}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Components of a checkpoint, on the CPU, in evaluation mode.

    Attributes:
        folder: Where it was read from.
        description: Contents of `dovetail.json`, or DOVE's defaults.
        vae: `AutoencoderKLCogVideoX` or `SpaceToDepthAutoencoder`.
        transformer: A `CogVideoXTransformer3DModel` with its attention pattern set.
        scheduler: Holds alpha_bar.
        prompt_embeds: (1, L, D) embedding of the prompt, in the transformer's dtype.
    """

    folder: Path
    description: CheckpointDescription
    vae: Any
    transformer: Any
    scheduler: Any
    prompt_embeds: torch.Tensor


def resolve_checkpoint(
    checkpoint: str | Path, *, prompt: str = "", revision: str | None = None, local_files_only: bool = False
) -> Path:
    """Finds a checkpoint's folder: an existing folder, an embedded name, or a hub id that is then downloaded.

    The text encoder (9.5 GB for CogVideoX) is downloaded only when there is a prompt.

    Raises:
        CheckpointError: If there is no such checkpoint or it cannot be downloaded.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    name = str(checkpoint)
    if (EMBEDDED_FOLDER / name / "model_index.json").is_file():
        return EMBEDDED_FOLDER / name
    known = ", ".join(embedded_checkpoints()) or "none"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no checkpoint {name!r}: not a folder, not embedded ({known}), and not a hub id like owner/name",
            path=Path(name),
        )
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=[*COMPONENT_PATTERNS, *(TEXT_PATTERNS if prompt else ())],
            local_files_only=local_files_only,
        )
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"checkpoint {name!r} is not in the local cache and the hub cannot be reached; connect once to "
            f"download it, pass a folder, or use an embedded checkpoint ({known})"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(f"cannot download checkpoint {name!r} from the hub: {error}") from error
    return Path(folder)


def load_checkpoint(
    checkpoint: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    prompt: str = "",
    prompt_embeddings: Path | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> LoadedCheckpoint:
    """Loads a checkpoint's components without preparing them for inference (training starts here as well).

    Args:
        checkpoint: Folder, embedded name or hub id.
        dtype: Dtype of the weights.
        prompt: Text prompt; DOVE was trained with the empty one.
        prompt_embeddings: Folder with `<sha256>.safetensors` files, if they lie elsewhere.
        revision: Hub revision.
        local_files_only: Never download.

    Raises:
        CheckpointError: If anything is missing, damaged or unknown; the message names the file.
    """
    folder = resolve_checkpoint(
        checkpoint, prompt=prompt, revision=revision, local_files_only=local_files_only
    )
    _read_json(folder / "model_index.json")
    description = read_description(folder)
    verify_digests(folder, description)
    verify_routes(folder, description)
    vae = _load_model(folder / "vae", VAE_CLASSES, dtype)
    transformer = _load_model(
        folder / "transformer",
        {
            "CogVideoXTransformer3DModel": transformer_class(
                description.attention,
                use_local_enhancement=description.local_enhancement,
                use_view=description.view is not None,
            )
        },
        dtype,
    )
    return LoadedCheckpoint(
        folder=folder,
        description=description,
        vae=vae,
        transformer=transformer,
        scheduler=_load_scheduler(folder / "scheduler"),
        prompt_embeds=load_prompt(folder, prompt, prompt_embeddings, transformer, dtype),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: not a diffusers checkpoint folder", path=path) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}", path=path) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(content).__name__}", path=path)
    return content


def _class_of(path: Path, known: dict[str, Any]) -> Any:
    name = _read_json(path).get("_class_name")
    if name not in known:
        raise CheckpointError(f"{path} names the class {name!r}; known are {', '.join(known)}", path=path)
    return known[name]


def _load_model(folder: Path, known: dict[str, Any], dtype: torch.dtype) -> Any:
    model_class = _class_of(folder / "config.json", known)
    _check_weight_files(folder)
    model, info = guarded(
        folder,
        lambda: model_class.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, local_files_only=True
        ),
    )
    # diffusers only warns about these and leaves random weights in place.
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights its config.json asks for, first {missing[0]!r}",
            path=folder,
        )
    # Dropped without a word otherwise, and what was trained with them would run without.
    unasked = sorted(name for name in info["unexpected_keys"] if ADDED_MODULES.intersection(name.split(".")))
    if unasked:
        raise CheckpointError(
            f"{folder} has {len(unasked)} weights that {DESCRIPTION_NAME} does not ask for, first "
            f"{unasked[0]!r}",
            path=folder,
        )
    if isinstance(model, SpaceToDepthAutoencoder):
        model.to(memory_format=torch.channels_last)  # its decoder hands its convolutions this layout
    return model.eval().requires_grad_(False)


def _check_weight_files(folder: Path) -> None:
    """Opens every weight file's header, so that an error names the file rather than a tensor."""
    indices = list(folder.glob("*.safetensors.index.json"))
    names = {name for index in indices for name in _read_json(index).get("weight_map", {}).values()}
    paths = [folder / name for name in sorted(names)] or sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"{folder} has no .safetensors file", path=folder)
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing", path=path)
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: {error}", path=path) from error


def _load_scheduler(folder: Path) -> Any:
    path = folder / "scheduler_config.json"
    scheduler_class = _class_of(path, SCHEDULER_CLASSES)
    return guarded(path, lambda: scheduler_class.from_config(_read_json(path)))
