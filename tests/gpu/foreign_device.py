"""Models on a device that there is not: every operation's shapes and devices, and no numbers.

torch's fake tensors refuse what a GPU would refuse: operands on two devices, tables left on the host.
`python -m tests.gpu.foreign_device` runs all of `cases` and prints what failed, as JSON. It is a program,
since a process does not get rid of such a device.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from pipelines.clips import restore_clip
from pipelines.dove import components
from pipelines.dove.model import load_dove
from pipelines.dove.options import DoveOptions
from pipelines.interpolation import InterpolationModel
from pipelines.loaders import load_model
from pipelines.model import Model
from pipelines.per_frame import loading as network_loading
from pipelines.per_frame.loading import load_network
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.plan import ChunkPlan
from pipelines.propagation import checkpoint as propagation_checkpoint
from tests.pipelines.dove.test_view import save_with_view
from tests.pipelines.per_frame.networks import save_network
from tests.pipelines.tiny import save_checkpoint, save_nano

DEVICE_NAME = "foreign"
NUM_FRAMES, SIZE, SCALE = 6, (16, 24), 4
TILES = DiffusionPlan(tile_height=64, tile_width=64, overlap_height=32, overlap_width=32, cols=2)
VAE_TILES = DiffusionPlan(vae_tile_height=64, vae_tile_width=64, vae_overlap=32)
CHUNKS = DiffusionPlan(chunk_len=4, chunk_overlap=1)
PATTERNS = {
    "window": {"pattern": "window", "window": [2, 3]},
    "sparse": {"pattern": "sparse", "window": [1, 2, 3], "num_similar": 2},
    "units": {"pattern": "units", "unit": 2, "inside": {"pattern": "window", "window": [2, 3]}},
}
CONTROL = "a model that leaves a tensor on the host"

Case = tuple[str, Callable[[torch.device], Model], ChunkPlan | None]


class _DeviceModule(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]


@contextmanager
def foreign_device() -> Iterator[torch.device]:
    """Makes every tensor of the block a fake one; what leaves the device is taken for zero.

    Files are read as they are: what is in them gets fake where it meets others.
    """
    with (
        patch.object(nn.Module, "_apply", _replace_tensors),
        patch.object(components, "load_checkpoint", _really(components.load_checkpoint)),
        patch.object(network_loading, "_read_descriptor", _really(network_loading._read_descriptor)),
        patch.object(propagation_checkpoint, "load_file", _really(propagation_checkpoint.load_file)),
        patch.object(FakeTensor, "tolist", _zeros, create=True),
        patch.object(FakeTensor, "item", _zero, create=True),
        patch.object(FakeTensor, "__bool__", lambda self: False, create=True),
        patch.object(FakeTensor, "__float__", lambda self: 0.0, create=True),
        patch.object(FakeTensor, "__int__", lambda self: 0, create=True),
        patch.object(FakeTensorMode, "avoid_device_init", new=True),  # constants are moved in name only
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        yield torch.device(DEVICE_NAME)


def _really(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return run


def _zeros(self: Tensor) -> Any:
    with unset_fake_temporarily():
        return torch.zeros(self.shape, dtype=self.dtype).tolist()


def _zero(self: Tensor) -> Any:
    with unset_fake_temporarily():
        return torch.zeros((), dtype=self.dtype).item()


def _replace_tensors(
    self: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True
) -> nn.Module:
    """`nn.Module._apply` without what it does for real storage."""
    for child in self.children():
        child._apply(function)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            self._parameters[name] = nn.Parameter(function(parameter.detach()), requires_grad=False)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = function(buffer)
    return self


def run(load: Callable[[torch.device], Model], plan: ChunkPlan | None) -> None:
    """Restores a clip; fails as a GPU would."""
    with foreign_device() as device:
        clip = (torch.rand(NUM_FRAMES, 3, *SIZE) * 255).to(torch.uint8)
        size = SIZE[0] * SCALE, SIZE[1] * SCALE
        frames = restore_clip(load(device), clip, size, plan=plan)
    assert frames.shape == (NUM_FRAMES, 3, *size)
    assert frames.device.type == "cpu"


class _Forgetful(InterpolationModel):
    """Adds a tensor that it has left on the host."""

    def restore(self, clip: Tensor, size: tuple[int, int], *more: Any, **options: Any) -> Iterator[Tensor]:
        return (frame + torch.zeros(3, 1, 1) for frame in super().restore(clip, size, *more, **options))


def cases(folder: Path) -> Iterator[Case]:
    """What is run: names, models and plans. Files go to a folder."""

    def dove(
        folder: Path, options: DoveOptions | None = None, **loading: Any
    ) -> Callable[[torch.device], Model]:
        return lambda device: load_dove(
            str(folder), device=device, dtype=torch.bfloat16, options=options, **loading
        )

    checkpoint = save_checkpoint(folder / "1.5")
    yield "in tiles", dove(checkpoint), TILES
    yield "planned, without savings", dove(checkpoint, use_lossless_savings=False), None
    yield "VAE in joint tiles", dove(checkpoint, DoveOptions(vae_tiling="joint")), VAE_TILES
    yield "as the reference", dove(checkpoint, DoveOptions.reference()), DiffusionPlan()
    fused = DoveOptions(latent_rule="sample", noise_step=100, tile_fusion="pixel", color_match="mean")
    yield "with noise, pixels fused", dove(checkpoint, fused), TILES
    yield "2B", dove(save_checkpoint(folder / "2b", "2b")), DiffusionPlan()
    yield "with a view", dove(save_with_view(folder / "view", "dove", gate=0.5)), TILES
    for pattern, attention in PATTERNS.items():
        yield pattern, dove(save_nano(folder / pattern, attention=attention)), CHUNKS
    path = save_network("compact", folder / "network.pth")
    yield "per-frame network", lambda device: load_network(path, device=device, dtype="bfloat16"), None
    for name in ("dovetail-nano-2", "bicubic", "lanczos"):
        yield name, lambda device, name=name: load_model(name, device=str(device)), None
    yield CONTROL, lambda device: _Forgetful("bicubic", device=device), None


def main() -> None:
    """Prints the errors of those that failed, by name."""
    warnings.simplefilter("ignore")
    errors: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        made = list(cases(Path(name)))
        _setup_privateuseone_for_python_backend(DEVICE_NAME, _DeviceModule())
        for case, load, plan in made:
            try:
                run(load, plan)
            except Exception as error:
                errors[case] = f"{type(error).__name__}: {str(error)[:300]}"
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
