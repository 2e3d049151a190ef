"""Models by name. What a name leads to decides, by its content, which kind it is:

* `bicubic`, `lanczos`: interpolation; `standin:...`: a stand-in for load tests;
* a file that ends in .safetensors, .pth, .pt or .ckpt: a per-frame network of any architecture that spandrel
  knows (the extra `networks`);
* a folder or embedded name with a `propagation.json`: a restorer that propagates states, as dovetail-nano 2;
* a folder, embedded name or hub id with a `model_index.json`: the DOVE family;
* the name of a pulled model (`pipelines.store`): one of the last three.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.devices import DtypeName, Quantize, check_quantize, choose_device, choose_dtype
from pipelines.dove.description import EMBEDDED_FOLDER, embedded_checkpoints
from pipelines.errors import CheckpointError, InvalidOptionError
from pipelines.interpolation import METHODS, InterpolationModel
from pipelines.model import Model
from pipelines.per_frame.loading import WEIGHTS_SUFFIXES, load_network
from pipelines.propagation.checkpoint import DESCRIPTION_NAME as PROPAGATION_NAME
from pipelines.propagation.model import load_propagation_model
from pipelines.standin import STANDIN_PREFIX, StandinModel
from pipelines.store import ModelStore, find_pulled

if TYPE_CHECKING:
    from pipelines.dove.kernels import AttentionBackend
    from pipelines.dove.options import DoveOptions

# diffusers takes three seconds to import: what needs it is imported where a model is loaded.

DEFAULT_MODEL = "dovetail-nano-2"


def load_model(
    name: str | None = None,
    *,
    device: str = "auto",
    dtype: DtypeName = "auto",
    options: DoveOptions | None = None,
    attention_backend: AttentionBackend = "auto",
    quantize: Quantize = "auto",
    use_compile: bool = False,
    use_offload: bool = False,
    strength: float | None = None,
    models_dir: Path | None = None,
    **loading: Any,
) -> Model:
    """Loads a model.

    Args:
        name: See above; None for the embedded default.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "auto" for the fastest that is good enough on the device.
        options: Of the DOVE family; None for the recommended ones.
        attention_backend: Attention kernel of the DOVE family.
        quantize: Linears of the DOVE family's transformers, or the body of a propagating restorer, in 8 bits;
            other kinds stay as they are. "auto" where that is faster and loses next to nothing.
        use_compile: Compile the network; slower to start, faster to run. Interpolation and stand-ins have no
            network.
        use_offload: Keep the parts of a DOVE model in host memory while they do not work. Other kinds have
            one part, which always works, and stay on the device.
        strength: How strongly noise and compression are cleaned, 0 to 1, by a model that estimates them;
            None leaves it to the estimate.
        models_dir: Folder of pulled models. A path or an embedded model of that name comes before, a hub id
            after them.
        **loading: For the DOVE family, as for `DovePipeline.from_checkpoint`.

    Raises:
        CheckpointError: If the model cannot be found or loaded.
        BackendUnavailableError: If device, kernel or quantisation do not exist here.
        InvalidOptionError: If an option has no such value, or the model has no strength.
    """
    chosen_device = choose_device(device)
    check_quantize(quantize)
    name = name or default_model()
    location, licence = _find_pulled(name, models_dir)
    folder = propagation_folder(name, location)
    if folder is not None:
        return load_propagation_model(
            folder,
            name=name,
            device=chosen_device,
            dtype=dtype,
            quantize=quantize,
            licence=licence,
            strength=strength,
        )
    if strength is not None:
        raise InvalidOptionError(
            f"{name} has no strength, for it does not estimate what was done to its input; checkpoints with "
            f"a {PROPAGATION_NAME} do"
        )
    if name in METHODS:
        return InterpolationModel(name, device="cpu" if device == "auto" else chosen_device)
    if name.startswith(STANDIN_PREFIX):
        return StandinModel(name)
    if is_weights_file(str(location or name)):
        path = location or Path(name)
        return load_network(
            path, name=name, device=chosen_device, dtype=dtype, licence=licence, use_compile=use_compile
        )
    from pipelines.dove.model import load_dove

    return load_dove(
        name,
        location=location,
        device=chosen_device,
        dtype=choose_dtype(dtype, chosen_device),
        options=options,
        attention_backend=attention_backend,
        quantize=quantize,
        use_compile=use_compile,
        use_offload=use_offload,
        **loading,
    )


def is_weights_file(name: str) -> bool:
    """Whether a name is that of one file with weights, whether it is there or not."""
    path = Path(name)
    return path.suffix.lower() in WEIGHTS_SUFFIXES and not path.is_dir()


def _is_computed(name: str) -> bool:
    """Whether a name is that of a model without weights."""
    return name in METHODS or name.startswith(STANDIN_PREFIX)


def propagation_folder(name: str, location: Path | None = None) -> Path | None:
    """The folder that a name leads to, if it is a propagating restorer's.

    Args:
        name: A folder, or an embedded checkpoint.
        location: Where the model lies, if that is known already.
    """
    if _is_computed(name):
        return None
    if location is None:
        location = Path(name) if Path(name).is_dir() else EMBEDDED_FOLDER / name
    return location if (location / PROPAGATION_NAME).is_file() else None


def _find_pulled(name: str, models_dir: Path | None) -> tuple[Path | None, str]:
    """Where a pulled model lies, and its licence; (None, "") for other names."""
    is_built_in = _is_computed(name) or name in embedded_checkpoints()
    if models_dir is None or is_built_in or Path(name).exists():
        return None, ""
    location = find_pulled(name, folder=models_dir)
    return location, "" if location is None else (ModelStore(models_dir).read(name).licence or "")


def default_model() -> str:
    """The embedded model that is taken where nobody names one.

    Raises:
        CheckpointError: If this installation has none.
    """
    if DEFAULT_MODEL in embedded_checkpoints():
        return DEFAULT_MODEL
    raise CheckpointError(
        f"this installation has no embedded {DEFAULT_MODEL}; name a checkpoint folder or hub id, or use "
        "bicubic"
    )
