"""What group norms over the frame's patches, in place of each tile's own, do to a VAE's tiles.

    python -m benchmarks.shared_norms TRAINING_DATA [--steps 1500]

A small AutoencoderKLCogVideoX (16 to 64 channels; the real one's layers) is trained on crops of the pictures,
since statistics of random weights say little. Held-out pictures are then encoded and decoded whole, in tiles
with their own statistics, and in tiles that share those of patches. Tiles are compared to the whole picture
through the same weights.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from PIL import Image

from benchmarks.results_file import write_results
from pipelines.codecs.cogvideox_vae import decode_batches, encode_moments, prepare_vae
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.seams import seam_ratio, tile_tones, tone_drift
from training.config import DataConfig
from training.data import SourceLibrary
from training.degradation import from_uint8

LATENT_CHANNELS = 16
RATIO = 8
CROP, BATCH = 96, 4
SIZE = 512, 768
OVERLAP = 64
TILE = 192
HELD_OUT = ("bb_kitten-on-lawn", "bb_roman-colosseum", "el_william-bout-lighthouse", "oc_164041")


def make_vae() -> Any:
    """A small VAE of CogVideoX's kind."""
    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        block_out_channels=(16, 32, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
    )


def train(vae: Any, data_dir: Path, *, steps: int, rate: float = 2e-3) -> float:
    """Trains a VAE as an autoencoder; the mean error of the last steps, code values."""
    library = SourceLibrary(
        data_dir, DataConfig(hr_size=CROP, num_frames=1, held_out=HELD_OUT, videos="none")
    )
    rng, optimizer = np.random.default_rng(0), torch.optim.Adam(vae.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    errors = []
    for _ in range(steps):
        crops = torch.stack([library.sample(rng, 1) for _ in range(BATCH)]).transpose(1, 2) * 2 - 1
        moments = vae.encoder(crops)[0]
        loss = F.l1_loss(vae.decoder(moments[:, :LATENT_CHANNELS])[0], crops)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(float(loss.detach()) * 127.5)
    return float(np.mean(errors[-50:]))


def read_picture(path: Path) -> torch.Tensor:
    """The middle of a picture, (1, 3, 1, H, W) in [-1, 1]."""
    picture = np.array(Image.open(path).convert("RGB"))
    y, x = ((side - kept) // 2 for side, kept in zip(picture.shape[:2], SIZE, strict=True))
    middle = picture[None, y : y + SIZE[0], x : x + SIZE[1]]
    return from_uint8(middle).transpose(0, 1)[None] * 2 - 1


def psnr(frames: torch.Tensor, sample: torch.Tensor) -> float:
    """Of all channels, [-1, 1], dB."""
    return float(-10 * torch.log10(((frames - sample) / 2).square().mean()))


@torch.no_grad()
def score(vae: Any, sample: torch.Tensor, tile: int) -> dict[str, dict[str, float]]:
    """Both kinds of tiles beside the whole picture through the same weights."""
    plan = DiffusionPlan(vae_tile_height=tile, vae_tile_width=tile, vae_overlap=OVERLAP)
    grid = plan.vae_grid(sample.shape[-2], sample.shape[-1], multiple=RATIO)
    assert grid is not None
    moments = encode_moments(vae, sample)
    latents = moments[:, :LATENT_CHANNELS]
    whole = next(decode_batches(vae, latents))
    rows, cols = (
        [(one.stop + two.start) // 2 for one, two in pairwise(axis)] for axis in (grid.rows, grid.cols)
    )
    everywhere = torch.ones(sample.shape[-2:], dtype=torch.bool)
    scores = {}
    for name, shares in (("own", False), ("shared", True)):
        start = time.process_time()
        decoded = next(decode_batches(vae, latents, grid.scaled(1, RATIO), shares_statistics=shares))
        seconds = time.process_time() - start
        encoded = encode_moments(vae, sample, grid, shares_statistics=shares)[:, :LATENT_CHANNELS]
        levels, whole_levels = ((frames[0, :, 0] + 1) / 2 for frames in (decoded, whole))
        scores[name] = {
            "decoder_error": float((decoded - whole).abs().mean()) * 127.5,
            "decoder_tone_drift": tone_drift(tile_tones(levels, whole_levels, grid, everywhere)),
            "decoder_seam_ratio": seam_ratio(levels, whole_levels, rows=rows, cols=cols),
            "encoder_error": float((encoded - latents).abs().mean() / latents.std()),
            "psnr_to_source": psnr(decoded, sample),
            "decoder_seconds": seconds,
        }
    scores["whole"] = {"psnr_to_source": psnr(whole, sample)}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    wanted = parser.parse_args()
    vae, start = make_vae(), time.process_time()
    error = train(vae, wanted.data_dir, steps=wanted.steps)
    seconds = time.process_time() - start
    vae.eval().requires_grad_(False)
    prepare_vae(vae)
    pictures = {
        path.stem: read_picture(path)
        for path in sorted((wanted.data_dir / DataConfig().images).glob("*"))
        if path.stem in HELD_OUT
    }
    scores = {name: score(vae, sample, TILE) for name, sample in pictures.items()}
    write_results(
        "shared_norms",
        {
            "size": SIZE,
            "tile": TILE,
            "overlap": OVERLAP,
            "training": {"steps": wanted.steps, "processor_seconds": seconds, "error": error},
            "scores": scores,
        },
    )


if __name__ == "__main__":
    main()
