"""A checkpoint's parts as a diffusers pipeline: loaded, prepared for one timestep, and on their device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline

from pipelines.codecs.codec import make_codec
from pipelines.codecs.cogvideox_vae import prepare_vae
from pipelines.devices import Quantize, choose_device
from pipelines.dove.attention import set_attention_kernel
from pipelines.dove.description import CheckpointDescription
from pipelines.dove.kernels import AttentionBackend, check_attention_backend
from pipelines.dove.loading import load_checkpoint
from pipelines.dove.lossless import freeze_timestep, fuse_qkv
from pipelines.dove.quantization import check_quantization, is_quantized, quantize_linears
from pipelines.dove.restorer import ChunkRestorer
from pipelines.dove.runtime import compile_blocks, free_memory, tune_kernels
from pipelines.errors import BackendUnavailableError, InvalidOptionError
from pipelines.planning.shapes import DiffusionShape

logger = logging.getLogger(__name__)


# diffusers has no type hints: its classes are Any to mypy.
class DoveComponents(DiffusionPipeline):  # type: ignore[misc]
    """Autoencoder, transformer and scheduler, and what makes them ready to run.

    Args:
        vae: `AutoencoderKLCogVideoX` or `SpaceToDepthAutoencoder`.
        transformer: `CogVideoXTransformer3DModel`.
        scheduler: Holds alpha_bar (`CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`).
        text_encoder: Not used; here for the layout of a diffusers pipeline.
        tokenizer: Not used.
        prompt_embeds: (1, L, D) text embedding. None stands for zeros and is for tests only.
        description: The checkpoint's description; DOVE's defaults if None.
    """

    model_cpu_offload_seq = "transformer->vae"
    _optional_components = ("text_encoder", "tokenizer")

    def __init__(
        self,
        vae: Any,
        transformer: Any,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        *,
        prompt_embeds: torch.Tensor | None = None,
        description: CheckpointDescription | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.description = description or CheckpointDescription()
        self.model_shape = DiffusionShape.of(
            vae,
            transformer,
            attention=self.description.attention,
            clip_length=self.description.clip_length,
            view_tokens=self.description.view.tokens if self.description.view else 0,
        )
        if prompt_embeds is None:
            config = transformer.config
            prompt_embeds = torch.zeros(1, config.max_text_seq_length, config.text_embed_dim)
        self.restorer = ChunkRestorer(
            make_codec(vae),
            transformer,
            scheduler,
            prompt_embeds=prompt_embeds,
            model_shape=self.model_shape,
            timestep=self.description.timestep,
        )
        self._has_lossless_savings = False
        self._is_quantized = False

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        prompt: str = "",
        prompt_embeddings: Path | None = None,
        timestep: int | None = None,
        attention_backend: AttentionBackend = "auto",
        quantize: Quantize = "auto",
        use_lossless_savings: bool = True,
        use_compile: bool = False,
        use_offload: bool = False,
        use_cudnn_benchmark: bool = True,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Loads a pipeline that is ready to run.

        Args:
            checkpoint: Folder, name of an embedded checkpoint ("dovetail-dit-nano") or hub id ("owner/name").
            device: Where it runs.
            dtype: Dtype of weights and activations; None is bfloat16 on a GPU and float32 on the CPU.
            prompt: Text prompt; DOVE was trained with the empty one.
            prompt_embeddings: Folder with stored embeddings, if not in the checkpoint.
            timestep: Timestep of the one-step rule, if not the checkpoint's.
            attention_backend: Attention kernel; `auto` leaves the choice to torch.
            quantize: Linears of the transformer in 8 bits; a departure of about 8 bits' rounding.
            use_lossless_savings: Fold constants and drop what is never read; same bits, less memory.
            use_compile: torch.compile blocks of the transformer and, with lossless savings, of CogVideoX's
                VAE; changes results by kernel noise.
            use_offload: Keep the transformer and the VAE in host memory and move each to the GPU while it
                works; for GPUs that cannot hold both.
            use_cudnn_benchmark: On a GPU, let cuDNN time its convolutions and take the fastest; changes
                results by kernel noise, from process to process too.
            revision: Hub revision.
            local_files_only: Never download.

        Raises:
            CheckpointError: If the checkpoint cannot be found or loaded.
            BackendUnavailableError: If device, backend or quantisation do not exist here.
            InvalidOptionError: If the timestep, backend or quantisation does not exist.
        """
        device = choose_device(device)
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        check_attention_backend(attention_backend, device, dtype)
        check_quantization(quantize, device, dtype)
        if use_offload and device.type == "cpu":
            raise BackendUnavailableError(
                "offloading moves models to a GPU; there is nothing to offload on the CPU"
            )
        loaded = load_checkpoint(
            checkpoint,
            dtype=dtype,
            prompt=prompt,
            prompt_embeddings=prompt_embeddings,
            revision=revision,
            local_files_only=local_files_only,
        )
        description = loaded.description
        if timestep is not None:
            if not 0 <= timestep < loaded.scheduler.config.num_train_timesteps:
                raise InvalidOptionError(f"timestep {timestep} does not exist in this scheduler")
            description = description.model_copy(update={"timestep": timestep})
        pipeline = cls(
            loaded.vae,
            loaded.transformer,
            loaded.scheduler,
            prompt_embeds=loaded.prompt_embeds,
            description=description,
        )
        if use_lossless_savings:
            pipeline.apply_lossless_savings()
        pipeline.quantize_linears(quantize)
        if use_offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
        tune_kernels(device, use_cudnn_benchmark=use_cudnn_benchmark)
        # Once the pipeline is there: the backend is checked against the device that it is on.
        pipeline.set_attention_backend(attention_backend)
        if use_compile:
            pipeline.compile_blocks()
        return pipeline

    def apply_lossless_savings(self) -> None:
        """Folds the timestep's constants and prepares the VAE; the pipeline then has this timestep only."""
        if self._has_lossless_savings:
            return
        num_dropped = freeze_timestep(self.transformer, self.description.timestep)
        fuse_qkv(self.transformer)
        if self.model_shape.autoencoder == "cogvideox":
            prepare_vae(self.vae)
        self.restorer.stream_whole_frames(self.vae)
        self.model_shape = self.restorer.model_shape
        self._has_lossless_savings = True
        logger.info("folded %d constant parameters of %s", num_dropped, self.description.name)

    def quantize_linears(self, quantize: Quantize) -> None:
        """Puts the transformer's linears into 8 bits; a value that passed `check_quantization`."""
        quantize_linears(self.transformer, quantize)
        self._is_quantized = is_quantized(quantize)

    def free_memory(self) -> int:
        """Bytes that activations may take on the device: with offloading, while the largest part is there."""
        return free_memory([self.vae, self.transformer], torch.device(self._execution_device))

    def compile_blocks(self) -> None:
        """Compiles blocks of the transformer and of CogVideoX's VAE at their first call for each shape."""
        compile_blocks(self.transformer, self.vae)
        self.restorer.run_separate_steps()  # the other way does not call the blocks
        self.model_shape = self.restorer.model_shape

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Saves the components as a diffusers folder.

        Raises:
            InvalidOptionError: If lossless savings or quantisation were applied: what they dropped would be
                missing.
        """
        if self._has_lossless_savings or self._is_quantized:
            raise InvalidOptionError(
                "a pipeline with lossless savings or quantised weights cannot be saved; load it with "
                "use_lossless_savings=False and quantize='none'"
            )
        super().save_pretrained(*args, **kwargs)

    def set_attention_backend(self, backend: AttentionBackend) -> None:
        """Chooses the attention kernel.

        Raises:
            InvalidOptionError: If there is no such backend.
            BackendUnavailableError: If it cannot run on this machine or with this checkpoint.
        """
        check_attention_backend(backend, self._execution_device, self.transformer.dtype)
        set_attention_kernel(self.transformer, backend)
