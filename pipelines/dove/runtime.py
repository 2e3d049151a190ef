"""How a pipeline runs: compilation, the memory that is left, and what torch is told once for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipelines.devices import available_memory


def compile_blocks(transformer: Any) -> None:
    """Compiles the transformer block by block: one compilation serves all layers of a shape."""
    # A loop of our own: diffusers names no repeated blocks for CogVideoX.
    for block in transformer.transformer_blocks:
        block.compile()


def tune_kernels(device: torch.device) -> None:
    """Lets cuDNN time its convolutions on a GPU: chunks have few shapes, each met many times."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def free_memory(parts: Sequence[Any], device: torch.device) -> int:
    """Bytes that activations may take on a device while the largest of a pipeline's parts is there.

    Args:
        parts: Modules, all on the device, or with offloading moved there one at a time.
        device: Where they run.
    """
    arriving = 0
    if any(hasattr(part, "_hf_hook") for part in parts):
        present = [part for part in parts if part.device == device]
        arriving = max(map(_weight_bytes, parts)) - sum(map(_weight_bytes, present))
    return available_memory(device, arriving_bytes=arriving)


def _weight_bytes(module: Any) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
