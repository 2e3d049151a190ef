"""Writes a random checkpoint as a folder in diffusers' layout, without ever holding it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler
from safetensors.torch import save_file

from benchmarks.real_size.layout import Layout
from benchmarks.real_size.weights import DESCRIPTION, NoiseBuffer, empty_modules, prompt_embedding

# The public checkpoint has three shards of up to 5 GB.
MAX_SHARD_BYTES = 5_000_000_000
NAME = "diffusion_pytorch_model"

Shapes = dict[str, torch.Size]


def write_checkpoint(folder: Path, layout: Layout, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> int:
    """Writes the folder, bfloat16.

    Args:
        folder: Made if it is not there.
        layout: How large.
        max_shard_bytes: Of one file with weights.

    Returns:
        Number of parameters.
    """
    noise = NoiseBuffer()
    num_parameters = 0
    for name, module in zip(("vae", "transformer"), empty_modules(layout), strict=True):
        module.save_config(folder / name)
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        _write_weights(folder / name, shapes, noise, max_shard_bytes)
        num_parameters += sum(shape.numel() for shape in shapes.values())
    CogVideoXDDIMScheduler(**layout.scheduler).save_config(folder / "scheduler")
    prompts = folder / "prompt_embeddings"
    prompts.mkdir(exist_ok=True)
    save_file(
        {"prompt_embedding": prompt_embedding(layout, noise)},
        prompts / f"{hashlib.sha256(b'').hexdigest()}.safetensors",
    )
    _write_json(folder / "dovetail.json", DESCRIPTION)
    index = {
        "_class_name": "CogVideoXPipeline",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    # Last: a folder with it is whole.
    _write_json(folder / "model_index.json", index)
    return num_parameters


def _write_weights(folder: Path, shapes: Shapes, noise: NoiseBuffer, max_shard_bytes: int) -> None:
    shards = _shards(shapes, max_shard_bytes)
    if len(shards) == 1:
        _write_shard(folder / f"{NAME}.safetensors", shards[0], noise)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        path = folder / f"{NAME}-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(path, shard, noise)
        weight_map |= dict.fromkeys(shard, path.name)
    index = {"metadata": {"total_size": _num_bytes(shapes)}, "weight_map": weight_map}
    _write_json(folder / f"{NAME}.safetensors.index.json", index)


def _shards(shapes: Shapes, max_bytes: int) -> list[Shapes]:
    shards: list[Shapes] = [{}]
    for name, shape in shapes.items():
        if shards[-1] and _num_bytes(shards[-1]) + 2 * shape.numel() > max_bytes:
            shards.append({})
        shards[-1][name] = shape
    return shards


def _num_bytes(shapes: Shapes) -> int:
    return sum(2 * shape.numel() for shape in shapes.values())


def _write_shard(path: Path, shapes: Shapes, noise: NoiseBuffer) -> None:
    """The safetensors format: length of the header, header, numbers.

    https://github.com/huggingface/safetensors#format
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in shapes.items():
        end = position + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, shape in shapes.items():
            for piece in noise.pieces(name, shape):
                file.write(piece.view(torch.int16).numpy().data)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
