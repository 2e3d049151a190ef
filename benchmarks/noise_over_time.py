"""What averaging over time brings to dovetail-nano-2: `python -m benchmarks.noise_over_time DATA`.

DATA is a folder of `dovetail train`. Scored is what configs/nano2.yaml holds out: videos as they move, and
stills as scenes in which nothing does, with the noise and coding of each frame its own. Every clip is
restored with the averaging and without it, and its middle frames are compared with the original. How steady
they are is told beside bicubic interpolation: the warping error of `dovetail evaluate`, which for a scene in
which nothing moves is the difference of its frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import torch

from benchmarks.results_file import write_results
from pipelines.clips import restore_clip
from pipelines.loaders import load_model
from pipelines.model import Model
from pipelines.propagation.interpolation import enlarge
from training.degradation import from_uint8, to_uint8
from training.evaluation import ALL_RECIPES, STILL_SUFFIXES, load_hr, make_lq
from training.evaluation.warping import SourceMotion
from training.restoration.config import RestorationConfig
from training.validation import mean_psnr
from training.yaml_files import read_yaml, validate_config

SCALE = 4
NUM_FRAMES, SCORED = 9, slice(2, 7)
# Of HR frames, from their top left.
SIZE = (320, 448)


@dataclass(frozen=True)
class Row:
    """A clip with a recipe.

    Attributes:
        clip: Name of the file.
        moves: Whether it is a video.
        recipe: What was done to it.
        averaged: PSNR-Y over bicubic interpolation in dB, as the model restores.
        apart: The same without averaging.
        warping_error: As the model restores, in 8-bit levels.
        bicubic_warping_error: That of bicubic interpolation.
        seconds: Processor time of a frame in relation to that without averaging.
    """

    clip: str
    moves: bool
    recipe: str
    averaged: float
    apart: float
    warping_error: float
    bicubic_warping_error: float
    seconds: float


def load_clip(path: Path) -> tuple[torch.Tensor, bool]:
    """`NUM_FRAMES` frames, and whether they move."""
    is_still = path.suffix.lower() in STILL_SUFFIXES
    hr = load_hr(path, scale=SCALE, max_frames=1 if is_still else 40)[..., : SIZE[0], : SIZE[1]]
    if is_still:
        return hr[:1].repeat(NUM_FRAMES, 1, 1, 1), False
    first = max(0, (len(hr) - NUM_FRAMES) // 2)
    return hr[first : first + NUM_FRAMES], True


def measure(model: Model, name: str, hr: torch.Tensor, recipe: str, *, moves: bool) -> Row:
    """Restores a clip both ways."""
    lq = make_lq(hr, recipe, SCALE)
    size = (lq.shape[-2] * SCALE, lq.shape[-1] * SCALE)
    motion = SourceMotion.of(hr[SCORED])
    assert motion is not None
    enlarged = enlarge(lq[None], SCALE)[0][SCORED]
    bicubic = mean_psnr(enlarged, hr[SCORED])

    def restore() -> tuple[torch.Tensor, float]:
        started = time.process_time()
        frames = restore_clip(model, lq, size)[SCORED]
        return frames, time.process_time() - started

    averaged, seconds = restore()
    with patch("pipelines.propagation.model.reduce_noise", _as_they_are):
        apart, without = restore()
    return Row(
        clip=name,
        moves=moves,
        recipe=recipe,
        averaged=mean_psnr(averaged, hr[SCORED]) - bicubic,
        apart=mean_psnr(apart, hr[SCORED]) - bicubic,
        warping_error=motion.error(from_uint8(to_uint8(averaged))),
        bicubic_warping_error=motion.error(from_uint8(to_uint8(enlarged.clamp(0, 1)))),
        seconds=seconds / without,
    )


def _as_they_are(
    frames_at: Callable[[int], torch.Tensor], flow: torch.Tensor, noise: torch.Tensor
) -> list[torch.Tensor]:
    del noise
    return [frames_at(index) for index in range(flow.shape[1] + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="dovetail-nano-2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config_path = Path("configs/nano2.yaml")
    config = validate_config(RestorationConfig, read_yaml(config_path), config_path).data
    model = load_model(arguments.model, device="cpu", dtype="float32")
    rows = []
    for path in sorted(arguments.data.glob("*/*")):
        if path.stem not in config.held_out:
            continue
        hr, moves = load_clip(path)
        for recipe in ALL_RECIPES:
            rows.append(measure(model, path.stem, hr, recipe, moves=moves))
            print(rows[-1], flush=True)
    means = [
        {"recipe": recipe, "moves": moves}
        | {
            key: fmean(getattr(row, key) for row in rows if (row.recipe, row.moves) == (recipe, moves))
            for key in ("averaged", "apart", "warping_error", "bicubic_warping_error", "seconds")
        }
        | {"worst_change": min(r.averaged - r.apart for r in rows if (r.recipe, r.moves) == (recipe, moves))}
        for recipe in ALL_RECIPES
        for moves in (False, True)
    ]
    for mean in means:
        print(mean)
    write_results("noise_over_time", {"means": means, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
