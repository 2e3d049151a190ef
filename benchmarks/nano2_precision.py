"""What less precise numbers do to dovetail-nano-2: `python -m benchmarks.nano2_precision DATA`.

DATA is a folder of `dovetail train`. Scored are the videos that configs/nano2.yaml holds out, all variants in
one run on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.results_file import write_results
from pipelines.clips import restore_clip
from pipelines.dove.description import EMBEDDED_FOLDER
from pipelines.model import ModelCard
from pipelines.propagation.checkpoint import load_propagation
from pipelines.propagation.model import PropagationModel
from pipelines.propagation.network import PropagationNet
from pipelines.propagation.quantized import quantize_body
from training.evaluation import load_hr, make_lq
from training.metrics import psnr_y
from training.restoration.config import RestorationConfig
from training.yaml_files import read_yaml, validate_config

SCALE = 4
RECIPES = ("bicubic", "real")
NUM_FRAMES = 3
# Of HR frames, from their middle.
SIZE = (384, 640)


def as_model(network: PropagationNet, dtype: str = "float32") -> PropagationModel:
    card = ModelCard(name="dovetail-nano-2", kind="propagation", scale=SCALE)
    device = torch.device("cpu")
    return PropagationModel(network, card, device=device, dtype=getattr(torch, dtype))


def in_8_bits(folder: Path) -> PropagationNet:
    """The network as the model has it with `int8`."""
    network, description = load_propagation(folder)
    quantize_body(network, description.activation_ranges)
    return network


def load_middle(path: Path) -> torch.Tensor:
    """The middle of a clip's first frames."""
    hr = load_hr(path, scale=SCALE, max_frames=NUM_FRAMES)
    y, x = (max(side - kept, 0) // 2 for side, kept in zip(hr.shape[-2:], SIZE, strict=True))
    return hr[..., y : y + SIZE[0], x : x + SIZE[1]]


def measure(
    models: Mapping[str, PropagationModel], clips: Mapping[str, torch.Tensor]
) -> list[dict[str, object]]:
    """PSNR-Y of every variant on every clip, and its processor seconds for each frame."""
    rows: list[dict[str, object]] = []
    for clip, hr in clips.items():
        for recipe in RECIPES:
            lq = make_lq(hr, recipe, SCALE)
            for name, model in models.items():
                started = time.process_time()
                sr = restore_clip(model, lq, (hr.shape[-2], hr.shape[-1]))
                seconds = (time.process_time() - started) / len(sr)
                score = fmean(psnr_y(sr[i : i + 1], hr[i : i + 1]).item() for i in range(len(sr)))
                rows.append(
                    {"clip": clip, "recipe": recipe, "dtype": name, "psnr_y": score, "cpu_seconds": seconds}
                )
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = Path("configs/nano2.yaml")
    config = validate_config(RestorationConfig, read_yaml(path), path).data
    videos = sorted((arguments.data / config.videos).glob("*"))
    folder = EMBEDDED_FOLDER / "dovetail-nano-2"
    models = {
        name: as_model(load_propagation(folder, dtype=getattr(torch, name))[0], name)
        for name in ("float32", "bfloat16", "float16")
    }
    models["int8"] = as_model(in_8_bits(folder))
    rows = measure(models, {path.stem: load_middle(path) for path in videos if path.stem in config.held_out})
    means = [
        {"recipe": recipe, "dtype": name}
        | {
            key: fmean(
                float(str(row[key])) for row in rows if (row["recipe"], row["dtype"]) == (recipe, name)
            )
            for key in ("psnr_y", "cpu_seconds")
        }
        for recipe in RECIPES
        for name in models
    ]
    write_results("nano2_precision", {"means": means, "rows": rows})


if __name__ == "__main__":
    main()
