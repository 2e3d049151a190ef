"""How a pipeline runs: compilation, the memory that is left, and what torch is told once for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pipelines.codecs.cogvideox_vae import compile_vae_blocks
from pipelines.devices import available_memory

# A VAE has some eight kinds of residual blocks, each with and without a cache, and once more for sizes that
# vary; beyond its limit of 8, torch runs what is left uncompiled.
RECOMPILE_LIMIT = 64


def compile_blocks(transformer: Any, vae: Any) -> None:
    """Compiles transformer and CogVideoX's VAE block by block: one compilation serves all blocks of a shape.

    Args:
        transformer: A `CogVideoXTransformer3DModel`.
        vae: Of any kind; what is compiled are blocks of `prepare_vae`.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    # A loop of our own: diffusers names no repeated blocks for CogVideoX.
    for block in transformer.transformer_blocks:
        block.compile()
    compile_vae_blocks(vae)


def tune_kernels(device: torch.device, *, use_cudnn_benchmark: bool = True) -> None:
    """Lets cuDNN time its convolutions on a GPU, or not: chunks have few shapes, each met many times.

    A setting of the process, so the model that was loaded last decides.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = use_cudnn_benchmark


def free_memory(parts: Sequence[Any], device: torch.device) -> int:
    """Bytes that activations may take on a device while the largest of a pipeline's parts is there.

    Args:
        parts: Modules, all on the device, or with offloading moved there one at a time.
        device: Where they run.
    """
    arriving = 0
    if any(hasattr(part, "_hf_hook") for part in parts):
        present = [part for part in parts if part.device == device]
        arriving = max(map(weight_bytes, parts)) - sum(map(weight_bytes, present))
    return available_memory(device, arriving_bytes=arriving)


def weight_bytes(module: Any) -> int:
    """Bytes of a module's parameters and buffers, quantised ones as they are stored."""
    return sum(map(_stored_bytes, (*module.parameters(), *module.buffers())))


def _stored_bytes(tensor: Any) -> int:
    if not is_traceable_wrapper_subclass(tensor):
        return int(tensor.nbytes)
    # Its own `nbytes` are those of the dtype that it stands for.
    return sum(_stored_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
