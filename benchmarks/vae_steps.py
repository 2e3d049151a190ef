"""What each saving in CogVideoX's VAE is worth: the prepared VAE with one left out, beside diffusers' own;
and what larger time batches, channels last and tiles in batches, which are no options, would bring.

Real channel widths, random weights. Seconds are the processor's, of 17 frames of 40x40 pixels in float32 on
one thread (two time batches); peaks are bytes of live tensors at 33 frames of 256x256 (four), counted on the
meta device. All numbers but those of diffusers' own VAE are ratios to it (two tiles at once: to one after the
other); "diffusers again" shows the clock's error.

    python -m benchmarks.vae_steps
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Variant:
    """A VAE to measure.

    Attributes:
        savings: That it has.
        change: What is done to it after.
    """

    savings: Collection[Saving] = SAVINGS
    change: Callable[[Any], None] = lambda vae: None


def use_larger_steps(vae: Any) -> None:
    """Twice as many frames at once through the decoder; its group norms span them, so frames differ."""
    vae.num_latent_frames_batch_size *= 2


def use_channels_last(vae: Any) -> None:
    """Kernels with channels last; activations follow them."""
    for parameter in vae.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)


def use_both(vae: Any) -> None:
    """Both."""
    use_larger_steps(vae)
    use_channels_last(vae)


def make_vae(device: str) -> Any:
    """A VAE of the real widths with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoencoderKLCogVideoX(**VAE).eval().requires_grad_(False)


def prepared(vae: Any, variant: Variant) -> Any:
    """A copy with some savings, which shares the weights unless it lays them out anew."""
    memo = {id(tensor): tensor for tensor in (*vae.parameters(), *vae.buffers())}
    vae = copy.deepcopy(vae, {} if variant.change in (use_channels_last, use_both) else memo)
    prepare_vae(vae, savings=variant.savings)
    variant.change(vae)
    return vae


def seconds(run: Callable[[], None]) -> float:
    """The processor's time for a call; the machine may have other work."""
    start = time.process_time()
    run()
    return time.process_time() - start


def decoding(vae: Any, device: str, num_frames: int, side: int, batch_size: int = 1) -> Callable[[], None]:
    """A call that decodes and drops each batch."""
    latents = torch.randn(batch_size, 16, num_frames // 4 + 1, side // 8, side // 8, device=device)

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


def count_peaks(variant: Variant) -> dict[str, float]:
    """Peaks of both directions in bytes."""
    vae = prepared(make_vae("meta"), variant)
    peaks: dict[str, float] = {}
    for name, direction in DIRECTIONS.items():
        run = direction(vae, "meta", 33, 256)
        with peak_memory(torch.device("meta")) as peak:
            run()
        peaks[f"{name}_peak_bytes"] = peak.num_bytes
    return peaks


def measure_seconds(variants: dict[str, Variant]) -> dict[str, dict[str, float]]:
    """Each variant's best time of rounds in which all have their turn."""
    vae = make_vae("cpu")
    vaes = {name: prepared(vae, variant) for name, variant in variants.items()}
    times: dict[str, dict[str, float]] = {name: {} for name in variants}
    for _ in range(ROUNDS):
        for variant, own in times.items():
            for name, direction in DIRECTIONS.items():
                key = f"{name}_cpu_seconds"
                taken = seconds(direction(vaes[variant], "cpu", 17, 40))
                own[key] = min(taken, own.get(key, taken))
    return times


def measure_two_tiles() -> dict[str, float]:
    """Decoding two tiles at once by decoding them one after the other."""
    vae, counted = (prepared(make_vae(device), Variant()) for device in ("cpu", "meta"))
    taken: dict[int, float] = {}
    for _ in range(ROUNDS):
        for size in (1, 2):
            own = seconds(decoding(vae, "cpu", 17, 40, size)) * 2 / size
            taken[size] = min(own, taken.get(size, own))
    peaks = {}
    for size in (1, 2):
        run = decoding(counted, "meta", 33, 256, size)
        with peak_memory(torch.device("meta")) as peak:
            run()
        peaks[size] = peak.num_bytes
    return {
        "decode_cpu_seconds": round(taken[2] / taken[1], 3),
        "decode_peak_bytes": round(peaks[2] / peaks[1], 3),
    }


@torch.no_grad()
def main() -> None:
    """Measures diffusers' VAE, ours, ours without each saving, and ours changed."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    variants = {"diffusers": Variant(()), "diffusers again": Variant(()), "all": Variant()}
    variants |= {f"without {left}": Variant([name for name in SAVINGS if name != left]) for left in SAVINGS}
    variants |= {
        "all, larger steps": Variant(change=use_larger_steps),
        "all, channels last": Variant(change=use_channels_last),
        "all, larger steps, channels last": Variant(change=use_both),
    }
    measured = measure_seconds(variants)
    for name, variant in variants.items():
        measured[name] |= count_peaks(variant)
    own = measured.pop("diffusers")
    ratios = {
        variant: {name: round(value / own[name], 3) for name, value in values.items()}
        for variant, values in measured.items()
    }
    values = {"diffusers": own, "ratios": ratios, "two tiles at once": measure_two_tiles()}
    write_results("vae_steps", values)


if __name__ == "__main__":
    main()
