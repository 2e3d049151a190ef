"""Released per-frame networks through our architectures, beside their authors' own code.

Needs checkouts of the authors' repositories, whose code and weights stay there: github.com/Zheng222/IMDN and
github.com/Aitical/CFSR. The same picture goes through `load_network`, as `--model FILE` does, and through the
network of the authors' module with the same state dict loaded strictly. Differences are of values in [0, 1],
divided by the authors' largest value before these are clipped (IMDN_RTE's reach 6); wanted are at most 1e-5.

    python -m benchmarks.released_networks IMDN CFSR ../shared/clips/benchmark/kodim07.webp
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.results_file import write_results
from pipelines.per_frame.loading import load_network
from pipelines.planning.frame_plan import FramePlan
from training.evaluation.clips import load_hr

ALLOWED = 1e-5
# Of the picture's middle; large enough for every network's windows.
SIZE = (96, 128)


@dataclass(frozen=True)
class Released:
    """Weights that authors released, and their own network for them."""

    name: str
    path: Path
    scale: int
    make: Callable[[], nn.Module]


def imdn(folder: Path) -> Iterator[Released]:
    """IMDN (Hui et al., ACM MM 2019), with its real-time and any-size forms."""
    sys.path.insert(0, str(folder))
    networks = importlib.import_module("model.architecture")
    # IMDN_RTE names a class of block.py without its module.
    vars(networks)["IMDModule_Large"] = networks.B.IMDModule_Large
    for scale in (2, 3, 4):
        yield Released(
            f"IMDN x{scale}",
            folder / f"checkpoints/IMDN_x{scale}.pth",
            scale,
            functools.partial(networks.IMDN, upscale=scale),
        )
    yield Released("IMDN_AS", folder / "checkpoints/IMDN_AS.pth", 1, networks.IMDN_AS)
    yield Released("IMDN_RTC", folder / "checkpoints/model_RTC.pth", 2, networks.IMDN_RTC)
    yield Released("IMDN_RTE", folder / "checkpoints/model_RTE.pth", 2, networks.IMDN_RTE)


def cfsr(folder: Path) -> Iterator[Released]:
    """CFSR (Wu et al., 2024). Its module wants BasicSR's registry, of which it uses a decorator."""
    registry = types.ModuleType("basicsr.utils.registry")
    # BasicSR is not installed, and modules are looked up by these names alone.
    vars(registry)["ARCH_REGISTRY"] = types.SimpleNamespace(register=lambda: lambda network: network)
    sys.modules["basicsr.utils.registry"] = registry
    spec = importlib.util.spec_from_file_location("authors_cfsr", folder / "basicsr/archs/cfsr_arch.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    for scale in (2, 3, 4):
        # As in options/test_CFSR_SRx*.yml.
        yield Released(
            f"CFSR x{scale}",
            folder / f"model_zoo/CFSR_x{scale}.pth",
            scale,
            functools.partial(
                networks.CFSR,
                embed_dim=48,
                depths=(6, 6),
                dw_size=9,
                mlp_ratio=2,
                upscale=scale,
                upsampler="pixelshuffledirect",
            ),
        )


def compare(released: Released, picture: torch.Tensor) -> float:
    """Largest difference between our result and the authors', by the authors' largest value."""
    state = torch.load(released.path, map_location="cpu", weights_only=True)
    state = state.get("params", state)
    authors = released.make().eval()
    authors.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    model = load_network(released.path, device=torch.device("cpu"), dtype="float32")
    height, width = picture.shape[-2:]
    size = (height * released.scale, width * released.scale)
    (ours,) = model.restore(picture, size, FramePlan())
    with torch.inference_mode():
        theirs = authors(picture)
    return float((ours - theirs.clamp(0, 1)).abs().max() / theirs.abs().max())


def main() -> int:
    """Compares all of them; 1 where one differs by more than is allowed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("imdn", type=Path, help="checkout of Zheng222/IMDN")
    parser.add_argument("cfsr", type=Path, help="checkout of Aitical/CFSR")
    parser.add_argument("picture", type=Path, help="a picture, of which the middle 96x128 pixels are taken")
    args = parser.parse_args()
    picture = load_hr(args.picture, scale=4, max_frames=1)
    top, left = ((size - wanted) // 2 for size, wanted in zip(picture.shape[-2:], SIZE, strict=True))
    picture = picture[..., top : top + SIZE[0], left : left + SIZE[1]]
    differences = {
        released.name: compare(released, picture) for released in (*imdn(args.imdn), *cfsr(args.cfsr))
    }
    write_results("released_networks", {"largest_differences": differences, "allowed": ALLOWED})
    return int(max(differences.values()) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
