"""`dovetail evaluate`: models against interpolation, on clips with ground truth."""

from __future__ import annotations

import json
from functools import partial
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
    pictures: Annotated[Path | None, typer.Option(help="Folder for side-by-side pictures.")] = None,
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """Score models on degraded clips against bicubic and Lanczos interpolation.

    Every clip is degraded by fixed recipes. PSNR-Y, SSIM, HaarPSI, GMSD, flow warping error and seconds are
    means over frames, then over clips; the clip with the least gain in PSNR-Y is named. docs/evaluation.md
    tells how it is measured.
    """
    with reported_errors(as_json=use_json):
        from pipelines.interpolation import METHODS
        from pipelines.loaders import load_model
        from training.evaluation import evaluate_clip, format_report, list_clips, report_json

        chosen = choose_recipes(recipes)
        load = partial(load_model, device=device, dtype=dtype, models_dir=store_folder())
        models = [load(name) for name in model or (None,)]
        scale = common_scale(models)
        entries = {entry.name: entry for entry in (*map(load_model, METHODS), *models)}
        methods = make_methods(list(entries.values()), use_one_frame=use_one_frame)
        scores: list[Score] = []
        for path in list_clips(folder):
            typer.echo(f"scoring {path.name}", err=True)
            scores += evaluate_clip(
                path, methods, scale=scale, max_frames=max_frames, recipes=chosen, pictures=pictures
            )
        if use_json:
            head = {
                "models": [{"name": entry.name, **entry.identity()} for entry in models],
                "scale": scale,
                "max_frames": max_frames,
            }
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


def common_scale(models: list[Model]) -> int:
    """The factor of models that get the same input; interpolation takes that of the others.

    Raises:
        UsageError: If they have different ones.
    """
    networks = [model for model in models if model.card.kind != "interpolation"]
    scales = {model.name: model.card.scale for model in networks or models}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{name} x{scale}" for name, scale in scales.items())
        raise UsageError(f"models of one factor can be compared, these have several: {listed}")
    return next(iter(scales.values()))


def make_methods(models: list[Model], *, use_one_frame: bool) -> dict[str, Upscale]:
    """What is scored, by name; kinds that look at one frame anyway are not scored twice."""
    methods: dict[str, Upscale] = {}
    for model in models:
        methods[model.name] = frames_of(model)
        if use_one_frame and model.card.kind not in ("interpolation", "per_frame"):
            methods[f"{model.name}, one frame"] = one_frame(methods[model.name])
    return methods


def frames_of(model: Model) -> Upscale:
    """A model as a function from LQ frames to frames of the target size."""
    from pipelines.clips import restore_clip

    def upscale(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return restore_clip(model, lq, (height, width))

    return upscale


def one_frame(upscale: Upscale) -> Upscale:
    """Gives every frame alone: what is lost is what neighbours bring."""

    def upscale_alone(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        import torch

        return torch.cat([upscale(frame[None], height, width) for frame in lq])

    return upscale_alone
