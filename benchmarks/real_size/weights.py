"""Random weights at the speed of memory: all of them are windows of one buffer of noise.

Matrices and kernels are scaled to keep the variance of what passes them, norms begin as the identity and
biases as zero, so that activations of any depth stay finite in bfloat16. The same layout has the same weights
on every device, in memory and in a folder.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import Tensor

from benchmarks.real_size.layout import Layout
from pipelines.dove.description import CheckpointDescription
from pipelines.dove.loading import LoadedCheckpoint

# Prime, so that rows of no matrix repeat one another.
NUM_NOISE = 16_777_213
DESCRIPTION: dict[str, Any] = {
    "name": "random-1.5-5b",
    "timestep": 399,
    "scale": 4,
    "licence": "none needed",
    "source": "random weights of benchmarks.real_size",
}


class NoiseBuffer:
    """A buffer of standard normal noise.

    Args:
        device: Where tensors are made.
        dtype: Of tensors.
        seed: Another one gives other weights.
    """

    def __init__(
        self, device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.bfloat16, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(NUM_NOISE, generator=generator).to(dtype).to(device)

    def pieces(self, name: str, shape: torch.Size) -> Iterator[Tensor]:
        """A parameter's numbers in order, flat, as large as the buffer at most."""
        remaining = math.prod(shape)
        if len(shape) < 2:
            yield torch.full((remaining,), float(name.endswith("weight"))).to(self.noise)
            return
        scale = math.prod(shape[1:]) ** -0.5
        start = zlib.crc32(name.encode()) % NUM_NOISE
        while remaining:
            stop = min(start + remaining, NUM_NOISE)
            yield self.noise[start:stop] * scale
            remaining -= stop - start
            start = stop % NUM_NOISE

    @torch.no_grad()
    def fill(self, module: Any) -> None:
        """Gives every parameter of a module its numbers."""
        for name, parameter in module.named_parameters():
            flat, position = parameter.view(-1), 0
            for piece in self.pieces(name, parameter.shape):
                flat[position : position + piece.numel()] = piece
                position += piece.numel()


def empty_modules(layout: Layout) -> tuple[Any, Any]:
    """VAE and transformer on the meta device."""
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(**layout.vae)
        transformer = CogVideoXTransformer3DModel(**layout.transformer)
    assert not [*vae.buffers(), *transformer.buffers()], "buffers would be left without numbers"
    return vae, transformer


def make_checkpoint(
    layout: Layout, device: torch.device | str, *, dtype: torch.dtype = torch.bfloat16
) -> LoadedCheckpoint:
    """A checkpoint right on a device, as `load_checkpoint` would give it."""
    noise = NoiseBuffer(device, dtype=dtype)
    modules = []
    for module in empty_modules(layout):
        # Not its own `to`: diffusers warns of what `from_pretrained` would keep in float32, which is nothing.
        torch.nn.Module.to(module, dtype).to_empty(device=device)
        noise.fill(module)
        modules.append(module.eval().requires_grad_(False))
    return LoadedCheckpoint(
        folder=Path(DESCRIPTION["name"]),
        description=CheckpointDescription(**DESCRIPTION),
        vae=modules[0],
        transformer=modules[1],
        scheduler=CogVideoXDDIMScheduler(**layout.scheduler),
        prompt_embeds=prompt_embedding(layout, noise)[None],
    )


def prompt_embedding(layout: Layout, noise: NoiseBuffer) -> Tensor:
    """(text_length, text_dim), of about the size of T5's."""
    shape = torch.Size((layout.text_length, layout.text_dim))
    return torch.cat(list(noise.pieces("prompt_embedding", shape))).view(shape) * 8
