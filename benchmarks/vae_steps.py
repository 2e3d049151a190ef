"""What each saving in CogVideoX's VAE is worth: the prepared VAE with one left out, beside diffusers' own.

Real channel widths, random weights. Seconds are the processor's, of 9 frames of 40x40 pixels in float32 on
one thread; peaks are bytes of live tensors at 25 frames of 256x256 (three time batches), counted on the meta
device. All numbers but those of diffusers' own VAE are ratios to it; "diffusers again" shows the clock's
error.

    python -m benchmarks.vae_steps
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Collection
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX

from benchmarks.results_file import write_results
from pipelines.codecs.cogvideox_vae import SAVINGS, Saving, decode_batches, encode_moments, prepare_vae
from pipelines.memory_tracking import peak_memory

VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (128, 256, 256, 512),
    "layers_per_block": 3,
}
ROUNDS = 2


def make_vae(device: str) -> Any:
    """A VAE of the real widths with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoencoderKLCogVideoX(**VAE).eval().requires_grad_(False)


def prepared(vae: Any, savings: Collection[Saving]) -> Any:
    """A copy with some savings, which shares the weights."""
    vae = copy.deepcopy(vae, {id(tensor): tensor for tensor in (*vae.parameters(), *vae.buffers())})
    prepare_vae(vae, savings=savings)
    return vae


def seconds(run: Callable[[], None]) -> float:
    """The processor's time for a call; the machine may have other work."""
    start = time.process_time()
    run()
    return time.process_time() - start


def decoding(vae: Any, device: str, num_frames: int, side: int) -> Callable[[], None]:
    """A call that decodes and drops each batch."""
    latents = torch.randn(1, 16, num_frames // 4 + 1, side // 8, side // 8, device=device)

    def run() -> None:
        for batch in decode_batches(vae, latents):
            del batch

    return run


def encoding(vae: Any, device: str, num_frames: int, side: int) -> Callable[[], None]:
    """A call that encodes."""
    sample = torch.rand(1, 3, num_frames, side, side, device=device) * 2 - 1

    def run() -> None:
        encode_moments(vae, sample)

    return run


DIRECTIONS = {"decode": decoding, "encode": encoding}


def count_peaks(savings: Collection[Saving]) -> dict[str, float]:
    """Peaks of both directions in bytes."""
    vae = prepared(make_vae("meta"), savings)
    peaks: dict[str, float] = {}
    for name, direction in DIRECTIONS.items():
        run = direction(vae, "meta", 25, 256)
        with peak_memory(torch.device("meta")) as peak:
            run()
        peaks[f"{name}_peak_bytes"] = peak.num_bytes
    return peaks


def measure_seconds(variants: dict[str, Collection[Saving]]) -> dict[str, dict[str, float]]:
    """Each variant's best time of rounds in which all have their turn."""
    vae = make_vae("cpu")
    vaes = {variant: prepared(vae, savings) for variant, savings in variants.items()}
    times: dict[str, dict[str, float]] = {variant: {} for variant in variants}
    for _ in range(ROUNDS):
        for variant, own in times.items():
            for name, direction in DIRECTIONS.items():
                key = f"{name}_cpu_seconds"
                taken = seconds(direction(vaes[variant], "cpu", 9, 40))
                own[key] = min(taken, own.get(key, taken))
    return times


@torch.no_grad()
def main() -> None:
    """Measures diffusers' VAE, ours, and ours without each saving."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    variants: dict[str, Collection[Saving]] = {"diffusers": (), "diffusers again": (), "all": SAVINGS}
    variants |= {f"without {left}": [name for name in SAVINGS if name != left] for left in SAVINGS}
    measured = measure_seconds(variants)
    for variant, savings in variants.items():
        measured[variant] |= count_peaks(savings)
    own = measured.pop("diffusers")
    ratios = {
        variant: {name: round(value / own[name], 3) for name, value in values.items()}
        for variant, values in measured.items()
    }
    write_results("vae_steps", {"diffusers": own, "ratios": ratios})


if __name__ == "__main__":
    main()
