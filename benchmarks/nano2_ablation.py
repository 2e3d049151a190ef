"""What each part of dovetail-nano-2 is worth: the same steps without it, from nothing.

    python -m benchmarks.nano2_ablation DATA RUNS [--steps 600] [--variants base L1 ...]

Every variant sees the samples of configs/nano2.yaml at x4, in turn as single frames and as clips of three, at
a rate that falls to zero. Scores are means over the held-out clips in dB over bicubic interpolation; seconds
are of the network alone, three frames to 640x360, one thread. RUNS keeps what is done: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.results_file import write_results
from pipelines.propagation import PropagationConfig, PropagationNet
from training.restoration.config import RestorationConfig
from training.restoration.trainer import RestorationTrainer
from training.yaml_files import read_yaml

_CONFIG = Path(__file__).parents[1] / "configs/nano2.yaml"
_STAGE = {
    "learning_rate": 1e-3, "batch_frames": 6, "num_frames": [1, 3], "body_size": 48, "border": 0,
    "scales": {4: 1.0}, "loss": "psnr", "level_weight": 0.2,
}  # fmt: skip
_PATCH, _WIDTH, _HEADS, _WINDOW = 4, 96, 4, 8
_TIMED_CLIP = (1, 3, 3, 90, 160)


class WindowTransformer(nn.Module):
    """Two transformer layers on patches of the features of every frame, within windows of 8x8 patches.

    More than a transformer on key frames could do: what this does not bring, that would not.

    Args:
        channels: Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, _WIDTH, _PATCH, stride=_PATCH)
        self.place = nn.Parameter(0.02 * torch.randn(1, _WINDOW**2, _WIDTH))
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.render = nn.ConvTranspose2d(_WIDTH, channels, _PATCH, stride=_PATCH, bias=False)
        nn.init.zeros_(self.render.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        height, width = x.shape[-2:]
        side = _PATCH * _WINDOW
        padded = nn.functional.pad(x, (0, -width % side, 0, -height % side), mode="replicate")
        tokens = self.embed(padded)
        rows, cols = (length // _WINDOW for length in tokens.shape[-2:])
        windows = tokens.unflatten(3, (cols, _WINDOW)).unflatten(2, (rows, _WINDOW))
        windows = windows.permute(0, 2, 4, 3, 5, 1).flatten(0, 2).flatten(1, 2)
        windows = self.layers(windows + self.place)
        tokens = windows.unflatten(1, (_WINDOW, _WINDOW)).unflatten(0, (len(x), rows, cols))
        tokens = tokens.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        added: torch.Tensor = self.render(tokens)[..., :height, :width]
        return x + added


def with_transformer(config: PropagationConfig) -> PropagationNet:
    """The network with a transformer behind its first blocks."""
    network = PropagationNet(config)
    network.feature_blocks.append(WindowTransformer(config.channels))
    return network


def without_conditioning(config: PropagationConfig) -> PropagationNet:
    """The network whose body is never told what was estimated: scale 1 and shift 0, as at the start."""
    network = PropagationNet(config)
    network.modulation.requires_grad_(False)
    return network


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        network: What is other than in the configuration.
        stage: What is other than in the stage.
        make_network: Makes it.
    """

    network: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    make_network: Callable[[PropagationConfig], PropagationNet] = PropagationNet


VARIANTS = {
    "base": Variant(),
    "no propagation": Variant(stage={"num_frames": [1]}),
    "no conditioning": Variant(make_network=without_conditioning),
    "L1": Variant(stage={"loss": "l1", "level_weight": 0.02}),
    "32 channels": Variant(network={"channels": 32}),
    "64 channels": Variant(network={"channels": 64}),
    "transformer": Variant(make_network=with_transformer),
}


def config_of(variant: Variant, steps: int) -> RestorationConfig:
    """The configuration of one run."""
    content = read_yaml(_CONFIG)
    assert isinstance(content, dict)
    return RestorationConfig.model_validate(
        content
        | {
            "network": content["network"] | {"scales": [4]} | variant.network,
            "stages": [_STAGE | {"steps": steps} | variant.stage],
            "validation": content["validation"] | {"every": steps},
        }
    )


def train(variant: Variant, *, steps: int, data: Path, run: Path) -> dict[str, Any]:
    """One run's scores."""
    trainer = RestorationTrainer(
        config_of(variant, steps), data_dir=data, run_dir=run, make_network=variant.make_network
    )
    trainer.prepare(decay_steps=steps)
    network = trainer.run().eval()
    (scored,) = (json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines())
    rates = [json.loads(line)["seconds_per_step"] for line in (run / "log.jsonl").read_text().splitlines()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = _seconds_of(network)
    torch.set_num_threads(threads)
    return {
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "means": scored["means"],
        "seconds_per_step": sorted(rates)[len(rates) // 2],
        "processor_seconds_per_frame": seconds,
    }


@torch.inference_mode()
def _seconds_of(network: PropagationNet) -> float:
    clip = torch.rand(_TIMED_CLIP)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        network(clip, scale=4)
        seconds.append((time.process_time() - start) / _TIMED_CLIP[1])
    return min(seconds)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    wanted = parser.parse_args()
    scores = {}
    for name in wanted.variants:
        run = wanted.runs / name.replace(" ", "-")
        done = run / "scores.json"
        if not done.exists():
            made = train(VARIANTS[name], steps=wanted.steps, data=wanted.data, run=run)
            done.write_text(json.dumps(made))
        scores[name] = json.loads(done.read_text())
        print(name, scores[name], flush=True)
    write_results("nano2_ablation", {"steps": wanted.steps, "variants": scores})


if __name__ == "__main__":
    main()
