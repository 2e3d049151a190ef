"""One weights file to a model that is ready to run."""

from __future__ import annotations

import hashlib
import logging
import mmap
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.devices import DtypeName
from pipelines.errors import CheckpointError, is_out_of_memory
from pipelines.model import ModelCard
from pipelines.per_frame.importing import import_spandrel
from pipelines.per_frame.model import PerFrameModel
from pipelines.per_frame.network import as_network
from pipelines.per_frame.precision import choose_network_dtype, make_ready
from pipelines.per_frame.probing import DEFAULT_MARGIN, MAX_REACH, Reach, measure_reach
from pipelines.planning.frame_plan import FrameShape

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
UNKNOWN_LICENCE = "unknown"

logger = logging.getLogger(__name__)


def load_network(
    path: Path,
    *,
    name: str | None = None,
    device: torch.device,
    dtype: DtypeName = "auto",
    licence: str = "",
    use_compile: bool = False,
) -> PerFrameModel:
    """Loads a per-frame network; which one it is, is read from its weights.

    Args:
        path: A file of `WEIGHTS_SUFFIXES` with a state dict. Pickles are read without running their code.
        name: What to call it; None for the file's name.
        device: Where it runs.
        dtype: "auto" for the fastest that is good enough on the device and that the network allows.
        licence: Of the weights; "" where nobody says.
        use_compile: Compile the network at its first frame, and once more, for any size, at the first of
            another size; changes results by kernel noise.

    Raises:
        CheckpointError: If the file is missing, damaged, or not a network that restores RGB frames.
        BackendUnavailableError: If spandrel is not installed.
        InvalidOptionError: If the network does not run in this dtype.
    """
    if path.suffix.lower() not in WEIGHTS_SUFFIXES:
        raise CheckpointError(
            f"{path} is no weights file: their names end in {', '.join(WEIGHTS_SUFFIXES)}", path=path
        )
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}", path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # architectures of many years, which nobody here can change
        descriptor = _read_descriptor(path)
        _check_descriptor(descriptor, path)
        chosen = choose_network_dtype(descriptor, dtype, device)
        try:
            shape, reach = _measure(descriptor)
            ready = make_ready(
                descriptor,
                shape,
                dtype=chosen,
                device=device,
                may_be_float32=dtype == "auto",
                read_again=partial(_read_descriptor, path),
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"the network in {path} ({descriptor.architecture.name}) fails on a small image: {error}",
                path=path,
            ) from error
    card = ModelCard(
        name=name or path.name,
        kind="per_frame",
        scale=descriptor.scale,
        native_scales=(descriptor.scale,),
        licence=licence or UNKNOWN_LICENCE,
        source=str(descriptor.architecture.name),
        fingerprint=_sha256(path),
        notes=(*_notes(descriptor, reach.pixels), *ready.notes),
    )
    for note in card.notes:
        logger.info("%s: %s", card.name, note)
    if use_compile:
        # After the measuring, which meets a dozen sizes that no frame has.
        ready.descriptor.model.compile()
    shape = replace(shape, bytes_per_pixel=ready.bytes_per_pixel, fixed_bytes=ready.fixed_bytes)
    return PerFrameModel(ready.network, card, shape, device=device, dtype=ready.dtype)


def _read_descriptor(path: Path) -> Any:
    """The network as spandrel describes it, on the CPU."""
    spandrel = import_spandrel()
    _refuse_programs(path)
    loader = spandrel.ModelLoader(device=torch.device("cpu"))
    # A .pt file is taken for a program first, unlike here.
    loader._load_torchscript = _no_programs
    try:
        return loader.load_from_file(path)
    except spandrel.UnsupportedModelError as error:
        known = sorted(support.architecture.name for support in spandrel.MAIN_REGISTRY)
        raise CheckpointError(
            f"{path} holds weights of no architecture that is known here ({_describe_keys(loader, path)}); "
            f"known are {', '.join(known)}",
            path=path,
        ) from error
    # Each format, and each of forty architectures that guess their sizes, fails in its own way.
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as the state dict of a network ({detail}); it is damaged, or holds more "
            "than tensors, which is refused",
            path=path,
        ) from error


def _no_programs(path: Path) -> Any:
    raise RuntimeError(f"{path} is not the state dict of a network")


def _refuse_programs(path: Path) -> None:
    """TorchScript may read and write files; torch runs it in place of a pickle wherever it finds it."""
    if path.suffix.lower() == ".safetensors" or path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"constants.pkl") >= 0:
            raise CheckpointError(
                f"{path} is a TorchScript program, which is not run; save the network's state_dict() instead",
                path=path,
            )


def _describe_keys(loader: Any, path: Path) -> str:
    """The first of the names in a state dict."""
    names = sorted(loader.load_state_dict_from_file(path))
    shown = ", ".join(names[:3])
    return f"{len(names)} tensors: {shown}{', ...' if len(names) > 3 else ''}"


def _check_descriptor(descriptor: Any, path: Path) -> None:
    """Refuses networks that do something else than restoring RGB frames."""
    architecture = descriptor.architecture.name
    if descriptor.purpose not in ("SR", "Restoration"):
        raise CheckpointError(
            f"{path} is a network ({architecture}) for {descriptor.purpose}; frames are restored by networks "
            "for super-resolution (SR) or Restoration",
            path=path,
        )
    channels = descriptor.input_channels, descriptor.output_channels
    if channels != (3, 3):
        kind = {1: "grey", 4: "RGB with alpha"}.get(channels[0], f"{channels[0]} channels")
        raise CheckpointError(
            f"{path} is a network ({architecture}) for {kind}: {channels[0]} channels in, {channels[1]} out; "
            "frames need 3 (RGB) in and out",
            path=path,
        )


def _measure(descriptor: Any) -> tuple[FrameShape, Reach]:
    """Shape and reach of a network that is on the CPU, and then in float32."""
    sizes = descriptor.size_requirements
    shape = FrameShape(
        scale=descriptor.scale,
        multiple=sizes.multiple_of,
        min_side=max(sizes.minimum, 1),
        is_square=sizes.square,
        alignment=sizes.multiple_of,
    )
    descriptor.float().eval()
    num_weights = sum(weight.numel() for weight in descriptor.model.parameters())
    reach = measure_reach(as_network(descriptor), shape, num_weights=num_weights)
    margin = DEFAULT_MARGIN if reach.pixels is None else reach.pixels
    return replace(shape, margin=margin, alignment=reach.alignment), reach


def _notes(descriptor: Any, reach: int | None) -> Iterator[str]:
    if reach is None:
        yield (
            f"a pixel depends on more than {MAX_REACH} pixels around it (assumed of large networks), and "
            f"tiles have a margin of {DEFAULT_MARGIN}: their borders may show"
        )
    if descriptor.tiling.name != "SUPPORTED":
        yield f"{descriptor.architecture.name} networks are not made for tiles"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
