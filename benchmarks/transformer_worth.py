"""What the transformer of a small checkpoint brings: the same weights with it, and the decoder without it.

Without it the decoder gets latents as they come in: what the transformer is worth to this decoder, which
learnt beside it. A decoder that learns alone does more.

    python -m benchmarks.transformer_worth ../shared/clips/benchmark
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.attention_quality import without_transformer
from benchmarks.results_file import write_results
from cli.compared_models import frames_of
from pipelines.dove.description import EMBEDDED_FOLDER
from pipelines.loaders import load_model
from training.config import load_config
from training.evaluation import Upscale, evaluate_clip, list_clips, summarize


def main() -> None:
    """Scores both and interpolation on every clip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder of lossless clips and stills")
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED_FOLDER / "dovetail-dit-nano")
    parser.add_argument("--config", type=Path, default=Path("configs/dit-nano.yaml"))
    parser.add_argument("--max-frames", type=int, default=5)
    args = parser.parse_args()
    model = load_model(str(args.checkpoint), device="cpu", dtype="float32")
    methods: dict[str, Upscale] = {
        "bicubic": frames_of(load_model("bicubic")),
        "with": frames_of(model),
        "without": without_transformer(load_config(args.config), args.checkpoint),
    }
    scores = [
        score
        for path in list_clips(args.clips)
        for score in evaluate_clip(path, methods, scale=model.card.scale, max_frames=args.max_frames)
    ]
    write_results("transformer_worth", {"summaries": [asdict(row) for row in summarize(scores)]})


if __name__ == "__main__":
    main()
