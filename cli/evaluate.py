"""`dovetail evaluate`: a checkpoint against interpolation, on clips with ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import upscale_options as options
from cli.errors import UsageError, reported_errors
from cli.store_folder import store_folder

if TYPE_CHECKING:
    import torch

    from pipelines.model import Model
    from training.evaluation import Score, Upscale


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with lossless clips and stills.")],
    model: options.ModelName = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_frames: Annotated[int, typer.Option(min=1, help="Frames of each clip that are scored.")] = 25,
    recipe: Annotated[
        list[str] | None, typer.Option(help="bicubic or real; may be given twice. Default: both.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for side-by-side pictures.")] = None,
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Score a checkpoint on degraded clips against bicubic and Lanczos interpolation.

    Every clip is degraded by bicubic x4 and by a fixed real-world recipe (blur, noise, JPEG, x264); PSNR-Y,
    SSIM, HaarPSI and GMSD are means over frames, then over clips.
    """
    with reported_errors(as_json=use_json):
        from dataclasses import asdict

        from pipelines.interpolation import METHODS
        from pipelines.loaders import load_model
        from training.evaluation import RECIPES, evaluate_clip, format_table, list_clips, mean_scores

        recipes = tuple(recipe or RECIPES)
        unknown = set(recipes) - set(RECIPES)
        if unknown:
            raise UsageError(f"unknown recipe {sorted(unknown)[0]!r}; there are {', '.join(RECIPES)}")
        loaded = load_model(model, device=device, dtype=dtype, models_dir=store_folder())
        baselines = [load_model(name) for name in METHODS]
        methods = {entry.name: frames_of(entry) for entry in (*baselines, loaded)}
        scores: list[Score] = []
        for path in list_clips(folder):
            typer.echo(f"scoring {path.name}", err=True)
            scores += evaluate_clip(
                path,
                methods,
                scale=loaded.card.scale,
                max_frames=max_frames,
                recipes=recipes,
                pictures=pictures,
            )
        if use_json:
            means = [
                {"recipe": recipe, "method": method, "values": values}
                for (recipe, method), values in mean_scores(scores).items()
            ]
            typer.echo(json.dumps({"clips": [asdict(s) for s in scores], "means": means}, indent=2))
        else:
            typer.echo(format_table(scores))


def frames_of(model: Model) -> Upscale:
    """A model as a function from LQ frames to frames of the target size."""
    from pipelines.clips import restore_clip

    def upscale(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return restore_clip(model, lq, (height, width))

    return upscale
