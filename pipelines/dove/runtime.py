"""How a pipeline runs: attention kernels, compilation."""

from __future__ import annotations

import contextlib
import importlib.util
from contextlib import AbstractContextManager
from typing import Any, Literal, get_args

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.dove.attention import project_qkv
from pipelines.errors import BackendUnavailableError, InvalidOptionError

AttentionBackend = Literal["auto", "flash", "efficient", "cudnn", "math", "xformers"]

SDPA_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


def check_attention_backend(backend: str, device: torch.device | str) -> None:
    """Refuses a backend that cannot run here, before anything is loaded.

    Raises:
        InvalidOptionError: If there is no such backend.
        BackendUnavailableError: If it needs a device or a package that is absent.
    """
    if backend not in get_args(AttentionBackend):
        raise InvalidOptionError(
            f"attention backend {backend!r} does not exist; choose one of "
            f"{', '.join(get_args(AttentionBackend))}"
        )
    needs_cuda = backend in ("cudnn", "efficient", "xformers")
    if needs_cuda and torch.device(device).type != "cuda":
        raise BackendUnavailableError(
            f"attention backend {backend!r} runs on CUDA GPUs only, the pipeline is on {device}; use 'auto'"
        )
    if backend == "xformers" and importlib.util.find_spec("xformers") is None:
        raise BackendUnavailableError(
            "attention backend 'xformers' needs the xformers package (pip install 'dovetail-vsr[cuda]'); "
            "'auto' uses torch's own kernels"
        )


def attention_kernel(backend: AttentionBackend) -> AbstractContextManager[Any]:
    """A context in which torch's attention uses the given kernel and no other."""
    if backend in SDPA_BACKENDS:
        return sdpa_kernel([SDPA_BACKENDS[backend]])
    return contextlib.nullcontext()


class XFormersAttnProcessor:
    """CogVideoX's joint full attention through xformers' memory-efficient kernels."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends; video tokens (B, N, D) and text tokens (B, L, D) in and out."""
        from xformers.ops import memory_efficient_attention

        num_text = encoder_hidden_states.shape[1]
        query, key, value = project_qkv(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        if image_rotary_emb is not None:
            query, key = (
                torch.cat([x[:, :, :num_text], apply_rotary_emb(x[:, :, num_text:], image_rotary_emb)], dim=2)
                for x in (query, key)
            )
        # xformers wants (B, L, heads, head_dim).
        joint = memory_efficient_attention(*(x.transpose(1, 2).contiguous() for x in (query, key, value)))
        joint = attn.to_out[1](attn.to_out[0](joint.flatten(2)))
        text, video = joint.split([num_text, joint.shape[1] - num_text], dim=1)
        return video, text


def use_xformers(transformer: Any) -> None:
    """Gives every block the xformers processor.

    Raises:
        BackendUnavailableError: If the checkpoint's attention is windowed.
    """
    for block in transformer.transformer_blocks:
        if getattr(block.attn1.processor, "uses_token_grid", False):
            raise BackendUnavailableError(
                "attention backend 'xformers' supports full attention only and this checkpoint uses windows; "
                "use 'auto'"
            )
        block.attn1.set_processor(XFormersAttnProcessor())


def compile_blocks(transformer: Any) -> None:
    """Compiles the transformer block by block: one compilation serves all layers of a shape."""
    for block in transformer.transformer_blocks:
        block.compile()
