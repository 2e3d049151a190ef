"""DovePipeline: a low-resolution clip in, a restored clip of the wanted size out, one transformer call.

The method is DOVE's (arXiv 2505.16239); `DoveOptions.reference()` gives its script's bits
(https://github.com/zhengchen1999/DOVE/blob/ad649cc/inference_script.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from pipelines.chunks import Chunk, clip_chunks, reference_chunks
from pipelines.clip_checks import check_clip
from pipelines.clips import stream_chunks
from pipelines.codecs.codec import make_codec
from pipelines.codecs.cogvideox_vae import prepare_vae
from pipelines.devices import choose_device
from pipelines.dove.attention import set_attention_kernel
from pipelines.dove.description import CheckpointDescription
from pipelines.dove.geometry import make_geometry
from pipelines.dove.kernels import AttentionBackend, check_attention_backend
from pipelines.dove.loading import load_checkpoint
from pipelines.dove.lossless import freeze_timestep, fuse_qkv
from pipelines.dove.options import DoveOptions, DoveOutput
from pipelines.dove.restorer import ChunkRestorer
from pipelines.dove.runtime import compile_blocks, free_memory, tune_kernels
from pipelines.errors import BackendUnavailableError, InvalidOptionError, UnsupportedSizeError
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.planner import plan_diffusion
from pipelines.planning.shapes import DiffusionShape

logger = logging.getLogger(__name__)


# diffusers has no type hints: its classes are Any to mypy.
class DovePipeline(DiffusionPipeline):  # type: ignore[misc]
    """One-step diffusion video super-resolution.

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
            is_windowed=self.description.attention.pattern == "window",
            clip_length=self.description.clip_length,
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
        use_lossless_savings: bool = True,
        use_compile: bool = False,
        use_offload: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> DovePipeline:
        """Loads a pipeline that is ready to run.

        Args:
            checkpoint: Folder, name of an embedded checkpoint ("dovetail-nano") or hub id ("owner/name").
            device: Where it runs.
            dtype: Dtype of weights and activations; None is bfloat16 on a GPU and float32 on the CPU.
            prompt: Text prompt; DOVE was trained with the empty one.
            prompt_embeddings: Folder with stored embeddings, if not in the checkpoint.
            timestep: Timestep of the one-step rule, if not the checkpoint's.
            attention_backend: Attention kernel; `auto` leaves the choice to torch.
            use_lossless_savings: Fold constants and drop what is never read; same bits, less memory.
            use_compile: torch.compile the transformer's blocks; changes results by kernel noise.
            use_offload: Keep the transformer and the VAE in host memory and move each to the GPU while it
                works; for GPUs that cannot hold both.
            revision: Hub revision.
            local_files_only: Never download.

        Raises:
            CheckpointError: If the checkpoint cannot be found or loaded.
            BackendUnavailableError: If device or backend do not exist here.
            InvalidOptionError: If the timestep or backend does not exist.
        """
        device = choose_device(device)
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        check_attention_backend(attention_backend, device, dtype)
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
        if use_offload:
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)
        tune_kernels(device)
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

    def free_memory(self) -> int:
        """Bytes that activations may take on the device: with offloading, while the largest part is there."""
        return free_memory([self.vae, self.transformer], torch.device(self._execution_device))

    def compile_blocks(self) -> None:
        """Compiles the transformer's blocks at their first call for each shape."""
        compile_blocks(self.transformer)
        self.restorer.run_separate_steps()  # the other way does not call the blocks
        self.model_shape = self.restorer.model_shape

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Saves the components as a diffusers folder.

        Raises:
            InvalidOptionError: If lossless savings were applied: what they dropped would be missing.
        """
        if self._has_lossless_savings:
            raise InvalidOptionError(
                "a pipeline with lossless savings cannot be saved; load it with use_lossless_savings=False"
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

    def plan(self, request: ChunkRequest) -> DiffusionPlan:
        """Chooses chunks and tiles for this checkpoint; see `plan_diffusion`."""
        return plan_diffusion(self.model_shape, request)

    def chunks(self, num_frames: int, plan: DiffusionPlan, options: DoveOptions) -> list[Chunk]:
        """The chunks of a whole clip. DOVE's own may reach past its end, where the last frame stands in.

        Raises:
            UnsupportedSizeError: If the overlap leaves no stride.
        """
        if options.segmentation == "equal":
            return clip_chunks(num_frames, plan.chunk_len, plan.chunk_overlap)
        try:
            return reference_chunks(
                self.model_shape.padded_frames(num_frames), plan.chunk_len, plan.chunk_overlap
            )
        except ValueError as error:
            raise UnsupportedSizeError(f"chunks do not fit: {error}") from error

    def __call__(
        self,
        clip: torch.Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: DiffusionPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> DoveOutput:
        """Upscales a clip, in one attempt (`pipelines.clips.restore_clip` goes on where memory ends).

        Args:
            clip: (F, 3, h, w), R'G'B' code values, float with [0, 1] or uint8; any device. Interpolation runs
                there.
            height: Target height in pixels.
            width: Target width in pixels.
            options: Defaults to the recommended ones.
            plan: Chunks and tiles; by default chosen from the free memory.
            generator: Source of noise for latent rule `sample` and `noise_step`; None is torch's global one.

        Raises:
            UnsupportedSizeError: If a size cannot be processed.
            InvalidOptionError: If clip or options are not as described.
            OutOfMemoryError: If even the smallest plan does not fit.
        """
        options = options or DoveOptions()
        check_clip(clip)
        plan = plan or self.plan(
            ChunkRequest(
                num_frames=clip.shape[0],
                height=clip.shape[-2],
                width=clip.shape[-1],
                out_height=height,
                out_width=width,
                memory_bytes=self.free_memory(),
            )
        )

        def restore(frames: torch.Tensor) -> Iterator[torch.Tensor]:
            return self.restore_chunk(frames, (height, width), options, plan, generator)

        chunks = self.chunks(clip.shape[0], plan, options)
        frames = stream_chunks(clip, chunks, restore, blend=options.chunk_blend)
        return DoveOutput(torch.stack(list(frames)), quantization=options.quantization)

    @torch.no_grad()
    def restore_chunk(
        self,
        clip: torch.Tensor,
        size: tuple[int, int],
        options: DoveOptions,
        plan: DiffusionPlan,
        generator: torch.Generator | None = None,
    ) -> Iterator[torch.Tensor]:
        """Restores one chunk; arguments and errors are those of `__call__`, memory may end.

        Yields:
            (f, 3, *size), float32, [0, 1], on the clip's device, while later frames are decoded.
        """
        check_clip(clip)
        geometry = make_geometry((clip.shape[-2], clip.shape[-1]), size, self.model_shape, options)
        plan.check(geometry.padded, model=self.model_shape, segmentation=options.segmentation)
        upsample = options.upsample or self.description.upsample
        yield from self.restorer.restore(clip, geometry, options, plan, generator, upsample)
        self.maybe_free_model_hooks()
