"""`dovetail evaluate`: models against interpolation, on clips with ground truth."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import upscale_options as options
from cli.compared_models import Comparison, describe, mapping, score_clip
from cli.errors import UsageError, reported_errors
from cli.store_folder import store_folder

if TYPE_CHECKING:
    from training.evaluation import Score


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with lossless clips and stills.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="As for upscale; may be given several times. Default: the embedded model.",
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_frames: Annotated[int, typer.Option(min=1, help="Frames of each clip that are scored.")] = 25,
    recipes: Annotated[
        list[str] | None,
        typer.Option(
            help="bicubic, real, phone, tape, animation or all; may be given several times. Default: bicubic "
            "and real."
        ),
    ] = None,
    use_one_frame: Annotated[
        bool,
        typer.Option(
            "--one-frame",
            help="Score models that look at neighbouring frames with every frame given alone too.",
        ),
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Clips scored at once; each process loads the models.")
    ] = 1,
    pictures: Annotated[Path | None, typer.Option(help="Folder for side-by-side pictures.")] = None,
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """Score models on degraded clips against bicubic and Lanczos interpolation.

    Every clip is degraded by fixed recipes. PSNR-Y, SSIM, HaarPSI, GMSD, flow warping error and seconds are
    means over frames, then over clips; the clip with the least gain in PSNR-Y is named. docs/evaluation.md
    tells how it is measured.
    """
    with reported_errors(as_json=use_json):
        from training.evaluation import format_report, list_clips, report_json

        comparison = Comparison(
            names=tuple(model or (None,)),
            models_dir=store_folder(),
            device=device,
            dtype=dtype,
            recipes=choose_recipes(recipes),
            max_frames=max_frames,
            use_one_frame=use_one_frame,
            pictures=pictures,
        )
        paths = list_clips(folder)
        scores: list[Score] = []
        with mapping(min(processes, len(paths))) as apply:
            (head,) = apply(describe, [comparison])
            for path, found in zip(paths, apply(partial(score_clip, comparison), paths), strict=True):
                typer.echo(f"scored {path.name}", err=True)
                scores += found
        if use_json:
            typer.echo(json.dumps(head | report_json(scores), indent=2))
        else:
            typer.echo(format_report(scores))


def choose_recipes(names: list[str] | None) -> tuple[str, ...]:
    """The recipes that were asked for, in their usual order.

    Raises:
        UsageError: If there is none of a name.
    """
    from training.evaluation import ALL_RECIPES, RECIPES

    known = (*ALL_RECIPES, "all")
    for name in names or ():
        if name not in known:
            raise UsageError(f"unknown recipe {name!r}; there are {', '.join(known)}")
    if not names:
        return RECIPES
    return ALL_RECIPES if "all" in names else tuple(name for name in ALL_RECIPES if name in names)
