"""The embedding of a checkpoint's prompt: stored beside it, or made once by its text encoder."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipelines.dove.library_errors import guarded
from pipelines.errors import CheckpointError

logger = logging.getLogger(__name__)


def load_prompt(
    folder: Path, prompt: str, embeddings: Path | None, transformer: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Reads the prompt's stored embedding, or encodes it once where the folder has a text encoder."""
    name = f"{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"
    # DOVE's own download keeps them beside the model's folder.
    folders = [folder / "prompt_embeddings", folder.parent / "prompt_embeddings"]
    for candidate in [embeddings, *folders] if embeddings else folders:
        if (candidate / name).is_file():
            embeds = _read_embedding(candidate / name)
            break
    else:
        embeds = _encode_prompt(folder, prompt, transformer.config.max_text_seq_length, dtype, name)
    if embeds.shape[-1] != transformer.config.text_embed_dim:
        raise CheckpointError(
            f"the embedding of prompt {prompt!r} has {embeds.shape[-1]} features, the transformer takes "
            f"{transformer.config.text_embed_dim}",
            path=folder,
        )
    # The additive position table of CogVideoX-2B spans text and video and has one length.
    max_length, is_fixed = (
        transformer.config.max_text_seq_length,
        not transformer.config.use_rotary_positional_embeddings,
    )
    if is_fixed and embeds.shape[-2] != max_length:
        raise CheckpointError(
            f"the embedding of prompt {prompt!r} has {embeds.shape[-2]} tokens, the transformer takes "
            f"{max_length}",
            path=folder,
        )
    return embeds.to(dtype)


def _read_embedding(path: Path) -> torch.Tensor:
    try:
        embeds = load_file(path)["prompt_embedding"]
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold a prompt_embedding: {error}", path=path) from error
    # DOVE ships it as (L, D).
    return embeds.reshape(1, *embeds.shape[-2:])


@torch.no_grad()
def _encode_prompt(folder: Path, prompt: str, max_length: int, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Encodes a prompt with the folder's T5, which is dropped again right away.

    Raises:
        CheckpointError: If there is no text encoder.
    """
    encoder_folder, tokenizer_folder = folder / "text_encoder", folder / "tokenizer"
    if not (encoder_folder / "config.json").is_file() or not tokenizer_folder.is_dir():
        what = f"prompt {prompt!r}" if prompt else "the empty prompt"
        raise CheckpointError(
            f"{folder} has neither a stored embedding of {what} (prompt_embeddings/{name}) nor a text "
            "encoder (text_encoder/ and tokenizer/) to make one",
            path=folder / "prompt_embeddings" / name,
        )
    from transformers import AutoTokenizer, T5EncoderModel

    logger.info("encoding the prompt with %s", encoder_folder)
    tokenizer = guarded(tokenizer_folder, lambda: AutoTokenizer.from_pretrained(tokenizer_folder))
    encoder = guarded(
        encoder_folder, lambda: T5EncoderModel.from_pretrained(encoder_folder, dtype=dtype).eval()
    )
    tokens = tokenizer(
        prompt, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
    )
    embeds: torch.Tensor = encoder(tokens.input_ids)[0]
    return embeds
