"""The trainable one-step model: the same modules and the same rule as the pipeline, with gradients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder
from pipelines.dove.attention import ADDED_MODULES, ViewTokens, set_attention
from pipelines.dove.description import read_description, transformer_digest
from pipelines.dove.one_step import one_step
from pipelines.dove.view import FrameView, downsize
from pipelines.errors import CheckpointError
from pipelines.planning.view import view_size
from training.batches import WholeSamples
from training.config import ModelConfig
from training.errors import TrainingConfigError

EMPTY_PROMPT_SHA256 = hashlib.sha256(b"").hexdigest()


class OneStepModel(nn.Module):
    """Transformer, autoencoder, scheduler and prompt embedding of a small checkpoint.

    Args:
        config: The checkpoint to make.
    """

    prompt_embeds: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = CogVideoXTransformer3DModel(**config.transformer)
        # v starts at zero, so the first x0 is sqrt(alpha_bar) * z: the upsampled frame itself.
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)
        set_attention(
            self.transformer,
            config.attention,
            use_local_enhancement=config.local_enhancement,
            use_view=config.view is not None,
        )
        self.vae = SpaceToDepthAutoencoder(**config.vae)
        self.vae.to(memory_format=torch.channels_last)
        self.scheduler = CogVideoXDDIMScheduler(**config.scheduler)
        shape = (config.prompt_tokens, config.transformer["text_embed_dim"])
        self.register_buffer("prompt_embeds", torch.zeros(1, *shape))

    def restore_latents(self, lq: torch.Tensor, whole: WholeSamples | None = None) -> torch.Tensor:
        """(B, 3, F, h, w) in [-1, 1] -> restored latents (B, C, F, H / 8, W / 8).

        Args:
            lq: Whole frames, or crops.
            whole: What they are crops of, for a model with a view.
        """
        latents = self.vae.encode(upsample(lq, self.config.scale)).transpose(1, 2)
        restored = one_step(
            self.transformer,
            self.scheduler,
            latents,
            self.prompt_embeds,
            timestep=self.config.timestep,
            view=None if whole is None else self._view(whole),
        )
        return restored.transpose(1, 2)

    def _view(self, whole: WholeSamples) -> ViewTokens:
        """Samples downsized as the pipeline downsizes frames for their tiles."""
        assert self.config.view is not None
        scale, token = self.config.scale, self.vae.ratio * self.transformer.config.patch_size
        sample = upsample(whole.lq, scale)
        height, width = sample.shape[-2:]
        size = view_size((height, width), tokens=self.config.view.tokens, alignment=token)
        latents = self.vae.encode(downsize(sample, size)).transpose(1, 2)
        frame = height / token, width / token
        view = FrameView.of(self.transformer, latents, self.prompt_embeds, frame=frame)
        return view.for_tiles(whole.origins * scale / token)

    def forward(self, lq: torch.Tensor, *, use_transformer: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Restores a clip: (B, 3, F, h, w) in [-1, 1] -> frames (B, 3, F, H, W) and restored latents.

        Without the transformer the velocity is zero.
        """
        if use_transformer:
            latents = self.restore_latents(lq)
        else:
            alpha_bar = self.scheduler.alphas_cumprod[self.config.timestep]
            latents = self.vae.encode(upsample(lq, self.config.scale)) * float(alpha_bar) ** 0.5
        return self.vae.decode(latents, lq), latents

    def block_matrices(self) -> list[torch.Tensor]:
        """Weights of the transformer's and the decoder's blocks that are matrices: Muon's."""
        attention = (
            layer for block in self.transformer.transformer_blocks for layer in (block.attn1, block.ff)
        )
        modules = (*attention, self.vae.blocks, self.vae.conv_mid)
        return [
            layer.weight
            for module in modules
            for layer in module.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and min(layer.weight.flatten(1).shape) > 1
        ]

    def load(self, folder: Path, *, parts: Sequence[str]) -> tuple[int, str]:
        """Takes weights over; what the checkpoint's attention does not have keeps its start.

        Args:
            folder: A checkpoint as `save` writes it.
            parts: `transformer`, `vae` or both.

        Returns:
            Its training steps, and its name.

        Raises:
            CheckpointError: If there is no such part, or it is damaged.
            TrainingConfigError: If it has other sizes than the configuration.
        """
        description = read_description(folder)
        for part in parts:
            module: nn.Module = getattr(self, part)
            path = folder / part / "diffusion_pytorch_model.safetensors"
            try:
                state = load_file(path)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"cannot read {path}: {error}", path=path) from error
            try:
                missing = module.load_state_dict(state, strict=False)
            except RuntimeError as error:
                raise TrainingConfigError(f"{folder} does not fit the configuration: {error}") from error
            lost, unknown = (
                [name for name in names if not ADDED_MODULES.intersection(name.split("."))]
                for names in (missing.missing_keys, missing.unexpected_keys)
            )
            if any("view" in name.split(".") for name in missing.missing_keys):
                for block in self.transformer.transformer_blocks:
                    block.attn1.view.start_as(block.attn1)
            if lost or unknown:
                raise TrainingConfigError(
                    f"{folder} does not fit the configuration: its {part} lacks {lost[:3]}, has {unknown[:3]}"
                )
        return description.training_steps, description.name

    def save(self, folder: Path, *, card: dict[str, object], dtype: torch.dtype = torch.float16) -> None:
        """Writes a diffusers folder with our `dovetail.json`; the weights in `dtype`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in (("transformer", self.transformer), ("vae", self.vae)):
            module.save_config(folder / name)
            state = {k: v.detach().to(dtype).contiguous() for k, v in module.state_dict().items()}
            # Not `save_file`, whose files only their owner may read: workers have users of their own.
            weights = save(state, metadata={"format": "pt"})
            (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(weights)
        self.scheduler.save_config(folder / "scheduler")
        prompts = folder / "prompt_embeddings"
        prompts.mkdir(exist_ok=True)
        embedding = save({"prompt_embedding": self.prompt_embeds[0].to(torch.bfloat16)})
        (prompts / f"{EMPTY_PROMPT_SHA256}.safetensors").write_bytes(embedding)
        index = {
            "_class_name": "DovePipeline",
            "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
            "text_encoder": [None, None],
            "tokenizer": [None, None],
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "vae": ["pipelines.codecs.space_to_depth", "SpaceToDepthAutoencoder"],
        }
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        description = {
            "name": self.config.name,
            "scale": self.config.scale,
            "timestep": self.config.timestep,
            "attention": self.config.attention.bound_to(transformer_digest(folder)).model_dump(mode="json"),
            "local_enhancement": self.config.local_enhancement,
            "view": self.config.view and self.config.view.model_dump(mode="json"),
        }
        (folder / "dovetail.json").write_text(json.dumps(description | card, indent=2) + "\n")


def upsample(lq: torch.Tensor, scale: int) -> torch.Tensor:
    """Bilinear upsampling of a clip (B, 3, F, h, w), align_corners False, as DOVE prepares its samples."""
    batch_size, _, num_frames = lq.shape[:3]
    frames = lq.transpose(1, 2).flatten(0, 1)
    large = F.interpolate(frames, scale_factor=scale, mode="bilinear", align_corners=False)
    return large.reshape(batch_size, num_frames, *large.shape[1:]).transpose(1, 2)
