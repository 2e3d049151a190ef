"""Models by name: checkpoints of the pipelines package, and interpolation without weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from pipelines.dove.options import DoveOptions
from pipelines.errors import CheckpointError, InvalidOptionError
from pipelines.interpolation import InterpolationMethod, InterpolationPipeline
from pipelines.planning.diffusion import ModelShape, PlanRequest, UpscalePlan, plan_upscale
from pipelines.standin import STANDIN_PREFIX, parse_standin

if TYPE_CHECKING:
    from pipelines.dove.runtime import AttentionBackend

# diffusers takes three seconds to import, so what needs it is imported where a checkpoint is loaded.

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

DEFAULT_MODEL = "dovetail-nano"
INTERPOLATION_MODELS: tuple[str, ...] = get_args(InterpolationMethod)
INTERPOLATION_SCALE = 4
# Frames are independent of one another, so chunks only bound the memory.
INTERPOLATION_CHUNK = 8

_DIGEST_BYTES = 1 << 20


class FramePipeline(Protocol):
    """What this package needs of a pipeline."""

    def stream(
        self,
        clip: Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: UpscalePlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Upscales (F, 3, h, w) in [0, 1] to (f, 3, height, width), a few frames at a time."""
        ...


@dataclass(frozen=True)
class Model:
    """A pipeline that is ready to run, and what reports and continued runs need to know of it.

    Attributes:
        name: What the user called it.
        pipeline: The pipeline.
        device: Where it runs.
        dtype: Dtype of weights and activations.
        scale: Factor when the user gives none.
        fingerprint: Changes when weights or description change; "" for interpolation.
        licence: SPDX identifier or a sentence.
        shape: For the planner; None for interpolation.
    """

    name: str
    pipeline: FramePipeline
    device: torch.device
    dtype: torch.dtype
    scale: int
    fingerprint: str = ""
    licence: str = ""
    shape: ModelShape | None = None

    def identity(self) -> dict[str, str]:
        """What must be the same for two runs to give the same frames."""
        return {
            "model": self.fingerprint or self.name,
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def plan(
        self,
        *,
        num_frames: int,
        size: tuple[int, int],
        out_size: tuple[int, int],
        reserved_bytes: int,
        tile: int | None = None,
        overlap: int | None = None,
        chunk: int | None = None,
        chunk_overlap: int | None = None,
    ) -> UpscalePlan:
        """Chooses chunks and tiles for the memory that is free now.

        Args:
            num_frames: Frames to come.
            size: (height, width) of the source.
            out_size: (height, width) of the output.
            reserved_bytes: Host memory that the other stages will take.
            tile: As in `plan_upscale`, like the others.
            overlap: Of tiles, in pixels.
            chunk: In frames.
            chunk_overlap: In frames.

        Raises:
            InvalidOptionError: If sizes contradict one another.
            OutOfMemoryError: If the smallest plan does not fit.
        """
        if self.shape is None:
            length = chunk or INTERPOLATION_CHUNK
            return UpscalePlan(chunk_len=length, chunk_overlap=chunk_overlap or 0)
        from pipelines.dove.runtime import available_memory

        memory = available_memory(self.device)
        if self.device.type == "cpu":
            memory = max(memory - reserved_bytes, 0)
        return plan_upscale(
            num_frames=num_frames,
            height=size[0],
            width=size[1],
            out_height=out_size[0],
            out_width=out_size[1],
            model=self.shape,
            memory_bytes=memory,
            tile=tile,
            overlap=overlap,
            chunk=chunk,
            chunk_overlap=chunk_overlap,
        )


def load_model(
    name: str | None = None,
    *,
    device: str = "auto",
    dtype: DtypeName = "auto",
    attention_backend: AttentionBackend = "auto",
    use_compile: bool = False,
    use_offload: bool = False,
    **options: Any,
) -> Model:
    """Loads a model.

    Args:
        name: A checkpoint (folder, embedded name or hub id), "bicubic" or "lanczos"; None for the embedded
            default. "standin:sleep=0.05" is for load tests, see `pipelines.standin`.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "auto" for the fastest that is good enough on the device.
        attention_backend: Attention kernel.
        use_compile: Compile the transformer; slower to start, faster to run.
        use_offload: Keep the parts of the model in host memory while they do not work.
        **options: Passed to `DovePipeline.from_checkpoint`.

    Raises:
        CheckpointError: If the checkpoint cannot be found or loaded.
        BackendUnavailableError: If device or kernel do not exist here.
        InvalidOptionError: If an option has no such value.
    """
    chosen_device = choose_device(device)
    if name in INTERPOLATION_MODELS:
        return Model(
            name=name,
            pipeline=InterpolationPipeline(name),  # type: ignore[arg-type]
            device=torch.device("cpu") if device == "auto" else chosen_device,
            dtype=torch.float32,
            scale=INTERPOLATION_SCALE,
            licence="none needed",
        )
    if name is not None and name.startswith(STANDIN_PREFIX):
        standin, scale = parse_standin(name)
        return Model(name, standin, torch.device("cpu"), torch.float32, scale, licence="none needed")
    return _load_checkpoint(
        name or _default_model(),
        device=chosen_device,
        dtype=dtype,
        attention_backend=attention_backend,
        use_compile=use_compile,
        use_offload=use_offload,
        **options,
    )


def _load_checkpoint(name: str, *, device: torch.device, dtype: DtypeName, **options: Any) -> Model:
    from pipelines.dove.description import read_manifest
    from pipelines.dove.loading import resolve_checkpoint
    from pipelines.dove.pipeline import DovePipeline

    chosen_dtype = choose_dtype(dtype, device)
    folder = resolve_checkpoint(name)
    manifest = read_manifest(folder)
    pipeline = DovePipeline.from_checkpoint(folder, device=device, dtype=chosen_dtype, **options)
    return Model(
        name=name,
        pipeline=pipeline,
        device=device,
        dtype=chosen_dtype,
        scale=manifest.scale,
        fingerprint=checkpoint_fingerprint(folder),
        licence=manifest.licence,
        shape=pipeline.model_shape,
    )


def choose_device(device: str) -> torch.device:
    """The device that a name stands for.

    Raises:
        InvalidOptionError: If the name means nothing.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InvalidOptionError(
            f"device {device!r} does not exist; use auto, cpu, cuda or cuda:N"
        ) from error


def choose_dtype(dtype: DtypeName, device: torch.device) -> torch.dtype:
    """The dtype that a name stands for: bfloat16 where the device multiplies it in hardware, else float32.

    Raises:
        InvalidOptionError: If the name means nothing.
    """
    if dtype not in get_args(DtypeName):
        raise InvalidOptionError(f"dtype {dtype!r} is not one of {', '.join(get_args(DtypeName))}")
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type != "cpu":
        return torch.bfloat16
    # Emulated bfloat16 is several times slower than float32.
    is_fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if is_fast else torch.float32


def checkpoint_fingerprint(folder: Path) -> str:
    """A digest over the names, sizes, heads and tails of a checkpoint's files: enough to notice other
    weights."""
    from pipelines.dove.description import COMPONENT_PATTERNS

    digest = hashlib.sha256()
    for path in sorted({path for pattern in COMPONENT_PATTERNS for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_DIGEST_BYTES))
            file.seek(max(0, size - _DIGEST_BYTES))
            digest.update(file.read(_DIGEST_BYTES))
    return digest.hexdigest()


def plan_from_json(values: dict[str, Any]) -> UpscalePlan:
    """The plan that `to_json_value` wrote.

    Raises:
        TypeError: If a field is missing or unknown.
    """
    request = values.get("request")
    if request is None:
        return UpscalePlan(**values)
    tile = request["tile"]
    request = request | {
        "model": ModelShape(**request["model"]),
        "tile": None if tile is None else (tile[0], tile[1]),
    }
    return UpscalePlan(**(values | {"request": PlanRequest(**request)}))


def _default_model() -> str:
    from pipelines.dove.description import embedded_checkpoints

    if DEFAULT_MODEL in embedded_checkpoints():
        return DEFAULT_MODEL
    raise CheckpointError(
        f"this installation has no embedded {DEFAULT_MODEL}; name a checkpoint folder or hub id, or use "
        "bicubic"
    )
