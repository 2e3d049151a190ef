"""A DOVE pipeline as a `Model`: the options of `DoveOptions` bound, and what reports need to know of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.chunks import Chunk
from pipelines.devices import Quantize
from pipelines.dove.description import COMPONENT_PATTERNS
from pipelines.dove.geometry import make_geometry
from pipelines.dove.loading import resolve_checkpoint
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.quantization import is_quantized
from pipelines.dove.reference_tiling import check_reference_tiling
from pipelines.dove.streamed import WholeNetwork
from pipelines.errors import InvalidOptionError
from pipelines.model import Model, ModelCard, PartClock
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkPlan, NetworkPart
from pipelines.tiling import Blend

_DIGEST_BYTES = 1 << 20


class DoveModel(Model):
    """Runs a `DovePipeline` with fixed options.

    Args:
        pipeline: The pipeline, on its device.
        card: What is said of it.
        device: Where it runs.
        dtype: Of weights and activations.
        options: Of every call; None for the recommended ones.
    """

    def __init__(
        self,
        pipeline: DovePipeline,
        card: ModelCard,
        *,
        device: torch.device,
        dtype: torch.dtype,
        options: DoveOptions | None = None,
    ) -> None:
        super().__init__(card, pipeline.model_shape, device, dtype)
        self.pipeline = pipeline
        self.options = options or DoveOptions()

    @property
    def part(self) -> NetworkPart:
        return self.pipeline.restorer.part

    def free_memory(self) -> int:
        """See `Model.free_memory`; offloaded parts count as they will be while the largest works."""
        return self.pipeline.free_memory()

    @property
    def blend(self) -> Blend:
        return self.options.chunk_blend

    def chunks(self, num_frames: int, plan: ChunkPlan) -> list[Chunk]:
        """See `Model.chunks`; the reference's options have chunks of their own."""
        return self.pipeline.chunks(num_frames, _own(plan), self.options)

    def check_size(self, size: tuple[int, int], out_size: tuple[int, int]) -> None:
        """See `Model.check_size`."""
        geometry = make_geometry(size, out_size, self.pipeline.model_shape, self.options)
        if self.options.vae_tiling == "reference" and self.pipeline.model_shape.autoencoder == "cogvideox":
            check_reference_tiling(self.pipeline.vae, *geometry.padded)

    def restore(
        self,
        clip: Tensor,
        size: tuple[int, int],
        plan: ChunkPlan,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """See `Model.restore`."""
        return self.pipeline.restore_chunk(clip, size, self.options, _own(plan), generator)

    @contextmanager
    def timed(self, clock: PartClock) -> Iterator[None]:
        """Times encoder, transformer and decoder."""
        restorer, started = self.pipeline.restorer, list[float]()
        handles = [
            restorer.transformer.register_forward_pre_hook(lambda *_: started.append(clock.now())),
            restorer.transformer.register_forward_hook(
                lambda *_: clock.add("transformer", clock.now() - started.pop())
            ),
        ]
        codec = restorer.codec
        restorer.codec = _TimedCodec(codec, clock)
        streamed = restorer.streamed
        if streamed is not None:
            restorer.streamed = _TimedNetwork(streamed, clock)
        try:
            yield
        finally:
            restorer.codec, restorer.streamed = codec, streamed
            for handle in handles:
                handle.remove()


class _TimedCodec:
    """A codec that tells a clock how long it takes."""

    def __init__(self, codec: Any, clock: PartClock) -> None:
        self._codec, self._clock = codec, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock.measure("encode"):
            return self._codec.encode(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Iterator[Tensor]:
        return self._clock.iterate("decode", iter(self._codec.decode(*args, **kwargs)))


class _TimedNetwork:
    """A network of one piece that tells a clock how long it takes; its encoder is part of the transformer."""

    def __init__(self, network: WholeNetwork, clock: PartClock) -> None:
        self._network, self._clock = network, clock

    @property
    def device(self) -> torch.device:
        return self._network.device

    def restore_tokens(self, *args: Any) -> Tensor:
        with self._clock.measure("transformer"):
            return self._network.restore_tokens(*args)

    def render(self, *args: Any) -> Iterator[Tensor]:
        return self._clock.iterate("decode", self._network.render(*args))


def _own(plan: ChunkPlan) -> DiffusionPlan:
    if not isinstance(plan, DiffusionPlan):
        raise InvalidOptionError(f"a diffusion model needs a DiffusionPlan, got {type(plan).__name__}")
    return plan


def load_dove(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    location: Path | None = None,
    options: DoveOptions | None = None,
    quantize: Quantize = "auto",
    **loading: Any,
) -> DoveModel:
    """Loads a checkpoint of the DOVE family.

    Args:
        name: What the user called it; folder, embedded name or hub id where no location is given.
        device: Where it runs.
        dtype: Of weights and activations.
        location: Its folder.
        options: Of every call.
        quantize: Linears of the transformer in 8 bits.
        **loading: As for `DovePipeline.from_checkpoint`.

    Raises:
        CheckpointError: If the checkpoint cannot be found or loaded.
        BackendUnavailableError: If device, kernel or quantisation do not exist here.
        InvalidOptionError: If an option has no such value.
    """
    folder = resolve_checkpoint(location or name)
    pipeline = DovePipeline.from_checkpoint(folder, device=device, dtype=dtype, quantize=quantize, **loading)
    description, scale = pipeline.description, pipeline.model_shape.native_scale
    card = ModelCard(
        name=name,
        kind="diffusion",
        scale=description.scale,
        native_scales=() if scale is None else (scale,),
        licence=description.licence,
        source=description.source,
        fingerprint=_fingerprint(folder, options, quantize),
    )
    return DoveModel(pipeline, card, device=device, dtype=dtype, options=options)


def _fingerprint(folder: Path, options: DoveOptions | None, quantize: Quantize) -> str:
    """The checkpoint's digest, its quantisation, and the digest of options which are not the recommended
    ones."""
    fingerprint = checkpoint_fingerprint(folder)
    if is_quantized(quantize):
        fingerprint += f"+{quantize}"
    if options is None or options == DoveOptions():
        return fingerprint
    text = json.dumps(asdict(options), sort_keys=True)
    return f"{fingerprint}+{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def checkpoint_fingerprint(folder: Path) -> str:
    """A digest over the names, sizes, heads and tails of a checkpoint's files: enough to notice other
    weights."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in COMPONENT_PATTERNS for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_DIGEST_BYTES))
            file.seek(max(0, size - _DIGEST_BYTES))
            digest.update(file.read(_DIGEST_BYTES))
    return digest.hexdigest()
