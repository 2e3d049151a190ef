"""Small random networks of several architectures, made from spandrel's own classes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from pipelines.per_frame.importing import import_spandrel


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Attributes:
        module: Of `spandrel.architectures`.
        name: Of the class in it.
        scale: Of the network.
        is_local: Whether an output pixel depends on fewer than 64 pixels around it.
        arguments: Of the class.
    """

    module: str
    name: str
    scale: int
    is_local: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self, seed: int = 0) -> nn.Module:
        """A network with random weights that spandrel knows again."""
        import_spandrel()
        module = importlib.import_module(f"spandrel.architectures.{self.module}")
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of older code in newer versions of torch
            torch.manual_seed(seed)
            network: nn.Module = getattr(module, self.name)(**self.arguments)
        return network.eval()


def _swin(**more: Any) -> dict[str, Any]:
    return {"embed_dim": 16, "num_heads": [2], "upscale": 2, **more}


RECIPES = {
    "compact": Recipe("Compact", "Compact", 4, True, {"num_feat": 8, "num_conv": 3, "upscale": 4}),
    "span": Recipe(
        "SPAN",
        "SPAN",
        2,
        True,
        {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2, "norm": False},
    ),
    "esrgan": Recipe("ESRGAN", "ESRGAN", 4, True, {"num_filters": 8, "num_blocks": 1}),
    "swinir": Recipe(
        "SwinIR",
        "SwinIR",
        2,
        True,
        _swin(depths=[2], window_size=8, upsampler="pixelshuffledirect", mlp_ratio=2.0),
    ),
    "dat": Recipe("DAT", "DAT", 2, False, _swin(depth=[2], split_size=[4, 8], expansion_factor=2.0)),
    "rgt": Recipe("RGT", "RGT", 2, False, _swin(depth=[2], mlp_ratio=2.0, split_size=[8, 8])),
    "drct": Recipe(
        "DRCT",
        "DRCT",
        2,
        True,
        _swin(depths=[2], window_size=8, gc=4, upsampler="pixelshuffle"),
    ),
    "omnisr": Recipe("OmniSR", "OmniSR", 2, False, {"num_feat": 8, "up_scale": 2}),
    "hat": Recipe("HAT", "HAT", 2, False, _swin(depths=[2], window_size=8, squeeze_factor=3)),
    "rcan": Recipe("RCAN", "RCAN", 2, False, {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16}),
    "restorer": Recipe("ESRGAN", "ESRGAN", 1, True, {"num_filters": 8, "num_blocks": 1, "scale": 1}),
}


def save_network(name: str, path: Path, seed: int = 0) -> Path:
    """Writes the state dict of a recipe, as its suffix says."""
    state = {key: value.contiguous() for key, value in RECIPES[name].make(seed).state_dict().items()}
    if path.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path
