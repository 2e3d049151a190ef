"""What longer chunks do to quality: films in chunks of several lengths, beside bicubic interpolation.

Of the first --max-frames frames, both recipes of training; gain in PSNR-Y, warping error and seconds. The
model has to look across frames. Crops of films are enough:

    ffmpeg -i FILM -vf crop=384:256 -frames:v 97 -c:v ffv1 -pix_fmt bgr0 crops/FILM
    python -m benchmarks.chunk_lengths CHECKPOINT crops/davis_bmx_trees.mkv crops/sam2_02_cups.mkv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.results_file import write_results
from cli.compared_models import frames_of
from pipelines.clips import restore_clip
from pipelines.loaders import load_model
from pipelines.model import Model
from training.evaluation import evaluate_clip
from training.evaluation.scoring import Upscale, summarize

# DOVE's own length and overlap, and what is left of it as chunks grow.
LENGTHS = ((9, 2), (17, 5), (33, 9), (49, 9), (73, 9), (0, 0))


def in_chunks(model: Model, chunk: int, overlap: int) -> Upscale:
    """The model with chunks of one length."""

    def upscale(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        plan = model.plan(
            num_frames=len(lq),
            size=(lq.shape[-2], lq.shape[-1]),
            out_size=(height, width),
            tile=0,
            chunk=chunk,
            chunk_overlap=overlap,
        )
        return restore_clip(model, lq, (height, width), plan=plan)

    return upscale


def main() -> None:
    """Scores every length."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--max-frames", type=int, default=97)
    args = parser.parse_args()
    model, bicubic = load_model(args.model, device="cpu", dtype="float32"), load_model("bicubic")
    methods = {"bicubic": frames_of(bicubic)} | {
        f"{chunk or 'all'}/{overlap}": in_chunks(model, chunk, overlap) for chunk, overlap in LENGTHS
    }
    scores = [
        score
        for path in args.clips
        for score in evaluate_clip(path, methods, scale=model.card.scale, max_frames=args.max_frames)
    ]
    frames = {score.clip: score.num_frames for score in scores}
    rows = [
        {
            "recipe": row.recipe,
            "chunk/overlap": row.method,
            "gain": round(row.gain, 4),
            "warping_error": row.warping_error,
            "cpu_seconds": row.cpu_seconds,
        }
        for row in summarize(scores)
    ]
    write_results("chunk_lengths", {"frames": frames, "lengths": rows})


if __name__ == "__main__":
    main()
